//! A client of HTTP that costs less than any server: prepared requests over kept-alive connections, all of them on one thread.
//!
//! Owns: a connection that asks for one entry again and again, and what clients saw.
//! Does not know: who answers, or when somebody asks.
//! Invariant: an answer counts only if it is a 200 whose body is, byte by byte, the one that was put there.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longer than any request takes.
const LONGEST_NS: u64 = 60_000_000_000;
/// Between the head of an answer and its body.
const HEAD_END: &[u8] = b"\r\n\r\n";

/// A runtime for all clients of a run: one thread.
pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// What clients saw.
pub(super) struct Seen {
    pub(super) latency_ns: Histogram<u64>,
    /// Of all bytes of all bodies.
    pub(super) sum: u64,
}

impl Seen {
    pub(super) fn nothing() -> Self {
        Self {
            latency_ns: Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("three digits"),
            sum: 0,
        }
    }

    /// An answer that was due, or asked for, at this time and is there now.
    pub(super) fn answer(&mut self, begin: Instant, sum: u64) {
        self.latency_ns
            .saturating_record(begin.elapsed().as_nanos() as u64);
        self.sum = self.sum.wrapping_add(sum);
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.latency_ns
            .add(&other.latency_ns)
            .expect("the same form");
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// The latency that this part of all answers kept within.
    pub(super) fn quantile(&self, quantile: f64) -> Duration {
        let latency_ns = self.latency_ns.value_at_quantile(quantile);
        assert!(latency_ns > 1, "no request takes no time");
        Duration::from_nanos(latency_ns)
    }

    /// The mean of all latencies.
    pub(super) fn mean(&self) -> Duration {
        Duration::from_nanos(self.latency_ns.mean() as u64)
    }
}

/// A connection that asks for one entry again and again.
pub(super) struct Client {
    stream: TcpStream,
    request: Box<[u8]>,
    answer: Vec<u8>,
    expected: Expected,
}

/// What an answer must be.
struct Expected {
    body: Bytes,
    /// Of all bytes of the body.
    sum: u64,
    /// How long the head was the last time.
    head_bytes: usize,
}

impl Client {
    /// Will ask for `path`, where this body lies.
    pub(super) async fn connect(address: SocketAddr, path: &str, body: Bytes) -> Self {
        let stream = TcpStream::connect(address)
            .await
            .expect("there is room for one more connection (see `ulimit -n`)");
        stream.set_nodelay(true).expect("a socket");
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        Self {
            stream,
            request: request.into_bytes().into(),
            answer: Vec::new(),
            expected: Expected::new(body),
        }
    }

    /// Asks once; the sum of the body's bytes.
    pub(super) async fn ask(&mut self) -> u64 {
        let sent = self.stream.write_all(&self.request).await;
        sent.expect("the server takes a request");
        self.answer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.answer).await;
            assert_ne!(read.expect("an answer"), 0, "the server hung up");
            if self.expected.is(&self.answer) {
                return self.expected.sum;
            }
        }
    }

    /// The head of the last answer.
    #[cfg(test)]
    pub(super) fn head(&self) -> &str {
        let head = &self.answer[..self.expected.head_bytes];
        std::str::from_utf8(head).expect("text")
    }
}

/// All bytes, added up.
pub(super) fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte)).sum()
}

impl Expected {
    fn new(body: Bytes) -> Self {
        Self {
            sum: sum(&body),
            body,
            head_bytes: 0,
        }
    }

    /// Whether it is here; an answer that is another one ends the run.
    fn is(&mut self, answer: &[u8]) -> bool {
        let ends_there = |head_bytes: &usize| {
            let head = answer.get(..*head_bytes);
            head.is_some_and(|head| head.ends_with(HEAD_END))
        };
        // Heads are as long as the one before but for the first.
        let known = Some(self.head_bytes).filter(ends_there);
        let found = || {
            let at = answer.windows(HEAD_END.len());
            Some(at.into_iter().position(|four| four == HEAD_END)? + HEAD_END.len())
        };
        let Some(head_bytes) = known.or_else(found) else {
            return false;
        };
        self.head_bytes = head_bytes;
        let (head, body) = answer.split_at(head_bytes);
        assert!(head.starts_with(b"HTTP/1.1 200 "), "not 200: {head:?}");
        let (length, wanted) = (body.len(), self.body.len());
        assert!(
            length <= wanted,
            "{length} bytes answer a request for {wanted}"
        );
        let is_whole = length == wanted;
        assert!(!is_whole || *body == *self.body, "another body");
        is_whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

    fn expected() -> Expected {
        Expected::new(Bytes::from_static(&[1; 1024]))
    }

    #[test]
    fn an_answer_ends_with_its_last_byte() {
        let mut expected = expected();
        let longer = [b"HTTP/1.1 200 OK\r\na: b", HEAD_END].concat();
        for head in [HEAD, &longer, HEAD] {
            let whole = [head, &[1; 1024]].concat();
            for length in [head.len() - 1, head.len(), whole.len() - 1] {
                assert!(!expected.is(&whole[..length]), "{length}");
            }
            assert!(expected.is(&whole));
            assert_eq!((expected.sum, expected.head_bytes), (1024, head.len()));
        }
    }

    #[test]
    #[should_panic(expected = "not 200")]
    fn a_refusal_is_no_answer() {
        expected().is(b"HTTP/1.1 503 Service Unavailable\r\n\r\n");
    }

    #[test]
    #[should_panic(expected = "another body")]
    fn a_byte_that_differs_is_found() {
        let mut body = [1; 1024];
        body[1000] = 2;
        expected().is(&[HEAD, &body].concat());
    }

    #[test]
    #[should_panic(expected = "1025 bytes answer")]
    fn a_byte_too_many_is_found() {
        expected().is(&[HEAD, &[1; 1025]].concat());
    }
}
