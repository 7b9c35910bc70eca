/* SPDX-License-Identifier: Apache-2.0 */
/* Packets of IPv4: how they are read, sent on, and refused. */
#pragma once

#define MAYBE_INLINE __always_inline

/* Memory for a connection that is not in the map yet. */
#define NEW_CONNECTION(name, number, without) struct connection name##_memory, *name = &name##_memory

enum { TAIL_AT = IP_AT + offsetof(struct iphdr, ttl) };

/* The last 12 bytes of an IP header without options, and the ports: what changes is among them. */
struct tail {
	__u8 ttl, protocol;
	__u16 check;
	__be32 source, destination;
	__be16 source_port, destination_port;
};

/* Whether it is a packet this program can be about. */
static __always_inline bool parse(struct __sk_buff *skb, struct packet *packet)
{
	void *frame;
	struct iphdr *ip;
	struct udphdr *ports;
	struct tcphdr *tcp;

	if (skb->protocol != bpf_htons(ETHERTYPE))
		return false;
	frame = first(skb, UDP_END);
	if (!frame)
		return false;
	ip = frame + IP_AT;
	/* A fragment has an offset or more to follow; the first of the flags is "do not". */
	if (ip->ihl != 5 || ip->frag_off & bpf_htons(0x3fff) || ip->ttl <= 1)
		return false;
	if (ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_UDP)
		return false;
	if (ip->protocol == IPPROTO_TCP) {
		frame = first(skb, TCP_END);
		if (!frame)
			return false;
		ip = frame + IP_AT;
		tcp = frame + L4_AT;
		packet->flags = ((__u8 *)tcp)[13];
		packet->seq = tcp->seq;
		packet->ack = tcp->ack_seq;
		packet->payload_bytes =
			bpf_ntohs(ip->tot_len) - sizeof(struct iphdr) - tcp->doff * 4;
	}
	ports = frame + L4_AT;
	packet->tuple.source = ip->saddr;
	packet->tuple.destination = ip->daddr;
	packet->tuple.source_port = ports->source;
	packet->tuple.destination_port = ports->dest;
	packet->tuple.protocol = ip->protocol;
	packet->ttl = ip->ttl;
	packet->tos = ip->tos;
	packet->word = ip->check;
	return true;
}

static __always_inline bool find_way(struct __sk_buff *skb, const struct packet *packet,
				     const struct tuple *to, struct way *way)
{
	struct bpf_fib_lookup fib = {
		.family = FAMILY,
		.l4_protocol = to->protocol,
		.sport = to->source_port,
		.dport = to->destination_port,
		.tos = packet->tos,
		.ipv4_src = to->source,
		.ipv4_dst = to->destination,
		.ifindex = skb->ifindex,
	};

	/* The neighbour is bpf_redirect_neigh()'s to find, and to ask for. */
	if (bpf_fib_lookup(skb, &fib, sizeof(fib), SKIP_NEIGH) != BPF_FIB_LKUP_RET_SUCCESS ||
	    fib.family != FAMILY)
		return false;
	way->ifindex = fib.ifindex;
	way->next_hop = fib.ipv4_dst;
	way->mtu = fib.mtu_result;
	return true;
}

/* Writes the new addresses and ports and sends the packet on. */
static __always_inline int forward(struct __sk_buff *skb, const struct packet *packet,
				   const struct tuple *to, const struct way *way)
{
	const struct tuple *from = &packet->tuple;
	struct tail tail = {
		.ttl = packet->ttl - 1,
		.protocol = from->protocol,
		.source = to->source,
		.destination = to->destination,
		.source_port = to->source_port,
		.destination_port = to->destination_port,
	};
	struct bpf_redir_neigh neighbour = { .nh_family = FAMILY, .ipv4_nh = way->next_hop };
	__u32 check_at = L4_AT + (is_tcp(packet) ? offsetof(struct tcphdr, check) :
						   offsetof(struct udphdr, check));
	/* A UDP checksum of zero says that there is none (RFC 768). */
	__u64 zero = is_tcp(packet) ? 0 : BPF_F_MARK_MANGLED_0;
	/* 16 bits each: what does not fit into 32 is carried around. */
	__u64 addresses = fold(difference(from->source, to->source)) +
			  fold(difference(from->destination, to->destination));
	__u64 ports = fold(difference(from->source_port, to->source_port)) +
		      fold(difference(from->destination_port, to->destination_port));

	/* What is cut into segments later fits then. */
	if (skb->len - ETH_HLEN > way->mtu && !skb->gso_size)
		return DROP;
	/* RFC 1624, equation 3. The lifetime is the first byte of its word. */
	tail.check = ~fold((__u16)~packet->word + addresses +
			   fold(difference(bpf_htons(packet->ttl << 8), bpf_htons(tail.ttl << 8))));
	if (bpf_skb_store_bytes(skb, TAIL_AT, &tail, sizeof(tail), 0) ||
	    bpf_l4_csum_replace(skb, check_at, 0, addresses, BPF_F_PSEUDO_HDR | zero) ||
	    bpf_l4_csum_replace(skb, check_at, 0, ports, zero))
		return DROP;
	return bpf_redirect_neigh(way->ifindex, &neighbour, sizeof(neighbour), 0);
}

/* Sends a TCP segment back as the reset that answers it. */
static __noinline int refuse(struct __sk_buff *skb, const struct packet *packet)
{
	struct {
		__u8 destination[ETH_ALEN], source[ETH_ALEN];
		__be16 protocol;
		struct iphdr ip;
		struct tcphdr tcp;
	} __attribute__((packed)) frame = {};
	struct {
		__be32 source, destination;
		__be16 protocol, bytes;
	} pseudo = {};
	__be32 header[TCP_WORDS] = {};
	__u8 addresses[2 * ETH_ALEN];
	int partial;

	if (packet->flags & RST || bpf_skb_load_bytes(skb, 0, addresses, sizeof(addresses)))
		return DROP;
	partial = cut(skb);
	if (partial < 0)
		return DROP;
	__builtin_memcpy(frame.destination, addresses + ETH_ALEN, ETH_ALEN);
	__builtin_memcpy(frame.source, addresses, ETH_ALEN);
	frame.protocol = bpf_htons(ETHERTYPE);
	frame.ip.version = 4;
	frame.ip.ihl = 5;
	frame.ip.tos = packet->tos;
	frame.ip.tot_len = bpf_htons(TCP_END - IP_AT);
	frame.ip.frag_off = bpf_htons(0x4000);
	frame.ip.ttl = TTL;
	frame.ip.protocol = IPPROTO_TCP;
	frame.ip.saddr = packet->tuple.destination;
	frame.ip.daddr = packet->tuple.source;
	pseudo.source = frame.ip.saddr;
	pseudo.destination = frame.ip.daddr;
	pseudo.protocol = bpf_htons(IPPROTO_TCP);
	pseudo.bytes = bpf_htons(sizeof(struct tcphdr));
	reset(packet, header, bpf_csum_diff(NULL, 0, (__be32 *)&pseudo, sizeof(pseudo), 0), partial);
	__builtin_memcpy(&frame.tcp, header, sizeof(header));
	__builtin_memcpy(header, &frame.ip, sizeof(header));
	frame.ip.check = ~fold((__u32)bpf_csum_diff(NULL, 0, header, sizeof(header), 0));
	if (bpf_skb_store_bytes(skb, 0, &frame, sizeof(frame), 0))
		return DROP;
	return bpf_redirect(skb->ifindex, 0);
}
