// SPDX-License-Identifier: Apache-2.0
/* The probes of the engine `bpf` for IPv6: see probes.bpf.c. */
#include <linux/bpf.h>
#include "ipv6.h"
#include "probes.h"
#include "compiled.h"
#include "devices.h"
#include "hooks.h"
#include "sockets-ipv6.h"
#include "sockets.h"
