/* SPDX-License-Identifier: Apache-2.0 */
/* Headers and addresses of IPv4 (RFC 791). What has an ipv6.h in its place is the same for IPv6. */
#pragma once

#include <linux/if_ether.h>
#include <linux/ip.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

typedef __be32 address_t;
typedef struct iphdr header_t;

enum { IP_BYTES = sizeof(header_t), FAMILY = 2 /* AF_INET */, ETHERTYPE = ETH_P_IP };

/* A format for each sixteen bytes of a header and of TCP's with options: hooks-interpreted.h. */
#define REST_PRINTED "%pi6%pi6%pi6%pi6"

static __always_inline address_t source_of(const header_t *ip)
{
	return ip->saddr;
}

static __always_inline address_t destination_of(const header_t *ip)
{
	return ip->daddr;
}

/* The protocol of what follows the header; none, 0, where options do, which nobody here sends. */
static __always_inline __u8 protocol_of(const header_t *ip)
{
	return ip->ihl == 5 ? ip->protocol : 0;
}

/* Where a followed connection has its mark. */
static __always_inline __u8 mark_of(const header_t *ip)
{
	return ip->tos;
}

/* Bytes of what follows the header of a packet of `ip_bytes`; one of more than 64 KiB has no room for its
 * length and says 0. */
static __always_inline __u32 bytes_behind(const header_t *ip, __u32 ip_bytes)
{
	return (ip->tot_len ? bpf_ntohs(ip->tot_len) : ip_bytes) - sizeof(*ip);
}

static __always_inline bool equal(const address_t *a, const address_t *b)
{
	return *a == *b;
}
