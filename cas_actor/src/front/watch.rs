//! Telling somebody about every request.
//!
//! Owns: what is told of a request, and when: once, when the connection has written its answer. What it
//! has written lies in the buffers of the kernel; whether the client took it from there, nobody is told.
//! Does not know: who listens, or what a request means.
//! Invariants: as long as nobody listens nothing is gathered; a request that was cut off is told as
//! well, and says so; the path is told without its query, which may hold credentials; what is told has
//! a bounded size, whatever the client sent.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hyper::header::HeaderMap;
use hyper::{Request, StatusCode, Version};

/// How gRPC tells its status.
pub(super) const GRPC_STATUS: &str = "grpc-status";
/// Whose request this is part of, as W3C Trace Context has it.
const TRACEPARENT: &str = "traceparent";
/// A `traceparent` that is longer than this is none: version 00 has 55 bytes.
const MOST_TRACEPARENT_BYTES: usize = 110;
/// What is kept of a method or a path: those who listen may let many requests wait.
const MOST_TEXT_BYTES: usize = 1024;

/// Somebody who is told about every request.
pub trait Watcher: Send + Sync + 'static {
    /// A request has ended. Called by the thread that serves the connection: must not wait.
    fn served(&self, request: Served);
}

/// A request that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// `GET`, `PUT` and so on; `POST` for gRPC. At most 1,024 bytes of it.
    pub method: String,
    /// The path, without its query. At most 1,024 bytes of it.
    pub path: String,
    /// `1.0`, `1.1` or `2`.
    pub protocol: &'static str,
    /// The header `traceparent`, as it came; `None` if it is longer than 110 bytes.
    pub traceparent: Option<String>,
    /// When the request's head had come.
    pub begin: SystemTime,
    /// From then until the connection had written the last byte of the answer, or gave up.
    pub duration: Duration,
    /// The status of the answer; `None` if the client had gone before there was one.
    pub status: Option<u16>,
    /// The status of gRPC, if it was such a call and came to its end.
    pub grpc_status: Option<i32>,
    /// Bytes of the answer's body that the connection has written. Of a body that comes in pieces, such
    /// as those of gRPC, a piece counts when the connection takes it.
    pub body_bytes: u64,
    /// Whether the connection ended before the answer's body was written, as far as `body_bytes` tells.
    pub is_cut_off: bool,
}

/// A request that somebody will be told about.
pub(crate) struct Watched {
    watcher: Arc<dyn Watcher>,
    begin: Instant,
    /// Taken when it is told.
    served: Option<Served>,
}

impl Watched {
    pub(crate) fn new<B>(watcher: &Arc<dyn Watcher>, request: &Request<B>) -> Self {
        let traceparent = request.headers().get(TRACEPARENT);
        let traceparent = traceparent.and_then(|value| value.to_str().ok());
        let traceparent = traceparent.filter(|value| value.len() <= MOST_TRACEPARENT_BYTES);
        Self {
            watcher: Arc::clone(watcher),
            begin: Instant::now(),
            served: Some(Served {
                method: beginning(request.method().as_str()),
                path: beginning(request.uri().path()),
                protocol: match request.version() {
                    Version::HTTP_2 => "2",
                    Version::HTTP_10 => "1.0",
                    _ => "1.1",
                },
                traceparent: traceparent.map(str::to_owned),
                begin: SystemTime::now(),
                duration: Duration::ZERO,
                status: None,
                grpc_status: None,
                body_bytes: 0,
                is_cut_off: true,
            }),
        }
    }

    /// There is an answer; its body comes later.
    pub(crate) fn answered(&mut self, status: StatusCode, headers: &HeaderMap) {
        if let Some(served) = &mut self.served {
            served.status = Some(status.as_u16());
            // The body of such an answer is never asked for.
            served.is_cut_off &= served.method != "HEAD";
        }
        self.take_grpc_status(headers);
    }

    /// gRPC tells its status last, unless it has nothing else to tell.
    pub(crate) fn take_grpc_status(&mut self, headers: &HeaderMap) {
        let status = headers.get(GRPC_STATUS).and_then(|it| it.to_str().ok());
        if let Some(status) = status.and_then(|status| status.parse().ok())
            && let Some(served) = &mut self.served
        {
            served.grpc_status = Some(status);
        }
    }

    pub(crate) fn sent(&mut self, bytes: usize) {
        if let Some(served) = &mut self.served {
            served.body_bytes += bytes as u64;
        }
    }

    /// The body has come to its end.
    pub(crate) fn is_whole(&mut self) {
        if let Some(served) = &mut self.served {
            served.is_cut_off = false;
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(mut served) = self.served.take() {
            served.duration = self.begin.elapsed();
            self.watcher.served(served);
        }
    }
}

/// As much of a client's text as is kept.
fn beginning(text: &str) -> String {
    text[..text.floor_char_boundary(MOST_TEXT_BYTES)].to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Ear(Mutex<Vec<Served>>);

    impl Watcher for Ear {
        fn served(&self, request: Served) {
            self.0.lock().unwrap().push(request);
        }
    }

    fn told(path: &str, traceparent: &str) -> Served {
        let ear = Arc::new(Ear::default());
        let watcher: Arc<dyn Watcher> = ear.clone();
        let request = Request::get(path).header(TRACEPARENT, traceparent);
        drop(Watched::new(&watcher, &request.body(()).unwrap()));
        let mut told = std::mem::take(&mut *ear.0.lock().unwrap());
        assert_eq!(told.len(), 1);
        told.remove(0)
    }

    #[test]
    fn what_a_client_sends_is_kept_up_to_a_bound() {
        let longest = format!("/{}", "a".repeat(MOST_TEXT_BYTES - 1));
        let parent = "0".repeat(MOST_TRACEPARENT_BYTES);
        let kept = told(&format!("{longest}?query"), &parent);
        assert_eq!((kept.path, kept.traceparent), (longest, Some(parent)));
        // 1 + 511 * 2 bytes: another of these would end in the middle of the bound.
        let kept = told(
            &format!("/{}", "é".repeat(5_000)),
            &"0".repeat(MOST_TRACEPARENT_BYTES + 1),
        );
        let path = format!("/{}", "é".repeat(511));
        assert_eq!((kept.path, kept.traceparent), (path, None));
    }
}
