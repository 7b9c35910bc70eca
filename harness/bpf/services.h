/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of packets. Whoever includes it has defined parse(), find_way(), forward() and refuse(). */
#pragma once

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
	struct tuple other = reverse(becomes);
	struct connection *found = bpf_map_lookup_elem(&connections, &other);

	if (found && reversed(&found->becomes, own))
		bpf_map_delete_elem(&connections, &other);
}

/* Makes the entry of the answers' direction, if no connection has its tuple. */
static __always_inline bool claim(const struct tuple *back, const struct connection *answers,
				  __u64 now)
{
	struct connection *taken;

	if (!bpf_map_update_elem(&connections, back, answers, BPF_NOEXIST))
		return true;
	taken = bpf_map_lookup_elem(&connections, back);
	if (!taken || (taken->state != RESET && alive(taken, now)))
		return false;
	forget_other(back, &taken->becomes);
	return !bpf_map_update_elem(&connections, back, answers, BPF_ANY);
}

/* Makes both entries of a new connection. The client's port is kept where it is free. */
static __noinline bool track(const struct packet *packet, struct connection *forth, __u64 now)
{
	struct tuple back;
	NEW_CONNECTION(answers, 1, false);

	*answers = *forth;
	answers->becomes = reverse(&packet->tuple);
	answers->answers = true;
	answers->way.ifindex = 0;
#pragma clang loop unroll(disable)
	for (int try = 0; try < PORT_TRIES; try++) {
		if (try) {
			__u32 port = bpf_get_prandom_u32() % (65536 - PORT_FIRST) + PORT_FIRST;

			forth->becomes.source_port = bpf_htons(port);
		}
		back = reverse(&forth->becomes);
		if (claim(&back, answers, now))
			return !bpf_map_update_elem(&connections, &packet->tuple, forth, BPF_ANY);
	}
	return false;
}

static __always_inline __u32 choose(const struct service *service, __u32 count,
				    address_t address, __u64 now)
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

/* What a packet becomes, and where it goes. */
struct next {
	struct tuple becomes;
	struct way way;
};

/* No verdicts of tc's: the packet is to be sent on, as `next` has it; or answered with a reset. */
#define FORWARD (-2)
#define REFUSE (-3)

/* A packet of no known connection: if it is for a Service, it begins one. */
static MAYBE_INLINE int begins(struct __sk_buff *skb, const struct packet *packet,
				  bool from_pod, __u64 now, struct next *next)
{
	struct frontend at = {
		.address = packet->tuple.destination,
		.port = packet->tuple.destination_port,
		.protocol = packet->tuple.protocol,
	};
	struct service *service = bpf_map_lookup_elem(&services, &at);
	struct endpoint *endpoint;
	__u32 count, place;
	NEW_CONNECTION(forth, 0, DROP);

	if (!service)
		return PASS;
	if (!opens(packet))
		return REFUSE;
	count = from_pod ? service->inside : service->outside;
	if (!count)
		return service->elsewhere || !is_tcp(packet) ? DROP : REFUSE;
	place = choose(service, count, packet->tuple.source, now);
	endpoint = bpf_map_lookup_elem(&endpoints, &place);
	if (!endpoint)
		return DROP;
	__builtin_memset(forth, 0, sizeof(*forth));
	forth->becomes = packet->tuple;
	forth->packets = 1;
	forth->endpoint = place;
	forth->service = service->id;
	forth->state = is_tcp(packet) ? OPENING : DATAGRAMS;
	forth->seen_ns = forth->told_ns = now;
	forth->becomes.destination = endpoint->address;
	forth->becomes.destination_port = endpoint->port;
	if (!find_way(skb, packet, &forth->becomes, &forth->way))
		return DROP;
	if (equal(&endpoint->address, &packet->tuple.source) || (!from_pod && !endpoint->here)) {
		address_t *source = bpf_map_lookup_elem(&sources, &forth->way.ifindex);

		forth->becomes.source = source ? *source : settings.address;
	}
	if (!track(packet, forth, now))
		return DROP;
	next->becomes = forth->becomes;
	next->way = forth->way;
	return FORWARD;
}

static __always_inline int enters(struct __sk_buff *skb, bool from_pod)
{
	struct packet packet = {};
	struct connection *known;
	struct next next = {};
	__u64 now;

	/* A switch floods what it knows no port for. Not so for pods: behind a bridge port, what is
	 * for the bridge or a neighbour is not for the port either. */
	if (!from_pod && skb->pkt_type != PACKET_HOST)
		return PASS;
	if (!parse(skb, &packet))
		return PASS;
	now = bpf_ktime_get_coarse_ns();
	known = bpf_map_lookup_elem(&connections, &packet.tuple);
	if (known) {
		next.becomes = known->becomes;
		if (!alive(known, now) || (is_tcp(&packet) && opens(&packet) && !known->answers &&
					   known->state >= HALF_CLOSED)) {
			forget_other(&packet.tuple, &next.becomes);
			known = NULL;
		}
	}
	if (!known) {
		int verdict = begins(skb, &packet, from_pod, now, &next);

		if (verdict == REFUSE)
			return refuse(skb, &packet);
		if (verdict != FORWARD)
			return verdict;
	} else {
		next.way = known->way;
		if (passes(known, &packet, now) || !next.way.ifindex) {
			if (!find_way(skb, &packet, &next.becomes, &next.way))
				return DROP;
			known->way = next.way;
		}
	}
	return forward(skb, &packet, &next.becomes, &next.way);
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
