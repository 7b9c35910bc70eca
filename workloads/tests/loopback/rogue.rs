// SPDX-License-Identifier: Apache-2.0
//! Servers that do what `target` never does, of blocking sockets and a thread per connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::SockRef;

use crate::workload::place;

/// A listener that hands each connection to a function on a thread of its own.
pub(crate) struct Rogue {
    pub(crate) at: SocketAddr,
    over: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Rogue {
    pub(crate) fn new(serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let at = place();
        let listener = TcpListener::bind(at).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let (ended, serve) = (over.clone(), Arc::new(serve));
        let accepting = std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if ended.load(Ordering::Acquire) {
                    break;
                }
                let serve = serve.clone();
                // The client ends every connection with a RST: an error here is the usual end.
                std::thread::spawn(move || drop(serve(stream)));
            }
        });
        Self { at, over, accepting: Some(accepting) }
    }
}

impl Drop for Rogue {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        // Wakes the accept; if that cannot be, the thread ends with the process.
        if TcpStream::connect_timeout(&self.at, Duration::from_secs(1)).is_ok() {
            let _ = self.accepting.take().map(JoinHandle::join);
        }
    }
}

/// A server's end of an HTTP/1.1 connection.
pub(crate) struct Talk {
    reader: BufReader<TcpStream>,
    /// Bytes of requests read so far.
    pub(crate) read: u64,
    /// Bytes of responses written so far.
    pub(crate) written: u64,
}

impl Talk {
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { reader: BufReader::new(stream), read: 0, written: 0 })
    }

    /// Reads a request to its end; returns the length of its body, by what it announces and by
    /// what there is.
    pub(crate) fn request(&mut self) -> io::Result<u64> {
        let mut length = 0;
        loop {
            let mut line = String::new();
            let bytes = self.reader.read_line(&mut line)?;
            if bytes == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.read += bytes as u64;
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(io::Error::other)?;
            } else if line.is_empty() {
                break;
            }
        }
        let body = io::copy(&mut (&mut self.reader).take(length), &mut io::sink())?;
        self.read += body;
        if body == length { Ok(length) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    pub(crate) fn respond(&mut self, text: &str) -> io::Result<()> {
        self.reader.get_mut().write_all(text.as_bytes())?;
        self.written += text.len() as u64;
        Ok(())
    }

    /// Ends the stream with a FIN and waits for the client to end it too.
    pub(crate) fn close(self) -> io::Result<()> {
        close(self.reader.into_inner())
    }

    /// Ends the connection with a RST.
    pub(crate) fn reset(self) -> io::Result<()> {
        reset(&self.reader.into_inner())
    }

    /// Says nothing until the client ends the connection.
    pub(crate) fn hold(mut self) -> io::Result<()> {
        io::copy(&mut self.reader, &mut io::sink()).map(drop)
    }
}

/// Ends a stream with a FIN; what the client says is read, or the FIN would be a RST.
pub(crate) fn close(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown(std::net::Shutdown::Write)?;
    io::copy(&mut stream, &mut io::sink()).map(drop)
}

/// Makes dropping the stream a RST.
pub(crate) fn reset(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

/// A whole response.
pub(crate) fn response(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}
