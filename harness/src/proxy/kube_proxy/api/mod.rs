// SPDX-License-Identifier: Apache-2.0
//! An API server as small as a kube-proxy needs: it lists what is in one table of Services, tells what is
//! added to it, and takes events and forgets them. It listens on a node's loopback, without TLS, and
//! answers in JSON.

mod body;
mod objects;
mod query;
mod resource;
mod server;
mod store;

pub use server::ApiServer;

#[cfg(test)]
mod tests;
