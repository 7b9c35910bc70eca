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
 * What it does not do, and leaves to the stack as it is: fragments, packets with IP options or
 * extension headers, ICMP errors about translated packets, connections that the node itself opens
 * (they do not enter by any device). Packets longer than the MTU of the way on are dropped: TCP's segments are not.
 *
 * Here are the programs for IPv4; proxy-ipv6.bpf.c has those for IPv6. What becomes of packets is the
 * same, services.h. A node has the programs of one family, and the others' packets pass them.
 */
#include <linux/bpf.h>
#include "ipv4.h"
#include "proxy.h"
#include "proxy-ipv4.h"
#include "services.h"
