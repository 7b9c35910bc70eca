/* SPDX-License-Identifier: Apache-2.0 */
/* The probes at devices. Whoever includes it has defined namespace(), the packet's. */
#pragma once

static __always_inline void device(struct __sk_buff *skb, __u8 place, __u32 offset,
				   bool encapsulated)
{
	void *data = (void *)(long)skb->data + offset, *end = (void *)(long)skb->data_end;
	header_t *ip = data;
	struct tcphdr *tcp = (void *)(ip + 1), *options = tcp + 1;
	__be32 tsval = 0;

	if ((void *)(tcp + 1) > end || !followed(ip))
		return;
	if ((void *)(options + 1) <= end)
		tsval = timestamp(options);
	emit(place, namespace(skb), skb->ifindex, ip, tcp, tsval, skb->len - offset, encapsulated);
}

enum { VXLAN_HEADER = 8, INNER = 2 * ETH_HLEN + IP_BYTES + sizeof(struct udphdr) + VXLAN_HEADER };

static __always_inline int passes_device(struct __sk_buff *skb, __u8 place)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	header_t *ip = data + ETH_HLEN;
	struct udphdr *udp = (void *)(ip + 1);

	if (skb->protocol != bpf_htons(ETHERTYPE) || (void *)(udp + 1) > end)
		return BPF_OK;
	/* A client may ask for names from the port of VXLAN, and be answered there. */
	if (protocol_of(ip) == IPPROTO_UDP && udp->dest == settings.vxlan_port &&
	    udp->source != bpf_htons(DNS_PORT))
		device(skb, place, INNER, true);
	else
		device(skb, place, ETH_HLEN, false);
	return BPF_OK;
}

SEC("tcx/ingress")
int device_in(struct __sk_buff *skb)
{
	passes_device(skb, TC_INGRESS);
	return PASS;
}

SEC("tcx/egress")
int device_out(struct __sk_buff *skb)
{
	passes_device(skb, TC_EGRESS);
	return PASS;
}
