/* SPDX-License-Identifier: Apache-2.0 */
/* How probes at devices tell the namespace, where a kernel interprets programs. */
#pragma once

/*
 * The namespace that a packet is in: a constant, because the loader loads these programs once for
 * each namespace. (Which is why they are an object of their own, and one that reads no structure of
 * the kernel's: to find those takes longer than all else.) bpf_get_netns_cookie() does not say it:
 * at tc it answers with the namespace of the packet's socket, and a packet that comes in has none
 * (net/core/filter.c).
 */
static __always_inline __u32 namespace(struct __sk_buff *skb)
{
	return settings.netns;
}

#include "devices.h"
