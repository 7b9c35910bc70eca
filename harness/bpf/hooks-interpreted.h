/* SPDX-License-Identifier: Apache-2.0 */
/* How probes at hooks read packets, where a kernel interprets programs. */
#pragma once

/*
 * Memory behind the packet and the hook's state, which the kernel vouches for, is read as if it were
 * IPv6 addresses to be printed. bpf_probe_read_kernel() would do it directly, but that helper is there
 * only with CONFIG_BPF_EVENTS, which User-Mode Linux cannot have: it needs kprobes or uprobes
 * (kernel/trace/Kconfig). Without it, loads through pointers that the kernel does not vouch for read
 * zeros, and the verifier does not say so (kernel/bpf/core.c, bpf_probe_read_kernel_common()).
 * bpf_snprintf() is always there (Linux 5.13), and for %pi6 copies the 16 bytes at an address, zeros
 * if it is none, and writes them as 32 digits (kernel/bpf/helpers.c, bpf_bprintf_prepare()).
 */
enum { PRINTED = 16, DIGITS = 2 * PRINTED };

/* Pieces of that length that hold IP, TCP, the first options, and a few bytes of whatever follows. */
enum { PIECES = (IP_BYTES + 2 * sizeof(struct tcphdr) + PRINTED - 1) / PRINTED };

static const char one_printed[] SEC(".rodata.formats") = "%pi6";
/* Of all pieces but the first, and of the namespace: as many as there are pieces. */
static const char rest_printed[] SEC(".rodata.formats") = REST_PRINTED;

_Static_assert(sizeof(rest_printed) == PIECES * sizeof("%pi6") - PIECES + 1, "a format for each piece");

/* Four bytes out of their eight digits, all at once. The digits are 0 to 9 and a to f, of which the
 * latter have bit 6 set and the value 1 to 6 in the four lowest. */
static __always_inline __u32 bytes_of(__u64 digits)
{
	__u64 value = (digits & 0x0f0f0f0f0f0f0f0f) + (digits >> 6 & 0x0101010101010101) * 9;

	value = (value << 4 | value >> 8) & 0x00ff00ff00ff00ff;
	value = (value | value >> 8) & 0x0000ffff0000ffff;
	return value | value >> 16;
}

/* An event, if the headers of a packet at a hook are those of a followed connection. */
static __always_inline void headers(__u8 place, struct bpf_nf_ctx *ctx)
{
	struct sk_buff *skb = ctx->skb;
	__u64 from = (__u64)skb->head + skb->network_header;
	__u64 addresses[PIECES];
	union {
		__u32 words[PIECES * PRINTED / sizeof(__u32)];
		struct {
			header_t ip;
			struct tcphdr tcp, options;
		};
	} header;
	__u64 digits[PIECES * DIGITS / sizeof(__u64) + 1]; /* and the zero at the end */

	if (bpf_snprintf((char *)digits, DIGITS + 1, one_printed, &from, sizeof(from)) < 0)
		return;
	for (int i = 0; i < 4; i++)
		header.words[i] = bytes_of(digits[i]);
	if (!followed(&header.ip))
		return;
	for (int i = 1; i < PIECES; i++)
		addresses[i - 1] = from + i * PRINTED;
	addresses[PIECES - 1] = (__u64)&ctx->state->net->ns.inum;
	if (bpf_snprintf((char *)digits, PIECES * DIGITS + 1, rest_printed, addresses, sizeof(addresses)) < 0)
		return;
	for (int i = 0; i < (PIECES - 1) * 4; i++)
		header.words[4 + i] = bytes_of(digits[i]);
	emit(place, bytes_of(digits[(PIECES - 1) * 4]), 0, &header.ip, &header.tcp, timestamp(&header.options), skb->len, false);
}

#include "hooks.h"
