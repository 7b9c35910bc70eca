// SPDX-License-Identifier: Apache-2.0
/* The proxy mode `ebpf` for IPv6: see proxy.bpf.c. */
#include <linux/bpf.h>
#include "ipv6.h"
#include "proxy.h"
#include "proxy-ipv6.h"
#include "services.h"
