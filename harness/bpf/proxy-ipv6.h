/* SPDX-License-Identifier: Apache-2.0 */
/* Packets of IPv6 (RFC 8200): how they are read, sent on, and refused. */
#pragma once

/* A frame of the stack for each call: all in one are longer than the 512 bytes there are. */
#define MAYBE_INLINE __noinline

/* Memory for a connection that is not in the map yet, two of them: the stack has no room for addresses so
 * long. Nothing else runs at tc ingress of this processor meanwhile. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct connection);
} unfinished SEC(".maps");

#define NEW_CONNECTION(name, number, without)                                                     \
	__u32 name##_number = number;                                                    \
	struct connection *name = bpf_map_lookup_elem(&unfinished, &name##_number);      \
                                                                                         \
	if (!name)                                                                       \
	return without

enum { TAIL_AT = IP_AT + offsetof(struct ipv6hdr, payload_len), CLASS_SHIFT = 20 };

/* An IPv6 header but for its first word, and the ports: what changes is among them. */
struct tail {
	__be16 payload_bytes;
	__u8 next_header, hop_limit;
	address_t source, destination;
	__be16 source_port, destination_port;
};

/* The first word of a header with a traffic class. */
static __always_inline __be32 first_word(__u8 traffic_class)
{
	return bpf_htonl(6 << 28 | (__u32)traffic_class << CLASS_SHIFT);
}

/* Whether it is a packet this program can be about: one with an extension header is not. */
static __always_inline bool parse(struct __sk_buff *skb, struct packet *packet)
{
	void *frame;
	struct ipv6hdr *ip;
	struct udphdr *ports;
	struct tcphdr *tcp;

	if (skb->protocol != bpf_htons(ETHERTYPE))
		return false;
	frame = first(skb, UDP_END);
	if (!frame)
		return false;
	ip = frame + IP_AT;
	if (ip->hop_limit <= 1 || (ip->nexthdr != IPPROTO_TCP && ip->nexthdr != IPPROTO_UDP))
		return false;
	if (ip->nexthdr == IPPROTO_TCP) {
		frame = first(skb, TCP_END);
		if (!frame)
			return false;
		ip = frame + IP_AT;
		tcp = frame + L4_AT;
		packet->flags = ((__u8 *)tcp)[13];
		packet->seq = tcp->seq;
		packet->ack = tcp->ack_seq;
		packet->payload_bytes = bpf_ntohs(ip->payload_len) - tcp->doff * 4;
	}
	ports = frame + L4_AT;
	packet->tuple.source = source_of(ip);
	packet->tuple.destination = destination_of(ip);
	packet->tuple.source_port = ports->source;
	packet->tuple.destination_port = ports->dest;
	packet->tuple.protocol = ip->nexthdr;
	packet->ttl = ip->hop_limit;
	packet->tos = mark_of(ip);
	packet->word = ip->payload_len;
	return true;
}

static MAYBE_INLINE bool find_way(struct __sk_buff *skb, const struct packet *packet,
				     const struct tuple *to, struct way *way)
{
	struct bpf_fib_lookup fib = {
		.family = FAMILY,
		.l4_protocol = to->protocol,
		.sport = to->source_port,
		.dport = to->destination_port,
		.flowinfo = bpf_htonl((__u32)packet->tos << CLASS_SHIFT),
		.ifindex = skb->ifindex,
	};

	__builtin_memcpy(fib.ipv6_src, &to->source, sizeof(to->source));
	__builtin_memcpy(fib.ipv6_dst, &to->destination, sizeof(to->destination));
	/* The neighbour is bpf_redirect_neigh()'s to find, and to ask for. */
	if (bpf_fib_lookup(skb, &fib, sizeof(fib), SKIP_NEIGH) != BPF_FIB_LKUP_RET_SUCCESS ||
	    fib.family != FAMILY)
		return false;
	way->ifindex = fib.ifindex;
	__builtin_memcpy(&way->next_hop, fib.ipv6_dst, sizeof(way->next_hop));
	way->mtu = fib.mtu_result;
	return true;
}

/* What a checksum changes by when an address becomes another, 16 bits. */
static __always_inline __u64 moved(const address_t *from, const address_t *to)
{
	return fold(difference(from->words[0], to->words[0]) + difference(from->words[1], to->words[1]) +
		    difference(from->words[2], to->words[2]) + difference(from->words[3], to->words[3]));
}

/*
 * Writes the new addresses and ports and sends the packet on. The header has no checksum of its own that
 * would make up for the addresses in the sum of a whole packet: a NIC that gives one (CHECKSUM_COMPLETE)
 * needs BPF_F_IPV6 of Linux 6.16 here, and older kernels have no such flag. No device of the lab gives one.
 */
static MAYBE_INLINE int forward(struct __sk_buff *skb, const struct packet *packet,
				   const struct tuple *to, const struct way *way)
{
	const struct tuple *from = &packet->tuple;
	struct tail tail = {
		.payload_bytes = packet->word,
		.next_header = from->protocol,
		.hop_limit = packet->ttl - 1,
		.source = to->source,
		.destination = to->destination,
		.source_port = to->source_port,
		.destination_port = to->destination_port,
	};
	struct bpf_redir_neigh neighbour = { .nh_family = FAMILY };
	__u32 check_at = L4_AT + (is_tcp(packet) ? offsetof(struct tcphdr, check) :
						   offsetof(struct udphdr, check));
	/* A sum of zero is written as its complement (RFC 8200, section 8.1). */
	__u64 zero = is_tcp(packet) ? 0 : BPF_F_MARK_MANGLED_0;
	__u64 addresses = moved(&from->source, &to->source) +
			  moved(&from->destination, &to->destination);
	__u64 ports = fold(difference(from->source_port, to->source_port)) +
		      fold(difference(from->destination_port, to->destination_port));

	__builtin_memcpy(neighbour.ipv6_nh, &way->next_hop, sizeof(way->next_hop));
	/* What is cut into segments later fits then. */
	if (skb->len - ETH_HLEN > way->mtu && !skb->gso_size)
		return DROP;
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
		__be32 word;
		struct tail tail;
	} __attribute__((packed)) frame = {};
	struct {
		address_t source, destination;
		__be32 bytes, next_header;
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
	frame.word = first_word(packet->tos);
	frame.tail.payload_bytes = bpf_htons(sizeof(header));
	frame.tail.next_header = IPPROTO_TCP;
	frame.tail.hop_limit = TTL;
	frame.tail.source = packet->tuple.destination;
	frame.tail.destination = packet->tuple.source;
	frame.tail.source_port = packet->tuple.destination_port;
	frame.tail.destination_port = packet->tuple.source_port;
	pseudo.source = packet->tuple.destination;
	pseudo.destination = packet->tuple.source;
	pseudo.bytes = bpf_htonl(sizeof(header));
	pseudo.next_header = bpf_htonl(IPPROTO_TCP);
	reset(packet, header, bpf_csum_diff(NULL, 0, (__be32 *)&pseudo, sizeof(pseudo), 0), partial);
	if (bpf_skb_store_bytes(skb, 0, &frame, sizeof(frame), 0) ||
	    bpf_skb_store_bytes(skb, L4_AT, header, sizeof(header), 0))
		return DROP;
	return bpf_redirect(skb->ifindex, 0);
}
