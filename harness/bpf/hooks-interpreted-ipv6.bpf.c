// SPDX-License-Identifier: Apache-2.0
/* The probes at hooks for IPv6, for kernels that interpret programs: see probes.bpf.c. */
#include <linux/bpf.h>
#include "ipv6.h"
#include "probes.h"
#include "hooks-interpreted.h"
