// SPDX-License-Identifier: Apache-2.0
//! What a kube-proxy says of itself on its own port, which listens on its node's loopback only.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::KubeError;
use crate::plan::Mode;

/// kube-proxy's port for health and metrics (`metricsBindAddress`).
const PORT: u16 = 10_249;
/// How long connecting, asking and answering may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer read, bytes.
const ANSWER_MAX: u64 = 64 * 1024;

/// Asks the kube-proxy of a node in which mode it runs (`/proxyMode`). To be called on the node's
/// network namespace.
///
/// # Errors
/// Nothing listens there, it does not answer in time, or it names no mode that is known.
pub async fn proxy_mode() -> Result<Mode, KubeError> {
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, PORT);
    let body = get(address.into(), "/proxyMode").await?;
    mode_in(&body)
}

/// The mode that an answer of `/proxyMode` names.
fn mode_in(body: &str) -> Result<Mode, KubeError> {
    body.trim().parse().map_err(|problem| KubeError::Answer {
        subject: "kube-proxy's answer to /proxyMode".to_owned(),
        problem,
    })
}

/// The body of the answer to a GET.
async fn get(address: SocketAddr, path: &str) -> Result<String, KubeError> {
    let failed = |source| KubeError::Port { subject: format!("http://{address}{path}"), source };
    let asked = tokio::time::timeout(PATIENCE, exchange(address, path)).await;
    let answer =
        asked.map_err(|_elapsed| failed(io::ErrorKind::TimedOut.into()))?.map_err(failed)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    match status.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(failed(io::Error::other(format!("it answered `{status}`")))),
    }
}

/// HTTP/1.0, whose answers come in one piece and end with the connection.
async fn exchange(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks a server that gives this answer to whatever it is asked.
    fn asked(answer: &'static str) -> Result<String, KubeError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let serve = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                let read = stream.read(&mut request).await.unwrap();
                assert!(request[..read].starts_with(b"GET /proxyMode HTTP/1.0\r\n"));
                stream.write_all(answer.as_bytes()).await.unwrap();
            };
            tokio::join!(get(address, "/proxyMode"), serve).0
        })
    }

    #[test]
    fn the_mode_is_the_answers_body() {
        let body = asked("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\niptables").unwrap();
        assert_eq!(mode_in(&body).unwrap(), Mode::Iptables);
    }

    #[test]
    fn an_answer_that_is_no_mode_is_shown() {
        let error = mode_in("kernelspace").unwrap_err().to_string();
        assert!(error.contains("`kernelspace` is not one of"), "{error}");
        let error = asked("HTTP/1.0 404 Not Found\r\n\r\nnothing").unwrap_err().to_string();
        assert!(error.ends_with("/proxyMode: it answered `HTTP/1.0 404 Not Found`"), "{error}");
    }
}
