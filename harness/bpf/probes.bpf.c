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
	__u32 device;  /* index, for tc */
	__be32 source, destination;
	__be16 source_port, destination_port;
	__be32 seq, ack;
	__be32 tsval; /* 0: none */
	__u32 payload_bytes;
	__u8 place;
	__u8 flags; /* TCP's */
	__u8 encapsulated;
	__u8 pad[5];
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

/* Namespaces of the lab; asked by the socket's probe, which sees every socket of the machine. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u8);
} hosts SEC(".maps");

extern void *bpf_cast_to_kern_ctx(void *obj) __ksym;
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym;

enum { HEADERS = sizeof(struct iphdr) + sizeof(struct tcphdr) };
enum { FLAG_FIN = 0x01, FLAG_SYN = 0x02, FLAG_RST = 0x04 };

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

/* Both of these kernel functions become an instruction or none: they are told to the verifier only. */
#define READ_AS(type, address) ((const type *)bpf_rdonly_cast((const void *)(address), bpf_core_type_id_kernel(type)))

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

static __always_inline void emit(__u8 place, __u32 netns, __u32 device, const struct iphdr *ip,
				 const struct tcphdr *tcp, __be32 tsval, __u32 ip_bytes,
				 bool encapsulated)
{
	/* A packet of more than 64 KiB has no room for its length and says 0. */
	__u32 total = ip->tot_len ? bpf_ntohs(ip->tot_len) : ip_bytes;
	__u32 payload = total - sizeof(*ip) - tcp->doff * 4;
	struct event *event;
	__u64 number;

	if (!speaks(tcp, payload))
		return;
	event = begin(place, netns, device, &number);
	if (!event)
		return;
	event->source = ip->saddr;
	event->destination = ip->daddr;
	event->source_port = tcp->source;
	event->destination_port = tcp->dest;
	event->seq = tcp->seq;
	event->ack = tcp->ack_seq;
	event->tsval = tsval;
	event->payload_bytes = payload;
	event->flags = tcp_flags(tcp);
	event->encapsulated = encapsulated;
	commit(event, number);
}

static __always_inline void device(struct __sk_buff *skb, __u8 place, __u32 offset,
				   bool encapsulated)
{
	void *data = (void *)(long)skb->data + offset, *end = (void *)(long)skb->data_end;
	struct iphdr *ip = data;
	struct tcphdr *tcp = (void *)(ip + 1), *options = tcp + 1;
	struct sk_buff *kernel;
	__be32 tsval = 0;

	if ((void *)(tcp + 1) > end || !followed(ip))
		return;
	if ((void *)(options + 1) <= end)
		tsval = timestamp(options);
	kernel = bpf_cast_to_kern_ctx(skb);
	emit(place, kernel->dev->nd_net.net->ns.inum, skb->ifindex, ip, tcp, tsval,
	     skb->len - offset, encapsulated);
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
	struct sk_buff *skb = ctx->skb;
	const unsigned char *header = skb->head + skb->network_header;
	const struct iphdr *ip = READ_AS(struct iphdr, header);
	const struct tcphdr *tcp = READ_AS(struct tcphdr, header + sizeof(*ip));

	/* Headers that are not in the packet's first piece are not looked for. */
	if (skb->tail - skb->network_header >= HEADERS && followed(ip))
		emit(place, ctx->state->net->ns.inum, 0, ip, tcp,
		     timestamp(READ_AS(struct tcphdr, header + HEADERS)), skb->len, false);
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

/*
 * sock_def_readable() (net/core/sock.c, since Linux 6.3) is about to wake whoever waits for the
 * socket. What can be read is a range of the stream: from what was read to what has come.
 */
SEC("raw_tp/sk_data_ready")
int readable(struct bpf_raw_tracepoint_args *ctx)
{
	const struct sock *sk = READ_AS(struct sock, ctx->args[0]);
	const struct inet_sock *inet;
	const struct tcp_sock *tcp;
	__u32 netns, read, come;
	struct event *event;
	__u64 number;

	if (sk->__sk_common.skc_family != 2 /* AF_INET */ || sk->sk_protocol != IPPROTO_TCP)
		return 0;
	inet = READ_AS(struct inet_sock, ctx->args[0]);
	if (inet->tos != settings.mark)
		return 0;
	netns = sk->__sk_common.skc_net.net->ns.inum;
	if (!bpf_map_lookup_elem(&hosts, &netns))
		return 0;
	tcp = READ_AS(struct tcp_sock, ctx->args[0]);
	read = tcp->copied_seq;
	come = tcp->rcv_nxt;
	if (come == read)
		return 0;
	event = begin(READABLE, netns, 0, &number);
	if (!event)
		return 0;
	event->source = sk->__sk_common.skc_daddr;
	event->destination = sk->__sk_common.skc_rcv_saddr;
	event->source_port = sk->__sk_common.skc_dport;
	event->destination_port = bpf_htons(sk->__sk_common.skc_num);
	event->seq = bpf_htonl(read);
	event->ack = 0;
	event->tsval = 0;
	event->payload_bytes = come - read;
	event->flags = 0;
	event->encapsulated = 0;
	commit(event, number);
	return 0;
}
