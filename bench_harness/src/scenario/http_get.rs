//! Entries of a remote cache over HTTP: kept-alive connections that ask one request after another.
//!
//! The server has a tokio runtime of its own, as in the node; the client is hyper's. Beside it a bare hyper server with
//! the same bodies in a map: what HTTP itself costs.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actor_rt::System;
use bytes::Bytes;
use cas_actor::front::{Front, FrontConfig};
use cas_actor::{Store, StoreConfig};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use super::actors::{timed, workers};
use super::store::STORE;
use super::{Family, Scenario};
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;

/// `http_get`.
pub const SCENARIO: Scenario = Scenario {
    name: "http_get",
    family: Family::Store,
    about: "entries of a remote cache over 8 HTTP connections, small and large",
    unit: Unit::ThousandPerSecond("requests"),
    cases,
};

const CONNECTIONS: u64 = 8;
/// Different entries.
const ENTRIES: u64 = 16;

fn cases(options: &Options) -> Vec<Case> {
    let workers = workers(options);
    let mut cases = Vec::new();
    for (variant, bytes, requests) in [
        ("1 KiB", 1024, options.count(100_000, 40)),
        ("1 MiB", 1 << 20, options.count(2_000, 8)),
    ] {
        let case = |implementation, serve: fn(&Runtime, u64) -> Server| Case {
            implementation,
            variant: variant.into(),
            spinning: 0,
            run: Box::new(move || run(serve, workers, bytes, requests)),
        };
        cases.push(case(STORE, Server::front));
        if options.peers {
            cases.push(case("hyper", Server::bare));
        }
    }
    cases
}

fn runtime(workers: usize) -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .expect("a runtime")
}

fn body(entry: u64, bytes: u64) -> Bytes {
    (0..bytes)
        .map(|byte| (byte.wrapping_mul(31) + entry) as u8)
        .collect()
}

fn path(entry: u64) -> String {
    format!("/ccache/{entry:064x}")
}

fn run(serve: fn(&Runtime, u64) -> Server, workers: usize, bytes: u64, requests: u64) -> Sample {
    let runtime = runtime(workers);
    let server = serve(&runtime, bytes);
    let address = server.address;
    let clients = self::runtime(workers);
    let each = requests / CONNECTIONS;
    let (elapsed, sum) = timed(|| {
        clients.block_on(async {
            let connections: Vec<_> = (0..CONNECTIONS)
                .map(|first| tokio::spawn(ask(address, first, each)))
                .collect();
            let mut sum = 0_u64;
            for connection in connections {
                sum = sum.wrapping_add(connection.await.expect("a connection ends"));
            }
            sum
        })
    });
    drop(clients);
    server.end(&runtime);
    Sample::kilo_rate(each * CONNECTIONS, elapsed, sum)
}

/// Asks for so many entries over one connection; every byte is added up.
async fn ask(address: SocketAddr, first: u64, count: u64) -> u64 {
    let mut connection = connect(address).await;
    let mut sum = 0_u64;
    for number in 0..count {
        let request = request(Method::GET, (first + number) % ENTRIES, Bytes::new());
        let answer = send(&mut connection, request).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.expect("a whole body");
            let bytes = frame.data_ref().map_or(&[][..], |bytes| bytes);
            sum = bytes.iter().fold(sum, |sum, byte| sum + u64::from(*byte));
        }
    }
    sum
}

async fn connect(address: SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(address).await.expect("it listens");
    stream.set_nodelay(true).expect("a socket");
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    tokio::spawn(connection);
    sender
}

async fn send(
    connection: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Response<Incoming> {
    connection.ready().await.expect("the connection stays");
    connection.send_request(request).await.expect("an answer")
}

fn request(method: Method, entry: u64, body: Bytes) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(path(entry))
        .header("host", "localhost")
        .body(Full::new(body))
        .expect("a request")
}

struct Server {
    address: SocketAddr,
    ours: Option<(Front, Store, System, tempfile::TempDir)>,
}

impl Server {
    /// Our front ends over a store with the entries in it.
    fn front(runtime: &Runtime, bytes: u64) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the store");
        let system = System::new().expect("the system starts");
        let store = Store::open(StoreConfig::new(directory.path()), &system).expect("a new store");
        let front = Front::new(store.clone(), &FrontConfig::default()).expect("defaults");
        let address = runtime.block_on(async {
            let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
            let address = front.listen(any_port).expect("a free port");
            let mut connection = connect(address).await;
            for entry in 0..ENTRIES {
                let request = request(Method::PUT, entry, body(entry, bytes));
                let answer = send(&mut connection, request).await;
                assert!(answer.status().is_success(), "{}", answer.status());
                answer.into_body().collect().await.expect("a whole body");
            }
            address
        });
        Self {
            address,
            ours: Some((front, store, system, directory)),
        }
    }

    /// hyper alone, with the bodies in memory.
    fn bare(runtime: &Runtime, bytes: u64) -> Self {
        use hyper::server::conn::http1;
        use hyper::service::service_fn;
        use std::collections::HashMap;

        let bodies: HashMap<String, Bytes> = (0..ENTRIES)
            .map(|entry| (path(entry), body(entry, bytes)))
            .collect();
        let bodies = Arc::new(bodies);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("a socket");
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let bodies = Arc::clone(&bodies);
                let service = service_fn(move |request: Request<Incoming>| {
                    let body = bodies[request.uri().path()].clone();
                    async move { Ok::<_, std::convert::Infallible>(Response::new(Full::new(body))) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self {
            address,
            ours: None,
        }
    }

    fn end(self, runtime: &Runtime) {
        let Some((front, store, system, _directory)) = self.ours else {
            return;
        };
        runtime.block_on(async {
            front.drain(Duration::from_secs(5)).await;
            store.close().await;
        });
        let _ = system.shutdown(Duration::from_secs(10));
    }
}
