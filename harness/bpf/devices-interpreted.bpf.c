// SPDX-License-Identifier: Apache-2.0
/* The probes at devices, for kernels that interpret programs: see probes.bpf.c. */
#include <linux/bpf.h>
#include "ipv4.h"
#include "probes.h"
#include "devices-interpreted.h"
