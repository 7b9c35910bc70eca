// SPDX-License-Identifier: Apache-2.0
//! Bytes both ways, whatever carries them.

use tokio::io::{AsyncRead, AsyncWrite};

/// Bytes both ways, in the clear or not.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}
