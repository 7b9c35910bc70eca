/* SPDX-License-Identifier: Apache-2.0 */
/* The probes at netfilter's hooks. Whoever includes it has defined headers(), which writes an event
 * if a packet is one of a followed connection. */
#pragma once

static __always_inline int passes_hook(struct bpf_nf_ctx *ctx, __u8 place)
{
	struct sk_buff *skb = ctx->skb;

	/* Headers that are not in the packet's first piece are not looked for. */
	if (skb->tail - skb->network_header >= HEADERS)
		headers(place, ctx);
	return 1; /* NF_ACCEPT */
}

#define HOOK(name, place)                      \
	SEC("netfilter")                       \
	int name(struct bpf_nf_ctx *ctx)       \
	{                                      \
		return passes_hook(ctx, place); \
	}

HOOK(pre_conntrack, PRE_CONNTRACK)
HOOK(conntracked, CONNTRACKED)
HOOK(translated, TRANSLATED)
HOOK(local_in, LOCAL_IN)
HOOK(forward, FORWARD)
HOOK(local_out, LOCAL_OUT)
HOOK(postrouting, POSTROUTING)
HOOK(masqueraded, MASQUERADED)

/* Does nothing: what the kernel's own counting of a run costs. */
SEC("tcx/egress")
int empty(struct __sk_buff *skb)
{
	return PASS;
}
