// SPDX-License-Identifier: Apache-2.0
/* The probes at hooks, for kernels that interpret programs: see probes.bpf.c. */
#include <linux/bpf.h>
#include "ipv4.h"
#include "probes.h"
#include "hooks-interpreted.h"
