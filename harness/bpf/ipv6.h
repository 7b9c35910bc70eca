/* SPDX-License-Identifier: Apache-2.0 */
/* Headers and addresses of IPv6 (RFC 8200). */
#pragma once

#include <linux/if_ether.h>
#include <linux/ipv6.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

typedef struct {
	__be32 words[4];
} address_t;
typedef struct ipv6hdr header_t;

enum { IP_BYTES = sizeof(header_t), FAMILY = 10 /* AF_INET6 */, ETHERTYPE = ETH_P_IPV6 };

static __always_inline bool equal(const address_t *a, const address_t *b)
{
	return !((a->words[0] ^ b->words[0]) | (a->words[1] ^ b->words[1]) |
		 (a->words[2] ^ b->words[2]) | (a->words[3] ^ b->words[3]));
}

#define REST_PRINTED "%pi6%pi6%pi6%pi6%pi6"

static __always_inline address_t address_of(const struct in6_addr *address)
{
	address_t copy;

	__builtin_memcpy(&copy, address, sizeof(copy));
	return copy;
}

static __always_inline address_t source_of(const header_t *ip)
{
	return address_of(&ip->saddr);
}

static __always_inline address_t destination_of(const header_t *ip)
{
	return address_of(&ip->daddr);
}

/* The protocol of what follows the header: of an extension header, if there is one, which nobody here sends. */
static __always_inline __u8 protocol_of(const header_t *ip)
{
	return ip->nexthdr;
}

/* The traffic class, where a followed connection has its mark. */
static __always_inline __u8 mark_of(const header_t *ip)
{
	return ip->priority << 4 | ip->flow_lbl[0] >> 4;
}

/* Bytes of what follows the header of a packet of `ip_bytes`; one of more than 64 KiB says 0 (RFC 2675). */
static __always_inline __u32 bytes_behind(const header_t *ip, __u32 ip_bytes)
{
	return ip->payload_len ? bpf_ntohs(ip->payload_len) : ip_bytes - sizeof(*ip);
}
