//! Telling somebody about every request.
//!
//! Owns: what is told of a request, and when: once, when its answer is gone.
//! Does not know: who listens, or what a request means.
//! Invariants: as long as nobody listens nothing is gathered; a request that was cut off is told as
//! well, and says so; the path is told without its query, which may hold credentials.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hyper::header::HeaderMap;
use hyper::{Request, StatusCode, Version};

/// How gRPC tells its status.
const GRPC_STATUS: &str = "grpc-status";
/// Whose request this is part of, as W3C Trace Context has it.
const TRACEPARENT: &str = "traceparent";

/// Somebody who is told about every request.
pub trait Watcher: Send + Sync + 'static {
    /// A request has ended. Called by the thread that serves the connection: must not wait.
    fn served(&self, request: Served);
}

/// A request that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// `GET`, `PUT` and so on; `POST` for gRPC.
    pub method: String,
    /// The path, without its query.
    pub path: String,
    /// `1.0`, `1.1` or `2`.
    pub protocol: &'static str,
    /// The header `traceparent`, as it came.
    pub traceparent: Option<String>,
    /// When the request's head had come.
    pub begin: SystemTime,
    /// From then until the last byte of the answer was handed to the connection.
    pub duration: Duration,
    /// The status of the answer; `None` if the client had gone before there was one.
    pub status: Option<u16>,
    /// The status of gRPC, if it was such a call and came to its end.
    pub grpc_status: Option<i32>,
    /// Bytes of the answer's body that were handed to the connection.
    pub body_bytes: u64,
    /// Whether the answer ended before its body did.
    pub is_cut_off: bool,
}

/// A request that somebody will be told about.
pub(crate) struct Watched {
    watcher: Arc<dyn Watcher>,
    begin: Instant,
    served: Served,
}

impl Watched {
    pub(crate) fn new<B>(watcher: &Arc<dyn Watcher>, request: &Request<B>) -> Self {
        let traceparent = request.headers().get(TRACEPARENT);
        let traceparent = traceparent.and_then(|value| value.to_str().ok());
        Self {
            watcher: Arc::clone(watcher),
            begin: Instant::now(),
            served: Served {
                method: request.method().to_string(),
                path: request.uri().path().to_owned(),
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
            },
        }
    }

    /// There is an answer; its body comes later.
    pub(crate) fn answered(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.served.status = Some(status.as_u16());
        self.take_grpc_status(headers);
        // The body of such an answer is never asked for.
        self.served.is_cut_off &= self.served.method != "HEAD";
    }

    /// gRPC tells its status last, unless it has nothing else to tell.
    pub(crate) fn take_grpc_status(&mut self, headers: &HeaderMap) {
        let status = headers.get(GRPC_STATUS).and_then(|it| it.to_str().ok());
        if let Some(status) = status.and_then(|status| status.parse().ok()) {
            self.served.grpc_status = Some(status);
        }
    }

    pub(crate) fn sent(&mut self, bytes: usize) {
        self.served.body_bytes += bytes as u64;
    }

    /// The body has come to its end.
    pub(crate) fn is_whole(&mut self) {
        self.served.is_cut_off = false;
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.served.duration = self.begin.elapsed();
        self.watcher.served(self.served.clone());
    }
}
