/* SPDX-License-Identifier: Apache-2.0 */
/* The probe at sockets. */
#pragma once

/* Namespaces of the lab; asked by the socket's probe, which sees every socket of the machine. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u8);
} hosts SEC(".maps");

/*
 * sock_def_readable() (net/core/sock.c, since Linux 6.3) is about to wake whoever waits for the
 * socket. What can be read is a range of the stream: from what was read to what has come.
 */
SEC("raw_tp/sk_data_ready")
int readable(struct bpf_raw_tracepoint_args *ctx)
{
	const struct sock *sk = READ_AS(struct sock, ctx->args[0]);
	const struct tcp_sock *tcp;
	__u32 netns, read, come;
	struct event *event;
	__u64 number;

	if (sk->__sk_common.skc_family != FAMILY || sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (mark_of_socket(READ_AS(struct inet_sock, ctx->args[0])) != settings.mark)
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
	event->source = sent_by(&sk->__sk_common);
	event->destination = sent_to(&sk->__sk_common);
	event->source_port = sk->__sk_common.skc_dport;
	event->destination_port = bpf_htons(sk->__sk_common.skc_num);
	event->seq = bpf_htonl(read);
	event->ack = 0;
	event->tsval = 0;
	event->payload_bytes = come - read;
	event->flags = 0;
	event->encapsulated = 0;
	event->names = 0;
	commit(event, number);
	return 0;
}
