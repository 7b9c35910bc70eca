// SPDX-License-Identifier: Apache-2.0
/*
 * The probes of the engine `bpf`. Each writes one event when a segment of a followed connection
 * passes it: when, where, and the headers that tell the segment from all others.
 *
 * A followed connection is marked by its type of service, which NAT, routing and VXLAN leave alone;
 * any other packet costs a probe a few loads. Places are told apart by program (netfilter hooks,
 * which are linked per network namespace) or by program and device (tc).
 *
 * A kernel that has no compiler of BPF for its processor, or does not use it, interprets programs,
 * and refuses those that call kernel functions (kernel/bpf/verifier.c: "JIT is required for calling
 * kernel function"). User-Mode Linux is one. For it there are devices-interpreted.bpf.c and
 * hooks-interpreted.bpf.c, which do the same with helpers only.
 *
 * Here are the probes for IPv4; each source has one beside it for IPv6. A ring has events of one family.
 */
#include <linux/bpf.h>
#include "ipv4.h"
#include "probes.h"
#include "compiled.h"
#include "devices.h"
#include "hooks.h"
#include "sockets-ipv4.h"
#include "sockets.h"
