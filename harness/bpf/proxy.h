/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the programs of the mode `ebpf` know and remember. Whoever includes it has included the
 * family's headers and addresses.
 */
#pragma once

#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stddef.h>

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
	address_t address;
} settings = {};

/* Addresses and ports in network byte order, everywhere. */
struct frontend {
	address_t address;
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
	address_t address;
	__be16 port;
	/* Whether it is on this node. */
	__u16 here;
};

struct tuple {
	address_t source, destination;
	__be16 source_port, destination_port;
	__u32 protocol;
};

/* Where a packet goes next. */
struct way {
	__u32 ifindex; /* 0: not known yet */
	address_t next_hop;
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
	address_t address;
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
MAP(sources, HASH, __u32, address_t, 1024);

/* Says nothing about the packet: the next program, then the stack (TCX_NEXT). */
#define PASS (-1)
#define DROP TC_ACT_SHOT

enum {
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
	L4_AT = IP_AT + IP_BYTES,
	UDP_END = L4_AT + sizeof(struct udphdr),
	TCP_END = L4_AT + sizeof(struct tcphdr),
};

struct packet {
	struct tuple tuple;
	__u8 ttl, tos;
	/* IPv4: the header's checksum; IPv6: its length of what follows. */
	__u16 word;
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

/* Whether one is the other's answer. */
static __always_inline bool reversed(const struct tuple *a, const struct tuple *b)
{
	return equal(&a->source, &b->destination) && equal(&a->destination, &b->source) &&
	       a->source_port == b->destination_port && a->destination_port == b->source_port &&
	       a->protocol == b->protocol;
}

/*
 * The sweeper removes what is not (src/proxy/ebpf/sweep.rs). Another CPU may have seen a packet of the
 * connection since this one read the clock: the time that has passed is negative then.
 */
static __always_inline bool alive(const struct connection *connection, __u64 now)
{
	__s64 idle_ns = now - connection->seen_ns;

	return idle_ns < (__s64)settings.timeout_ns[connection->state & (STATES - 1)];
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

enum { TCP_WORDS = sizeof(struct tcphdr) / sizeof(__be32) };

/*
 * The header of the segment that answers one with a reset (RFC 9293, 3.10.7.1). `sum` is that of the pseudo
 * header; whoever sends a packet that is CHECKSUM_PARTIAL adds the rest.
 */
static __always_inline void reset(const struct packet *packet, __be32 header[TCP_WORDS], __s64 sum,
				  bool partial)
{
	struct tcphdr *tcp = (struct tcphdr *)header;

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
	if (partial)
		tcp->check = fold((__u32)sum);
	else
		tcp->check = ~fold((__u32)bpf_csum_diff(NULL, 0, header, sizeof(*tcp), sum));
}
