// SPDX-License-Identifier: Apache-2.0
/*
 * The proxy mode `ebpf`: Services without netfilter.
 *
 * One body, linked at tc ingress as `from_pod` to the node's end of each pod's veth pair and as
 * `from_outside` to its NIC and its VXLAN device. A packet of a Service is translated where it
 * enters the node, both ways, and handed to the device it leaves by: the routing code would drop
 * what comes in with an address of the node itself as its source (a martian). Any other packet
 * costs two look-ups and goes on untouched.
 *
 * The source is translated only where the answer would not come back to this node otherwise: a
 * client outside whose endpoint is on another node, and a pod that is its own endpoint. The new
 * source is the address of the device the packet leaves by, as MASQUERADE chooses it.
 *
 * What it does not do, and leaves to the stack as it is: IPv6, fragments, packets with IP options,
 * ICMP errors about translated packets, connections that the node itself opens (they do not enter
 * by any device). Packets longer than the MTU of the way on are dropped: TCP's segments are not.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

/* What a connection is in; agrees with `State` in src/proxy/ebpf/entry.rs. */
enum state {
	OPENING,     /* TCP, not answered yet */
	OPEN,        /* TCP, answered */
	HALF_CLOSED, /* one side has sent its FIN */
	CLOSED,      /* both have */
	RESET,       /* one side has sent an RST: nobody remembers the tuple */
	DATAGRAMS,   /* UDP */
	STATES = 8,  /* a power of two, so that an index can be masked */
};

/* Written by the loader before the programs are checked; agrees with `Settings` in
 * src/proxy/ebpf/entry.rs. */
const volatile struct {
	/* How long a connection is remembered after its last packet. */
	__u64 timeout_ns[STATES];
	/* How often, at most, packets of one direction keep the other direction's entry alive and
	 * ask the routing table for their way. */
	__u64 tell_ns;
	/* Source of what leaves by a device without an address: the node's. */
	__be32 address;
} settings = {};

/* Addresses and ports in network byte order, everywhere. */
struct frontend {
	__be32 address;
	__be16 port;
	__u16 protocol;
};

struct service {
	/* Number of the Service port: all frontends of one share it, and with it their affinity. */
	__u32 id;
	/* Its endpoints stand in a row, those on this node first. */
	__u32 first;
	/* How many of them traffic of this node's pods, and traffic from elsewhere, may use. */
	__u32 inside, outside;
	/* 0: none. */
	__u64 affinity_ns;
	/* Whether there are endpoints, though none that may be used: dropped then, not refused. */
	__u32 elsewhere;
	__u32 pad;
};

struct endpoint {
	__be32 address;
	__be16 port;
	/* Whether it is on this node. */
	__u16 here;
};

struct tuple {
	__be32 source, destination;
	__be16 source_port, destination_port;
	__u32 protocol;
};

/* Where a packet goes next. */
struct way {
	__u32 ifindex; /* 0: not known yet */
	__be32 next_hop;
	__u32 mtu;
};

/* One direction of a connection; its key is the tuple as it enters the node. */
struct connection {
	struct tuple becomes;
	__u64 seen_ns; /* last packet of this direction, or told of by the other */
	__u64 told_ns; /* when the other direction's entry was last touched, and the way found */
	struct way way;
	__u32 service, endpoint;
	__u32 packets;
	__u8 state;
	__u8 answers; /* whether this is the endpoint's direction */
	__u8 ended;   /* whether a FIN has passed in this direction */
	__u8 pad[5];
};

struct client {
	__be32 address;
	__u32 service;
};

struct affinity {
	__u64 until_ns;
	__u32 endpoint;
	__u32 pad;
};

/* Sizes are set by the loader. */
#define MAP(name, kind, k, v, entries)             \
	struct {                                   \
		__uint(type, BPF_MAP_TYPE_##kind); \
		__uint(max_entries, entries);      \
		__type(key, k);                    \
		__type(value, v);                  \
	} name SEC(".maps")

MAP(services, HASH, struct frontend, struct service, 1024);
MAP(endpoints, ARRAY, __u32, struct endpoint, 1024);
MAP(connections, LRU_HASH, struct tuple, struct connection, 1024);
MAP(affinities, LRU_HASH, struct client, struct affinity, 1024);
/* Address of each device that has one, by its index. */
MAP(sources, HASH, __u32, __be32, 1024);

/* Says nothing about the packet: the next program, then the stack (TCX_NEXT). */
#define PASS (-1)
#define DROP TC_ACT_SHOT

enum {
	AF_INET = 2,
	SKIP_NEIGH = 1 << 2, /* BPF_FIB_LOOKUP_SKIP_NEIGH, Linux 6.3 */
	PORT_TRIES = 32,
	PORT_FIRST = 1024,
	TTL = 64,
};

enum {
	FIN = 0x01,
	SYN = 0x02,
	RST = 0x04,
	ACK = 0x10,
};

/* Offsets from the frame's first byte. */
enum {
	IP_AT = ETH_HLEN,
	TAIL_AT = IP_AT + offsetof(struct iphdr, ttl),
	L4_AT = IP_AT + sizeof(struct iphdr),
	UDP_END = L4_AT + sizeof(struct udphdr),
	TCP_END = L4_AT + sizeof(struct tcphdr),
};

/* The last 12 bytes of an IP header without options, and the ports: what changes is among them. */
struct tail {
	__u8 ttl, protocol;
	__u16 check;
	__be32 source, destination;
	__be16 source_port, destination_port;
};

struct packet {
	struct tuple tuple;
	__u8 ttl, tos;
	__u16 check;
	/* TCP only, the rest. */
	__u8 flags;
	__u16 payload_bytes;
	__be32 seq, ack;
};

/*
 * The first bytes of the frame, which need not be in the buffer's linear part yet. Read anew each
 * time: the verifier loses the end of a packet that the compiler keeps in half a register.
 */
static __always_inline void *first(struct __sk_buff *skb, __u32 bytes)
{
	volatile __u32 *data = &skb->data, *end = &skb->data_end;
	void *frame = (void *)(long)*data;

	if (frame + bytes <= (void *)(long)*end)
		return frame;
	if (bpf_skb_pull_data(skb, bytes))
		return NULL;
	frame = (void *)(long)*data;
	return frame + bytes <= (void *)(long)*end ? frame : NULL;
}

/* Whether it is a packet this program can be about. */
static __always_inline bool parse(struct __sk_buff *skb, struct packet *packet)
{
	void *frame;
	struct iphdr *ip;
	struct udphdr *ports;
	struct tcphdr *tcp;

	if (skb->protocol != bpf_htons(ETH_P_IP))
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
	packet->check = ip->check;
	return true;
}

static __always_inline bool is_tcp(const struct packet *packet)
{
	return packet->tuple.protocol == IPPROTO_TCP;
}

static __always_inline bool opens(const struct packet *packet)
{
	return !is_tcp(packet) || (packet->flags & (SYN | ACK | RST)) == SYN;
}

static __always_inline struct tuple reverse(const struct tuple *tuple)
{
	struct tuple back = {
		.source = tuple->destination,
		.destination = tuple->source,
		.source_port = tuple->destination_port,
		.destination_port = tuple->source_port,
		.protocol = tuple->protocol,
	};
	return back;
}

static __always_inline bool same(const struct tuple *a, const struct tuple *b)
{
	return a->source == b->source && a->destination == b->destination &&
	       a->source_port == b->source_port && a->destination_port == b->destination_port &&
	       a->protocol == b->protocol;
}

/* The sweeper removes what is not (src/proxy/ebpf/sweep.rs). */
static __always_inline bool alive(const struct connection *connection, __u64 now)
{
	return now - connection->seen_ns < settings.timeout_ns[connection->state & (STATES - 1)];
}

/* Folds a sum of 16-bit words into one (RFC 1071). */
static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* What a checksum changes by when `from` becomes `to`; made of words, it has no byte order. */
static __always_inline __u64 difference(__u32 from, __u32 to)
{
	return (__u64)(__u32)~from + to;
}

static __always_inline bool find_way(struct __sk_buff *skb, const struct packet *packet,
				     const struct tuple *to, struct way *way)
{
	struct bpf_fib_lookup fib = {
		.family = AF_INET,
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
	    fib.family != AF_INET)
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
	struct bpf_redir_neigh neighbour = { .nh_family = AF_INET, .ipv4_nh = way->next_hop };
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
	tail.check = ~fold((__u16)~packet->check + addresses +
			   fold(difference(bpf_htons(packet->ttl << 8), bpf_htons(tail.ttl << 8))));
	if (bpf_skb_store_bytes(skb, TAIL_AT, &tail, sizeof(tail), 0) ||
	    bpf_l4_csum_replace(skb, check_at, 0, addresses, BPF_F_PSEUDO_HDR | zero) ||
	    bpf_l4_csum_replace(skb, check_at, 0, ports, zero))
		return DROP;
	return bpf_redirect_neigh(way->ifindex, &neighbour, sizeof(neighbour), 0);
}

/* A packet of a known connection: keeps its entries alive and follows TCP's states. Whether it is
 * time to ask for the way again. */
static __always_inline bool passes(struct connection *own, const struct packet *packet, __u64 now)
{
	bool first_answer = own->answers && own->state == OPENING;
	bool ends = is_tcp(packet) && packet->flags & (FIN | RST);
	bool due = now - own->told_ns >= settings.tell_ns;
	struct connection *other;
	struct tuple back;

	own->packets++;
	own->seen_ns = now;
	if (!first_answer && !ends && !due)
		return false;
	own->told_ns = now;
	back = reverse(&own->becomes);
	other = bpf_map_lookup_elem(&connections, &back);
	if (!other)
		return due;
	if (ends && packet->flags & RST) {
		own->state = RESET;
	} else if (ends) {
		own->ended = true;
		if (own->state != RESET)
			own->state = other->ended ? CLOSED : HALF_CLOSED;
	} else if (first_answer) {
		own->state = OPEN;
	}
	other->state = own->state;
	other->seen_ns = now;
	return due;
}

/* Removes the entry of the other direction, unless it belongs to another connection by now. */
static __always_inline void forget_other(const struct tuple *own, const struct tuple *becomes)
{
	struct tuple other = reverse(becomes), back = reverse(own);
	struct connection *found = bpf_map_lookup_elem(&connections, &other);

	if (found && same(&found->becomes, &back))
		bpf_map_delete_elem(&connections, &other);
}

/* Makes the entry of the answers' direction, if no connection has its tuple. */
static __always_inline bool claim(const struct tuple *back, const struct connection *answers,
				  __u64 now)
{
	struct connection *taken;
	struct tuple becomes;

	if (!bpf_map_update_elem(&connections, back, answers, BPF_NOEXIST))
		return true;
	taken = bpf_map_lookup_elem(&connections, back);
	if (!taken || (taken->state != RESET && alive(taken, now)))
		return false;
	becomes = taken->becomes;
	forget_other(back, &becomes);
	return !bpf_map_update_elem(&connections, back, answers, BPF_ANY);
}

/* Makes both entries of a new connection. The client's port is kept where it is free. */
static __noinline bool track(const struct packet *packet, struct connection *forth, __u64 now)
{
	struct connection answers = *forth;
	struct tuple back;

	answers.becomes = reverse(&packet->tuple);
	answers.answers = true;
	answers.way.ifindex = 0;
#pragma clang loop unroll(disable)
	for (int try = 0; try < PORT_TRIES; try++) {
		if (try) {
			__u32 port = bpf_get_prandom_u32() % (65536 - PORT_FIRST) + PORT_FIRST;

			forth->becomes.source_port = bpf_htons(port);
		}
		back = reverse(&forth->becomes);
		if (claim(&back, &answers, now))
			return !bpf_map_update_elem(&connections, &packet->tuple, forth, BPF_ANY);
	}
	return false;
}

static __always_inline __u32 choose(const struct service *service, __u32 count, __be32 address,
				    __u64 now)
{
	struct client client = { .address = address, .service = service->id };
	struct affinity stay = { .until_ns = now + service->affinity_ns };
	struct affinity *kept;

	stay.endpoint = service->first + bpf_get_prandom_u32() % count;
	if (!service->affinity_ns)
		return stay.endpoint;
	kept = bpf_map_lookup_elem(&affinities, &client);
	if (kept && now < kept->until_ns && kept->endpoint - service->first < count)
		stay.endpoint = kept->endpoint;
	bpf_map_update_elem(&affinities, &client, &stay, BPF_ANY);
	return stay.endpoint;
}

/* The last byte of TCP's checksum is the first that a shorter frame would lack. */
enum { CHECK_CUT = L4_AT + offsetof(struct tcphdr, check) + sizeof(__u16) - 1 };

/* Of include/uapi/asm-generic/errno-base.h. */
enum { EINVAL = 22 };

/*
 * Makes a segment as long as its headers, and says whether it is CHECKSUM_PARTIAL: whoever sends it
 * finishes its checksum. Programs do not see that; but the kernel does not let such a packet become
 * too short for its checksum (net/core/filter.c, __bpf_skb_min_len()), and any other it does. What
 * was cut off is overwritten later. Negative: the kernel has no memory.
 */
static __always_inline int cut(struct __sk_buff *skb)
{
	long outcome = bpf_skb_change_tail(skb, CHECK_CUT, 0);

	if (outcome && outcome != -EINVAL)
		return -1;
	if (bpf_skb_change_tail(skb, TCP_END, 0))
		return -1;
	return outcome == -EINVAL;
}

/* Sends a TCP segment back as the reset that answers it (RFC 9293, 3.10.7.1). */
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
	__be32 header[5] = {};
	__u8 addresses[2 * ETH_ALEN];
	struct tcphdr *tcp = (struct tcphdr *)header;
	int partial;
	__s64 sum;

	if (packet->flags & RST || bpf_skb_load_bytes(skb, 0, addresses, sizeof(addresses)))
		return DROP;
	partial = cut(skb);
	if (partial < 0)
		return DROP;
	__builtin_memcpy(frame.destination, addresses + ETH_ALEN, ETH_ALEN);
	__builtin_memcpy(frame.source, addresses, ETH_ALEN);
	frame.protocol = bpf_htons(ETH_P_IP);
	frame.ip.version = 4;
	frame.ip.ihl = 5;
	frame.ip.tos = packet->tos;
	frame.ip.tot_len = bpf_htons(TCP_END - IP_AT);
	frame.ip.frag_off = bpf_htons(0x4000);
	frame.ip.ttl = TTL;
	frame.ip.protocol = IPPROTO_TCP;
	frame.ip.saddr = packet->tuple.destination;
	frame.ip.daddr = packet->tuple.source;
	tcp->source = packet->tuple.destination_port;
	tcp->dest = packet->tuple.source_port;
	tcp->doff = 5;
	tcp->rst = 1;
	if (packet->flags & ACK) {
		tcp->seq = packet->ack;
	} else {
		__u32 follows = bpf_ntohl(packet->seq) + packet->payload_bytes;

		tcp->ack = 1;
		tcp->ack_seq = bpf_htonl(follows + !!(packet->flags & SYN) + !!(packet->flags & FIN));
	}
	pseudo.source = frame.ip.saddr;
	pseudo.destination = frame.ip.daddr;
	pseudo.protocol = bpf_htons(IPPROTO_TCP);
	pseudo.bytes = bpf_htons(sizeof(struct tcphdr));
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&pseudo, sizeof(pseudo), 0);
	if (partial)
		tcp->check = fold((__u32)sum);
	else
		tcp->check = ~fold((__u32)bpf_csum_diff(NULL, 0, header, sizeof(header), sum));
	__builtin_memcpy(&frame.tcp, header, sizeof(header));
	__builtin_memcpy(header, &frame.ip, sizeof(header));
	frame.ip.check = ~fold((__u32)bpf_csum_diff(NULL, 0, header, sizeof(header), 0));
	if (bpf_skb_store_bytes(skb, 0, &frame, sizeof(frame), 0))
		return DROP;
	return bpf_redirect(skb->ifindex, 0);
}

/* A packet of no known connection: if it is for a Service, it begins one. */
static __always_inline int begins(struct __sk_buff *skb, const struct packet *packet,
				  bool from_pod, __u64 now)
{
	struct frontend at = {
		.address = packet->tuple.destination,
		.port = packet->tuple.destination_port,
		.protocol = packet->tuple.protocol,
	};
	struct service *service = bpf_map_lookup_elem(&services, &at);
	struct connection forth = { .becomes = packet->tuple, .packets = 1 };
	struct endpoint *endpoint;
	__u32 count;

	if (!service)
		return PASS;
	if (!opens(packet))
		return refuse(skb, packet);
	count = from_pod ? service->inside : service->outside;
	if (!count)
		return service->elsewhere || !is_tcp(packet) ? DROP : refuse(skb, packet);
	forth.endpoint = choose(service, count, packet->tuple.source, now);
	endpoint = bpf_map_lookup_elem(&endpoints, &forth.endpoint);
	if (!endpoint)
		return DROP;
	forth.service = service->id;
	forth.state = is_tcp(packet) ? OPENING : DATAGRAMS;
	forth.seen_ns = forth.told_ns = now;
	forth.becomes.destination = endpoint->address;
	forth.becomes.destination_port = endpoint->port;
	if (!find_way(skb, packet, &forth.becomes, &forth.way))
		return DROP;
	if (endpoint->address == packet->tuple.source || (!from_pod && !endpoint->here)) {
		__be32 *source = bpf_map_lookup_elem(&sources, &forth.way.ifindex);

		forth.becomes.source = source ? *source : settings.address;
	}
	if (!track(packet, &forth, now))
		return DROP;
	return forward(skb, packet, &forth.becomes, &forth.way);
}

static __always_inline int enters(struct __sk_buff *skb, bool from_pod)
{
	struct packet packet = {};
	struct connection *known;
	struct tuple becomes;
	struct way way;
	__u64 now;

	/* A switch floods what it knows no port for. Not so for pods: behind a bridge port, what is
	 * for the bridge or a neighbour is not for the port either. */
	if (!from_pod && skb->pkt_type != PACKET_HOST)
		return PASS;
	if (!parse(skb, &packet))
		return PASS;
	now = bpf_ktime_get_coarse_ns();
	known = bpf_map_lookup_elem(&connections, &packet.tuple);
	if (!known)
		return begins(skb, &packet, from_pod, now);
	becomes = known->becomes;
	if (!alive(known, now) || (is_tcp(&packet) && opens(&packet) && !known->answers &&
				   known->state >= HALF_CLOSED)) {
		forget_other(&packet.tuple, &becomes);
		return begins(skb, &packet, from_pod, now);
	}
	way = known->way;
	if (passes(known, &packet, now) || !way.ifindex) {
		if (!find_way(skb, &packet, &becomes, &way))
			return DROP;
		known->way = way;
	}
	return forward(skb, &packet, &becomes, &way);
}

SEC("tcx/ingress")
int from_pod(struct __sk_buff *skb)
{
	return enters(skb, true);
}

SEC("tcx/ingress")
int from_outside(struct __sk_buff *skb)
{
	return enters(skb, false);
}
