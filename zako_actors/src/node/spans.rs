//! `--otel` of a node: every request that it has served as a span.
//!
//! Owns what a request's span says, and the task that sends them. Does not know where they go (`spans`).
//! Invariants: a request never waits for a collector; what a slow one leaves behind is bounded, and what
//! was dropped is counted and told, once when it begins and once when it is over; a caller who wants no
//! spans gets none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use cas_actor::front::{Served, Watcher};
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanKind, Status};
use opentelemetry_sdk::trace::SpanData;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::spans::{BATCH, Exporter, Parent};

/// Requests that wait for a collector; of more the spans are dropped.
const BACKLOG: usize = 16 * BATCH;
/// How long spans wait for others that can be sent with them, unless enough are there.
const GATHER: Duration = Duration::from_millis(200);

/// The front ends' side.
struct Spans {
    requests: mpsc::Sender<Served>,
    lost: Arc<Lost>,
}

/// What the two sides know of spans that are not sent.
#[derive(Default)]
struct Lost {
    /// Dropped because too many waited, and not yet looked at.
    dropped: AtomicU64,
    /// Whether everybody knows that none are sent any more.
    is_end_known: AtomicBool,
}

impl Watcher for Spans {
    fn served(&self, request: Served) {
        match self.requests.try_send(request) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                self.lost.dropped.fetch_add(1, Relaxed);
            }
            Err(TrySendError::Closed(_)) => {
                if !self.lost.is_end_known.swap(true, Relaxed) {
                    // Who writes to a standard output that nobody reads panics.
                    tracing::warn!(
                        "--otel: no spans are sent any more: what sends them has failed, as it does when standard output is closed; start the node again to have them"
                    );
                }
            }
        }
    }
}

/// The task that sends.
pub(super) struct Sending {
    task: JoinHandle<()>,
    end: oneshot::Sender<()>,
    lost: Arc<Lost>,
}

impl Sending {
    /// Sends what is left, for so long.
    pub(super) async fn end(self, patience: Duration) {
        self.lost.is_end_known.store(true, Relaxed);
        // If the task has ended before, that was told.
        let _ = self.end.send(());
        if tokio::time::timeout(patience, self.task).await.is_err() {
            tracing::warn!("spans of the last requests were not delivered");
        }
    }
}

/// Begins to send to `to`, on the current tokio runtime.
///
/// # Errors
/// When there can be no such collector.
pub(super) fn start(to: &str) -> Result<(Arc<dyn Watcher>, Sending), String> {
    let exporter = Exporter::new(to, "zako-node")?;
    let (requests, receiver) = mpsc::channel(BACKLOG);
    let (end, ended) = oneshot::channel();
    let lost = Arc::<Lost>::default();
    let spans = Spans {
        requests,
        lost: Arc::clone(&lost),
    };
    let task = tokio::spawn(send(exporter, receiver, ended, Arc::clone(&lost)));
    Ok((Arc::new(spans), Sending { task, end, lost }))
}

async fn send(
    exporter: Exporter,
    mut requests: mpsc::Receiver<Served>,
    mut ended: oneshot::Receiver<()>,
    lost: Arc<Lost>,
) {
    let mut is_working = true;
    // Since they began to be dropped.
    let mut dropped = 0;
    let mut batch = Vec::with_capacity(BATCH);
    while gather(&mut requests, &mut ended, &mut batch).await {
        let spans: Vec<SpanData> = batch.drain(..).filter_map(span).collect();
        if spans.is_empty() {
            continue;
        }
        let number = spans.len();
        let sent = exporter.export(spans).await;
        match &sent {
            Ok(()) if !is_working => tracing::info!("the collector of spans takes them again"),
            Err(error) if is_working => {
                tracing::warn!("--otel: {number} spans were not delivered: {error}");
            }
            _ => {}
        }
        is_working = sent.is_ok();
        let more = lost.dropped.swap(0, Relaxed);
        if dropped == 0 && more > 0 {
            tracing::warn!("--otel: spans are dropped: {BACKLOG} wait for the collector");
        }
        dropped += more;
        if dropped > 0 && requests.is_empty() {
            tracing::warn!("--otel: {dropped} spans were dropped; now none wait for the collector");
            dropped = 0;
        }
    }
}

/// Takes requests: enough of them, or those that come in a moment; `false` when there will be none.
async fn gather(
    requests: &mut mpsc::Receiver<Served>,
    ended: &mut oneshot::Receiver<()>,
    batch: &mut Vec<Served>,
) -> bool {
    let first = tokio::select! {
        biased;
        first = requests.recv() => first,
        _ = &mut *ended, if !requests.is_closed() => {
            requests.close();
            requests.recv().await
        }
    };
    let Some(first) = first else {
        return false;
    };
    batch.push(first);
    if batch.len() + requests.len() < BATCH && !requests.is_closed() {
        tokio::time::sleep(GATHER).await;
    }
    while batch.len() < BATCH
        && let Ok(next) = requests.try_recv()
    {
        batch.push(next);
    }
    true
}

/// What a request looks like to a collector, by OpenTelemetry's conventions for HTTP and RPC.
fn span(request: Served) -> Option<SpanData> {
    let caller = request.traceparent.as_deref().and_then(Parent::read);
    let parent = caller.unwrap_or_else(Parent::none);
    if !parent.is_sampled {
        return None;
    }
    let path = request.path.trim_start_matches('/');
    let name = match request.grpc_status {
        Some(_) => path.to_owned(),
        // Keys and hashes would be a name of their own each.
        None => match path.split_once('/') {
            Some((first, _)) => format!("{} /{first}/", request.method),
            None => format!("{} /{path}", request.method),
        },
    };
    let mut attributes = vec![
        KeyValue::new("http.request.method", request.method.clone()),
        KeyValue::new("url.path", request.path.clone()),
        KeyValue::new("network.protocol.version", request.protocol),
        KeyValue::new("http.response.body.size", number(request.body_bytes)),
    ];
    if let Some(status) = request.status {
        attributes.push(KeyValue::new(
            "http.response.status_code",
            i64::from(status),
        ));
    }
    if let (Some(status), Some((service, method))) = (request.grpc_status, path.split_once('/')) {
        attributes.push(KeyValue::new("rpc.system", "grpc"));
        attributes.push(KeyValue::new("rpc.service", service.to_owned()));
        attributes.push(KeyValue::new("rpc.method", method.to_owned()));
        attributes.push(KeyValue::new("rpc.grpc.status_code", i64::from(status)));
    }
    let time = (request.begin, request.begin + request.duration);
    let mut span = parent.child(SpanKind::Server, name, time, attributes);
    span.status = match request {
        Served { status: None, .. } => Status::error("the client went before there was an answer"),
        Served {
            status: Some(500..),
            ..
        } => Status::error("the node could not answer"),
        Served {
            is_cut_off: true, ..
        } => Status::error("the client went before the answer's end"),
        _ => Status::Unset,
    };
    Some(span)
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use futures_util::FutureExt;

    use super::*;

    fn request() -> Served {
        Served {
            method: "GET".to_owned(),
            path: "/ccache/0123".to_owned(),
            protocol: "1.1",
            traceparent: None,
            begin: SystemTime::UNIX_EPOCH,
            duration: Duration::from_millis(3),
            status: Some(200),
            grpc_status: None,
            body_bytes: 7,
            is_cut_off: false,
        }
    }

    #[test]
    fn a_span_has_a_name_that_others_share_and_the_time_of_its_request() {
        let span = span(request()).unwrap();
        assert_eq!(span.name, "GET /ccache/");
        let time = span.end_time.duration_since(span.start_time).unwrap();
        assert_eq!(time, Duration::from_millis(3));
        assert_eq!(span.status, Status::Unset);
        let call = super::span(Served {
            path: "/build.bazel.remote.execution.v2.ActionCache/GetActionResult".to_owned(),
            grpc_status: Some(5),
            ..request()
        });
        let call = call.unwrap();
        assert!(call.name.ends_with("ActionCache/GetActionResult"));
        let status = KeyValue::new("rpc.grpc.status_code", 5_i64);
        assert!(call.attributes.contains(&status));
    }

    #[tokio::test]
    async fn a_batch_that_is_there_waits_for_nothing() {
        let (spans, mut requests) = mpsc::channel(BACKLOG);
        let (_end, mut ended) = oneshot::channel();
        for _ in 0..2 * BATCH + 1 {
            spans.try_send(request()).unwrap();
        }
        for left in [Some(BATCH + 1), Some(1), None] {
            let mut batch = Vec::new();
            let gathered = gather(&mut requests, &mut ended, &mut batch).now_or_never();
            assert_eq!(gathered, left.map(|_| true));
            if let Some(left) = left {
                assert_eq!((batch.len(), requests.len()), (BATCH, left));
            }
        }
    }

    #[test]
    fn that_none_are_sent_any_more_is_told_once_and_not_taken_for_too_many() {
        let (requests, receiver) = mpsc::channel(1);
        let lost = Arc::<Lost>::default();
        let spans = Spans {
            requests,
            lost: Arc::clone(&lost),
        };
        let known = || (lost.dropped.load(Relaxed), lost.is_end_known.load(Relaxed));
        spans.served(request());
        assert_eq!(known(), (0, false));
        spans.served(request());
        assert_eq!(known(), (1, false));
        drop(receiver);
        spans.served(request());
        spans.served(request());
        assert_eq!(known(), (1, true));
    }

    #[test]
    fn what_went_wrong_is_an_error_and_who_wants_no_span_gets_none() {
        let without_answer = Served {
            status: None,
            ..request()
        };
        let failed = Served {
            status: Some(503),
            ..request()
        };
        let cut_off = Served {
            is_cut_off: true,
            ..request()
        };
        for wrong in [without_answer, failed, cut_off] {
            let span = span(wrong).unwrap();
            assert!(matches!(span.status, Status::Error { .. }), "{span:?}");
        }
        let quiet = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
        let quiet = Served {
            traceparent: Some(quiet.to_owned()),
            ..request()
        };
        assert!(span(quiet).is_none());
    }
}
