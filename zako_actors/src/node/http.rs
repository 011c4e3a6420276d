//! The node's HTTP server.
//!
//! Owns connections and routes. Does not know what the pages say.
//! Invariants: at most [`CONNECTIONS`] at a time, the next one waits in the system's queue; a
//! request's head must arrive within [`HEAD_TIMEOUT`]; whatever a peer sends, only its own
//! connection suffers.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use super::{Node, health, metrics};

/// Connections at a time.
const CONNECTIONS: usize = 1024;
/// From the first byte of a connection to the end of a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// A running server.
pub struct Server {
    accepting: JoinHandle<GracefulShutdown>,
    stop: watch::Sender<bool>,
}

impl Server {
    /// Starts answering on `listener`.
    pub fn start(node: Arc<Node>, listener: TcpListener) -> Self {
        let (stop, stopped) = watch::channel(false);
        let accepting = tokio::spawn(accept(node, listener, stopped));
        Self { accepting, stop }
    }

    /// Takes no more connections and waits for those that are open, `limit` at the longest.
    pub async fn drain(self, limit: Duration) {
        self.stop.send_replace(true);
        if let Ok(open) = self.accepting.await
            && tokio::time::timeout(limit, open.shutdown()).await.is_err()
        {
            tracing::warn!("connections were still open after {limit:?}");
        }
    }
}

async fn accept(
    node: Arc<Node>,
    listener: TcpListener,
    mut stopped: watch::Receiver<bool>,
) -> GracefulShutdown {
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let permit = tokio::select! {
            _ = stopped.changed() => return graceful,
            permit = Arc::clone(&room).acquire_owned() => permit,
        };
        let accepted = tokio::select! {
            _ = stopped.changed() => return graceful,
            accepted = listener.accept() => accepted,
        };
        match (accepted, permit) {
            (Ok((stream, _)), Ok(permit)) => {
                let connection = graceful.watch(serve(Arc::clone(&node), stream));
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!("a connection ended early: {error}");
                    }
                    drop(permit);
                });
            }
            (Err(error), _) => {
                // Out of descriptors, say. Those that are open will end; then there is room again.
                tracing::warn!("cannot take a connection: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            (Ok(_), Err(_)) => return graceful,
        }
    }
}

type Connection = http1::Connection<TokioIo<TcpStream>, Pages>;

/// The node as hyper sees it.
struct Pages(Arc<Node>);

impl Service<Request<Incoming>> for Pages {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let node = Arc::clone(&self.0);
        Box::pin(async move { Ok(answer(&node, request).await) })
    }
}

fn serve(node: Arc<Node>, stream: TcpStream) -> Connection {
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), Pages(node))
}

async fn answer(node: &Node, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let known = matches!(request.uri().path(), "/" | "/healthz" | "/metrics");
    if known && !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".into());
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/" => page(
            StatusCode::OK,
            TEXT,
            "zako node\n/healthz  health per component\n/metrics  figures for Prometheus\n".into(),
        ),
        "/healthz" => {
            let report = health::check(node).await;
            let status = if report.healthy {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            };
            let body = serde_json::to_string_pretty(&report).unwrap_or_default();
            page(status, "application/json", body + "\n")
        }
        "/metrics" => page(StatusCode::OK, METRICS, metrics::render(node).await),
        path => page(
            StatusCode::NOT_FOUND,
            TEXT,
            format!("nothing at {path}; see /\n"),
        ),
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

fn page(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
