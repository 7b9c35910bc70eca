// SPDX-License-Identifier: Apache-2.0
//! What a kube-proxy says of itself on its own ports, which listen on its node's loopback only.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::plan::Mode;

/// kube-proxy's port for its mode and metrics (`metricsBindAddress`).
pub(super) const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10_249);
/// Its port for its health (`healthzBindAddress`).
pub(super) const HEALTH: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10_256);
/// How long connecting, asking and answering may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer read, bytes: all metrics of a kube-proxy are some tens of thousands.
const ANSWER_MAX: u64 = 1024 * 1024;
/// Counts what kube-proxy has written to the kernel: one metric in every mode and version, since 1.34 with
/// a label for the family of addresses (`pkg/proxy/metrics/metrics.go`).
const SYNCS: &str = "kubeproxy_sync_proxy_rules_duration_seconds_count";

/// Asks the kube-proxy of a node in which mode it runs (`/proxyMode`). To be called on the node's
/// network namespace.
///
/// # Errors
/// Nothing listens there, it does not answer in time, or it names no mode that is known.
pub(crate) async fn proxy_mode() -> io::Result<Mode> {
    mode_in(&get(METRICS, "/proxyMode").await?)
}

/// Whether the kube-proxy of a node is content with itself (`/healthz`).
///
/// # Errors
/// It is not, or cannot be asked; the answer's first line is in the error.
pub(super) async fn health() -> io::Result<()> {
    get(HEALTH, "/healthz").await.map(drop)
}

/// How often the kube-proxy of a node has brought the kernel up to date; `None` where it does not count.
///
/// # Errors
/// It cannot be asked.
pub(super) async fn syncs() -> io::Result<Option<f64>> {
    Ok(syncs_in(&get(METRICS, "/metrics").await?))
}

/// The mode that an answer of `/proxyMode` names.
fn mode_in(body: &str) -> io::Result<Mode> {
    let unknown = |problem: String| io::Error::new(io::ErrorKind::InvalidData, problem);
    body.trim().parse().map_err(unknown)
}

fn syncs_in(metrics: &str) -> Option<f64> {
    let of_line = |line: &str| {
        let rest = line.strip_prefix(SYNCS)?;
        let value = match rest.strip_prefix('{') {
            Some(labelled) => labelled.rsplit_once('}')?.1,
            None => rest.strip_prefix(' ')?,
        };
        value.trim().parse::<f64>().ok()
    };
    metrics.lines().filter_map(of_line).reduce(|sum, one| sum + one)
}

/// The body of the answer to a GET.
async fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let asked = tokio::time::timeout(PATIENCE, exchange(address, path)).await;
    let answer = asked.map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))??;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    match status.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(io::Error::other(format!("http://{address}{path} answered `{status}`"))),
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
    fn asked(answer: &'static str) -> io::Result<String> {
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
        assert!(error.ends_with("/proxyMode answered `HTTP/1.0 404 Not Found`"), "{error}");
    }

    #[test]
    fn syncs_are_counted_with_and_without_families_of_addresses() {
        let bucket = "kubeproxy_sync_proxy_rules_duration_seconds_bucket{le=\"0.1\"} 9\n";
        let sum = "kubeproxy_sync_proxy_rules_duration_seconds_sum 0.12\n";
        assert_eq!(syncs_in(&format!("{bucket}{sum}{SYNCS} 3\n")), Some(3.0));
        let both =
            format!("{SYNCS}{{ip_family=\"IPv4\"}} 3\n{SYNCS}{{ip_family=\"IPv6\"}} 1e+00\n");
        assert_eq!(syncs_in(&both), Some(4.0));
        assert_eq!(syncs_in(bucket), None);
    }
}
