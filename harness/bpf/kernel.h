/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fields of the kernel's own structures that the programs read. The loader finds where each of
 * them is in the running kernel (CO-RE relocation by its BTF): order and gaps mean nothing here.
 */
#pragma once

#include <linux/in6.h>

#define RELOCATED __attribute__((preserve_access_index))

struct ns_common {
	unsigned int inum;
} RELOCATED;

struct net {
	struct ns_common ns;
} RELOCATED;

typedef struct {
	struct net *net;
} RELOCATED possible_net_t;

struct net_device {
	possible_net_t nd_net;
} RELOCATED;

struct sk_buff {
	struct net_device *dev;
	unsigned int len;
	unsigned int tail;
	unsigned char *head;
	__u16 network_header;
} RELOCATED;

struct nf_hook_state {
	struct net *net;
} RELOCATED;

struct bpf_nf_ctx {
	const struct nf_hook_state *state;
	struct sk_buff *skb;
} RELOCATED;

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	possible_net_t skc_net;
} RELOCATED;

struct sock {
	struct sock_common __sk_common;
	__u16 sk_protocol;
} RELOCATED;

struct ipv6_pinfo {
	__u8 tclass;
} RELOCATED;

struct inet_sock {
	struct ipv6_pinfo *pinet6;
	__u8 tos;
} RELOCATED;

struct tcp_sock {
	__u32 copied_seq;
	__u32 rcv_nxt;
} RELOCATED;
