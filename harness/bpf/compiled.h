/* SPDX-License-Identifier: Apache-2.0 */
/* How probes read what the kernel knows of a packet, where it compiles programs. */
#pragma once

extern void *bpf_cast_to_kern_ctx(void *obj) __ksym;
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym;

/* Both of these kernel functions become an instruction or none: they are told to the verifier only. */
#define READ_AS(type, address) ((const type *)bpf_rdonly_cast((const void *)(address), bpf_core_type_id_kernel(type)))

/* The namespace that a packet at a device is in. */
static __always_inline __u32 namespace(struct __sk_buff *skb)
{
	struct sk_buff *kernel = bpf_cast_to_kern_ctx(skb);

	return kernel->dev->nd_net.net->ns.inum;
}

/* An event, if the headers of a packet at a hook are those of a followed connection. */
static __always_inline void headers(__u8 place, struct bpf_nf_ctx *ctx)
{
	struct sk_buff *skb = ctx->skb;
	const unsigned char *header = skb->head + skb->network_header;
	const header_t *ip = READ_AS(header_t, header);
	const struct tcphdr *tcp = READ_AS(struct tcphdr, header + sizeof(*ip));

	if (followed(ip))
		emit(place, ctx->state->net->ns.inum, 0, ip, tcp,
		     timestamp(READ_AS(struct tcphdr, header + HEADERS)), skb->len, false);
}
