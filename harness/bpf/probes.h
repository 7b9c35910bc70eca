/* SPDX-License-Identifier: Apache-2.0 */
/* What a probe writes, and where to; what devices.h, hooks.h and sockets.h have in common. Whoever includes it
 * has included the family's headers and addresses. */
#pragma once

#include <linux/in.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_core_read.h>
#include "kernel.h"

char LICENSE[] SEC("license") = "GPL";

/* Written by the loader before the programs are checked, so that they are constants to the verifier. */
const volatile struct {
	/* Type of service, or traffic class, of followed connections. */
	__u8 mark;
	/* Whether segments that only acknowledge are events too. */
	__u8 keep_acks;
	/* UDP port of VXLAN, network byte order. */
	__be16 vxlan_port;
	/* Namespace of the devices, where programs at devices cannot ask for it; else 0. */
	__u32 netns;
} settings = {};

/* Agrees with `Place` in src/capture/bpf/event.rs. */
enum place {
	TC_INGRESS,
	TC_EGRESS,
	PRE_CONNTRACK,
	CONNTRACKED,
	TRANSLATED,
	LOCAL_IN,
	FORWARD,
	LOCAL_OUT,
	POSTROUTING,
	MASQUERADED,
	READABLE,
};

/* Addresses, ports and sequence numbers in network byte order; the rest in the processor's. */
struct event {
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u32 netns;   /* inode number of the namespace */
	__u32 device;  /* index, for tc */
	address_t source, destination;
	__be16 source_port, destination_port;
	__be32 seq, ack;
	__be32 tsval; /* 0: none */
	__u32 payload_bytes;
	__u8 place;
	__u8 flags; /* TCP's */
	__u8 encapsulated;
	__u8 names; /* of a DNS message: seq and ack are the words that follow its ports */
	__u8 pad[4];
	__u64 number; /* from 1; written last: the rest is there */
};

/*
 * The ring: event n is at n modulo its length, and overwrites the one that was there. A probe claims
 * a number, fills the slot and writes the number into it, all without a call; whoever reads maps the
 * memory, knows by the numbers what is there, and counts what was overwritten. (On processors whose
 * returns are guarded each call costs as much as the whole event; bpf_ringbuf_reserve() and
 * bpf_ringbuf_submit() are a dozen.)
 */
enum { EVENTS = 1 << 17 };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, EVENTS);
	__type(key, __u32);
	__type(value, struct event);
} events SEC(".maps");

/* Numbers claimed so far. */
__u64 claimed = 0;

/* Says nothing about the packet: the next program decides (TCX_NEXT). */
#define PASS (-1)

enum { HEADERS = IP_BYTES + sizeof(struct tcphdr) };
enum { FLAG_FIN = 0x01, FLAG_SYN = 0x02, FLAG_RST = 0x04 };
enum { DNS_PORT = 53 };

/* Other datagrams than names' carry no mark, tunnels' outer headers aside: emit() looks at the ports. */
static __always_inline bool followed(const header_t *ip)
{
	return mark_of(ip) == settings.mark &&
	       (protocol_of(ip) == IPPROTO_TCP || protocol_of(ip) == IPPROTO_UDP);
}

/*
 * Ports are where TCP has them, and a DNS header (RFC 1035, section 4.1.1) is as long as the rest of
 * TCP's without UDP's own: whoever looked for the one may read the other.
 */
static __always_inline bool is_names(const struct tcphdr *tcp)
{
	return tcp->dest == bpf_htons(DNS_PORT) || tcp->source == bpf_htons(DNS_PORT);
}

static __always_inline __u8 tcp_flags(const struct tcphdr *tcp)
{
	return ((const __u8 *)tcp)[13];
}

static __always_inline bool speaks(const struct tcphdr *tcp, __u32 payload_bytes)
{
	return settings.keep_acks || payload_bytes || tcp_flags(tcp) & (FLAG_SYN | FLAG_FIN | FLAG_RST);
}

static __always_inline struct event *begin(__u8 place, __u32 netns, __u32 device, __u64 *number)
{
	__u64 now = bpf_ktime_get_ns();
	struct event *event;
	__u32 slot;

	*number = __sync_fetch_and_add(&claimed, 1);
	slot = *number & (EVENTS - 1);
	event = bpf_map_lookup_elem(&events, &slot);
	if (!event)
		return 0;
	event->time_ns = now;
	event->netns = netns;
	event->device = device;
	event->place = place;
	return event;
}

static __always_inline void commit(struct event *event, __u64 number)
{
	__sync_lock_test_and_set(&event->number, number + 1);
}

/*
 * The timestamp among options as Linux writes them: behind two of padding, or in a SYN behind the
 * segment size and the word that allows selective acknowledgements. `options` is what follows the
 * header: ports and sequence numbers are its words.
 */
static __always_inline __be32 timestamp(const struct tcphdr *options)
{
	if (options->source == bpf_htons(0x0101) && options->dest == bpf_htons(0x080a))
		return options->seq;
	if (options->seq == bpf_htonl(0x0402080a))
		return options->ack_seq;
	return 0;
}

static __always_inline void emit(__u8 place, __u32 netns, __u32 device, const header_t *ip,
				 const struct tcphdr *tcp, __be32 tsval, __u32 ip_bytes,
				 bool encapsulated)
{
	bool names = protocol_of(ip) == IPPROTO_UDP;
	__u32 payload = bytes_behind(ip, ip_bytes) - (names ? sizeof(struct udphdr) : tcp->doff * 4);
	struct event *event;
	__u64 number;

	if (names ? !is_names(tcp) : !speaks(tcp, payload))
		return;
	event = begin(place, netns, device, &number);
	if (!event)
		return;
	event->source = source_of(ip);
	event->destination = destination_of(ip);
	event->source_port = tcp->source;
	event->destination_port = tcp->dest;
	event->seq = tcp->seq;
	event->ack = tcp->ack_seq;
	event->tsval = tsval;
	event->payload_bytes = payload;
	event->flags = tcp_flags(tcp);
	event->encapsulated = encapsulated;
	event->names = names;
	commit(event, number);
}
