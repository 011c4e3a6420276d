//! What the HTTP scenarios share: hyper's client, our front ends over an empty store, and a bare hyper server.
//!
//! Servers have a tokio runtime of their own, as in the node.
//! Does not know: what is asked for, or what a bare server answers.
#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::Child;
use std::time::Duration;

use actor_rt::System;
use bytes::Bytes;
use cas_actor::front::{Front, FrontConfig};
use cas_actor::{Store, StoreConfig};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Runtime;

/// Connections that ask at a time.
pub(super) const CONNECTIONS: u64 = 8;

/// Connections that may wait to be taken in, as many as with our front ends.
const BACKLOG: u32 = 1024;

pub(super) type Connection = SendRequest<Full<Bytes>>;

pub(super) fn runtime(workers: usize) -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .expect("a runtime")
}

pub(super) async fn connect(address: SocketAddr) -> Connection {
    let stream = TcpStream::connect(address).await.expect("it listens");
    stream.set_nodelay(true).expect("a socket");
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    tokio::spawn(connection);
    sender
}

pub(super) async fn send(
    connection: &mut Connection,
    method: Method,
    path: &str,
    body: Bytes,
) -> Response<Incoming> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .body(Full::new(body))
        .expect("a request");
    connection.ready().await.expect("the connection stays");
    connection.send_request(request).await.expect("an answer")
}

/// Runs all of them at a time; their results, added up.
pub(super) async fn together<F>(tasks: impl Iterator<Item = F>) -> u64
where
    F: Future<Output = u64> + Send + 'static,
{
    let tasks: Vec<_> = tasks.map(tokio::spawn).collect();
    let mut sum = 0_u64;
    for task in tasks {
        sum = sum.wrapping_add(task.await.expect("a connection ends"));
    }
    sum
}

pub(super) struct Server {
    pub(super) address: SocketAddr,
    ours: Option<(Front, Store, System)>,
    /// Of the store, if it is nobody else's.
    _directory: Option<tempfile::TempDir>,
}

impl Server {
    /// Our front ends over an empty store.
    pub(super) fn front(runtime: &Runtime) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the store");
        let server = Self::over(runtime, StoreConfig::new(directory.path()));
        Self {
            _directory: Some(directory),
            ..server
        }
    }

    /// Our front ends over such a store.
    pub(super) fn over(runtime: &Runtime, config: StoreConfig) -> Self {
        let system = System::new().expect("the system starts");
        let store = Store::open(config, &system).expect("nobody else has it open");
        let front = Front::new(store.clone(), &FrontConfig::default()).expect("defaults");
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let address = runtime.block_on(async { front.listen(any_port).expect("a free port") });
        Self {
            address,
            ours: Some((front, store, system)),
            _directory: None,
        }
    }

    /// Our store.
    pub(super) fn store(&self) -> Option<&Store> {
        self.ours.as_ref().map(|(_, store, ..)| store)
    }

    /// hyper alone, with what `answer` says.
    pub(super) fn bare<A, F>(runtime: &Runtime, answer: A) -> Self
    where
        A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        use hyper::server::conn::http1;

        let listener = runtime.block_on(async {
            let socket = TcpSocket::new_v4().expect("a socket");
            let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
            socket.bind(any_port).expect("a free port");
            socket.listen(BACKLOG).expect("a socket")
        });
        let address = listener.local_addr().expect("a socket");
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let answer = answer.clone();
                let service = service_fn(move |request| {
                    let answer = answer(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self {
            address,
            ours: None,
            _directory: None,
        }
    }

    pub(super) fn end(self, runtime: &Runtime) {
        let Some((front, store, system)) = self.ours else {
            return;
        };
        runtime.block_on(async {
            front.drain(Duration::from_secs(5)).await;
            store.close().await;
        });
        let _ = system.shutdown(Duration::from_secs(10));
    }
}

/// A child that is told to end, and has ended, when this is dropped.
pub(super) struct Ended(pub(super) Child);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Ok(id) = i32::try_from(self.0.id())
            && let Some(id) = rustix::process::Pid::from_raw(id)
        {
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
        let _ = self.0.wait();
    }
}
