/* SPDX-License-Identifier: Apache-2.0 */
/* Where a socket has its mark and its addresses, for IPv4. */
#pragma once

static __always_inline __u8 mark_of_socket(const struct inet_sock *socket)
{
	return socket->tos;
}

static __always_inline address_t sent_by(const struct sock_common *socket)
{
	return socket->skc_daddr;
}

static __always_inline address_t sent_to(const struct sock_common *socket)
{
	return socket->skc_rcv_saddr;
}
