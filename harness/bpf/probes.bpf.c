// SPDX-License-Identifier: Apache-2.0
/*
 * The probes of the engine `bpf`. Each writes one event when a segment of a followed connection
 * passes it: when, where, and the headers that tell the segment from all others.
 *
 * A followed connection is marked by its type of service, which NAT, routing and VXLAN leave alone;
 * any other packet costs a probe a few loads. Places are told apart by program (netfilter hooks,
 * which are linked per network namespace) or by program and device (tc).
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "kernel.h"

char LICENSE[] SEC("license") = "GPL";

/* Written by the loader before the programs are checked, so that they are constants to the verifier. */
const volatile struct {
	/* Type of service of followed connections. */
	__u8 mark;
	/* Whether segments that only acknowledge are events too. */
	__u8 keep_acks;
	/* UDP port of VXLAN, network byte order. */
	__be16 vxlan_port;
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
	__u32 ifindex; /* device, for tc */
	__be32 source, destination;
	__be16 source_port, destination_port;
	__be32 seq, ack;
	__be32 tsval; /* 0: none */
	__u32 payload_bytes;
	__u8 place;
	__u8 flags; /* TCP's */
	__u8 encapsulated;
	__u8 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 * 1024 * 1024);
} events SEC(".maps");

/* Namespaces of the lab; asked by the socket's probe, which sees every socket of the machine. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u8);
} hosts SEC(".maps");

/* Events there was no room for. */
__u64 dropped = 0;

extern int bpf_dynptr_from_skb(struct __sk_buff *skb, __u64 flags, struct bpf_dynptr *ptr) __ksym;
extern void *bpf_dynptr_slice(const struct bpf_dynptr *ptr, __u32 offset, void *buffer,
			      __u32 buffer__szk) __ksym;
extern void *bpf_cast_to_kern_ctx(void *obj) __ksym;

enum { ONLY_TCP = sizeof(struct iphdr) + sizeof(struct tcphdr), WITH_OPTIONS = ONLY_TCP + 20 };
enum { FLAG_FIN = 0x01, FLAG_SYN = 0x02, FLAG_RST = 0x04 };
/* Options as Linux writes them: two of padding before the timestamp, or what a SYN has there. */
enum { NOP_NOP_TIMESTAMP = 0x0101080a, SACK_TIMESTAMP = 0x0402080a };

struct headers {
	struct iphdr ip;
	struct tcphdr tcp;
	__be32 options[5];
};

static __always_inline bool followed(const struct iphdr *ip)
{
	return ip->tos == settings.mark && ip->protocol == IPPROTO_TCP && ip->ihl == 5;
}

static __always_inline __u8 tcp_flags(const struct tcphdr *tcp)
{
	return ((const __u8 *)tcp)[13];
}

static __always_inline bool speaks(const struct tcphdr *tcp, __u32 payload_bytes)
{
	return settings.keep_acks || payload_bytes || tcp_flags(tcp) & (FLAG_SYN | FLAG_FIN | FLAG_RST);
}

static __always_inline struct event *begin(__u8 place, __u32 netns, __u32 ifindex)
{
	__u64 now = bpf_ktime_get_ns();
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event) {
		__sync_fetch_and_add(&dropped, 1);
		return 0;
	}
	event->time_ns = now;
	event->netns = netns;
	event->ifindex = ifindex;
	event->place = place;
	event->pad = 0;
	return event;
}

/* `options` is whether at least 20 bytes follow the TCP header. */
static __always_inline void emit(__u8 place, __u32 netns, __u32 ifindex, const struct headers *at,
				 bool options, __u32 ip_bytes, bool encapsulated)
{
	__u32 total = at->ip.tot_len ? bpf_ntohs(at->ip.tot_len) : ip_bytes;
	__u32 payload = total - sizeof(at->ip) - at->tcp.doff * 4;
	struct event *event;

	if (!speaks(&at->tcp, payload))
		return;
	event = begin(place, netns, ifindex);
	if (!event)
		return;
	event->source = at->ip.saddr;
	event->destination = at->ip.daddr;
	event->source_port = at->tcp.source;
	event->destination_port = at->tcp.dest;
	event->seq = at->tcp.seq;
	event->ack = at->tcp.ack_seq;
	event->tsval = 0;
	if (options) {
		if (at->options[0] == bpf_htonl(NOP_NOP_TIMESTAMP))
			event->tsval = at->options[1];
		else if (at->options[1] == bpf_htonl(SACK_TIMESTAMP))
			event->tsval = at->options[2];
	}
	event->payload_bytes = payload;
	event->flags = tcp_flags(&at->tcp);
	event->encapsulated = encapsulated;
	/* The reader looks by itself, every few milliseconds: waking it costs more than the rest. */
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
}

static __always_inline void device(struct __sk_buff *skb, __u8 place, __u32 offset,
				   bool encapsulated)
{
	void *data = (void *)(long)skb->data + offset, *end = (void *)(long)skb->data_end;
	struct headers copy;
	const struct headers *at = data;
	bool options = data + WITH_OPTIONS <= end;
	struct sk_buff *kernel;

	if (!options && data + ONLY_TCP > end) {
		if (bpf_skb_load_bytes(skb, offset, &copy, ONLY_TCP))
			return;
		at = &copy;
	}
	if (!followed(&at->ip))
		return;
	kernel = bpf_cast_to_kern_ctx(skb);
	emit(place, kernel->dev->nd_net.net->ns.inum, skb->ifindex, at, options, skb->len - offset,
	     encapsulated);
}

enum { VXLAN_HEADER = 8, INNER = 2 * ETH_HLEN + sizeof(struct iphdr) + sizeof(struct udphdr) + VXLAN_HEADER };

static __always_inline int passes_device(struct __sk_buff *skb, __u8 place)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct iphdr *ip = data + ETH_HLEN;
	struct udphdr *udp = (void *)(ip + 1);

	if (skb->protocol != bpf_htons(ETH_P_IP) || (void *)(udp + 1) > end)
		return BPF_OK;
	if (ip->protocol == IPPROTO_TCP)
		device(skb, place, ETH_HLEN, false);
	else if (ip->protocol == IPPROTO_UDP && udp->dest == settings.vxlan_port)
		device(skb, place, INNER, true);
	return BPF_OK;
}

/* Says nothing about the packet: the next program decides (TCX_NEXT). */
#define PASS (-1)

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

static __always_inline int passes_hook(struct bpf_nf_ctx *ctx, __u8 place)
{
	struct headers copy;
	struct bpf_dynptr packet;
	bool options = true;
	struct headers *at;

	/* The packet begins with its IP header at every hook. */
	if (bpf_dynptr_from_skb((struct __sk_buff *)ctx->skb, 0, &packet))
		return 1;
	at = bpf_dynptr_slice(&packet, 0, &copy, WITH_OPTIONS);
	if (!at) {
		options = false;
		at = bpf_dynptr_slice(&packet, 0, &copy, ONLY_TCP);
	}
	if (at && followed(&at->ip))
		emit(place, ctx->state->net->ns.inum, 0, at, options,
		     bpf_ntohs(at->ip.tot_len), false);
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

/*
 * sock_def_readable() (net/core/sock.c, since Linux 6.3) is about to wake whoever waits for the
 * socket. What can be read is a range of the stream: from what was read to what has come.
 */
SEC("raw_tp/sk_data_ready")
int readable(struct bpf_raw_tracepoint_args *ctx)
{
	struct sock *sk = (struct sock *)ctx->args[0];
	struct tcp_sock *tcp = (struct tcp_sock *)sk;
	__u32 netns, read, come;
	struct event *event;

	if (BPF_CORE_READ(sk, __sk_common.skc_family) != 2 /* AF_INET */ ||
	    BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP ||
	    BPF_CORE_READ((struct inet_sock *)sk, tos) != settings.mark)
		return 0;
	netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	if (!bpf_map_lookup_elem(&hosts, &netns))
		return 0;
	read = BPF_CORE_READ(tcp, copied_seq);
	come = BPF_CORE_READ(tcp, rcv_nxt);
	if (come == read)
		return 0;
	event = begin(READABLE, netns, 0);
	if (!event)
		return 0;
	event->source = BPF_CORE_READ(sk, __sk_common.skc_daddr);
	event->destination = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
	event->source_port = BPF_CORE_READ(sk, __sk_common.skc_dport);
	event->destination_port = bpf_htons(BPF_CORE_READ(sk, __sk_common.skc_num));
	event->seq = bpf_htonl(read);
	event->ack = 0;
	event->tsval = 0;
	event->payload_bytes = come - read;
	event->flags = 0;
	event->encapsulated = 0;
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return 0;
}
