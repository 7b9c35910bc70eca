// SPDX-License-Identifier: Apache-2.0
//! What an agent says on its standard error.

use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use crate::net::process::STDERR_LIMIT;

/// The start of an agent's standard error, kept while the rest is drained so that the agent never
/// blocks on it.
#[derive(Debug)]
pub(super) struct LastWords {
    text: Arc<Mutex<Vec<u8>>>,
    ended: mpsc::Receiver<()>,
}

impl LastWords {
    pub(super) fn keep(mut stderr: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let (end, ended) = mpsc::sync_channel(1);
        let kept = Arc::clone(&text);
        std::thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok(length @ 1..) = stderr.read(&mut buffer) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                let room = STDERR_LIMIT.saturating_sub(kept.len());
                kept.extend_from_slice(&buffer[..length.min(room)]);
            }
            let _ = end.send(());
        });
        Self { text, ended }
    }

    pub(super) fn so_far(&self) -> String {
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// All of it, for an agent that has ended: waits until the stream has too, which a child of
    /// the agent may hold open.
    pub(super) fn to_the_end(&self, patience: Duration) -> String {
        let _ = self.ended.recv_timeout(patience);
        self.so_far()
    }
}
