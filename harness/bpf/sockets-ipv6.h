/* SPDX-License-Identifier: Apache-2.0 */
/* Where a socket has its mark and its addresses, for IPv6. */
#pragma once

static __always_inline __u8 mark_of_socket(const struct inet_sock *socket)
{
	return socket->pinet6->tclass;
}

static __always_inline address_t sent_by(const struct sock_common *socket)
{
	return address_of(&socket->skc_v6_daddr);
}

static __always_inline address_t sent_to(const struct sock_common *socket)
{
	return address_of(&socket->skc_v6_rcv_saddr);
}
