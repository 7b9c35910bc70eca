// SPDX-License-Identifier: Apache-2.0
//! Waiting for a host's network to become what it should.

use std::time::Duration;

use futures_util::StreamExt;
use rtnetlink::MulticastGroup;

use super::state::read;
use super::{NetError, Netns, State};

impl Netns {
    /// Waits until `done` with the host's network, looking each time the kernel tells of an
    /// interface that changed.
    ///
    /// # Errors
    /// It is not so within `patience` ([`std::io::ErrorKind::TimedOut`]), or the kernel refuses.
    pub fn wait_for(
        &self,
        patience: Duration,
        done: impl Fn(&State) -> bool + Send + 'static,
    ) -> Result<State, NetError> {
        let host = self.name().to_owned();
        self.block_on(move || async move {
            let timed_out = std::io::Error::from(std::io::ErrorKind::TimedOut);
            tokio::time::timeout(patience, watch(&host, done))
                .await
                .unwrap_or_else(|_elapsed| Err(NetError::os("await change of", host)(timed_out)))
        })
    }
}

async fn watch(host: &str, done: impl Fn(&State) -> bool) -> Result<State, NetError> {
    let (connection, handle, mut changes) =
        rtnetlink::new_multicast_connection(&[MulticastGroup::Link])
            .map_err(NetError::os("open netlink socket on", host))?;
    let _driver = Driver(tokio::spawn(connection));
    loop {
        // Read after the subscription, so that no change falls between the two.
        let state = read(&handle, host).await?;
        if done(&state) {
            return Ok(state);
        }
        if changes.next().await.is_none() {
            let closed = std::io::ErrorKind::BrokenPipe.into();
            return Err(NetError::os("listen to changes of", host)(closed));
        }
        // One look for all changes that came meanwhile.
        while changes.try_recv().is_ok() {}
    }
}

/// A connection's task, ended with the work that needs it.
struct Driver(tokio::task::JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}
