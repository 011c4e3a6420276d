//! What build tools ask most: which of ten thousand blobs a cache lacks, over gRPC (`FindMissingBlobs`).
//!
//! Client and server share the machine. The client is hyper with the message written by hand: it costs little, and a client
//! library would be measured with it. Half of the blobs are there; names are SHA-256, as most tools have them.
#![forbid(unsafe_code)]

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cas_actor::Sha256Digest;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::http::{self, Server};
use super::store::{STORE, blob};
use super::{Family, Scenario};
use crate::elapsed::timed;
use crate::measure::{Case, Sample, Unit};
use crate::options::{Options, Scale};
use crate::threads::Threads;

/// `find_missing`.
pub const SCENARIO: Scenario = Scenario {
    name: "find_missing",
    family: Family::Store,
    about: "FindMissingBlobs over gRPC, 10,000 digests a call, half of them there; one connection, four calls at a time",
    unit: Unit::ThousandPerSecond("digests"),
    cases,
};

const CALL: &str = "/build.bazel.remote.execution.v2.ContentAddressableStorage/FindMissingBlobs";
const AT_ONCE: u64 = 4;
const BLOB_BYTES: usize = 64;
/// The field of `blob_digests` in the question and of `missing_blob_digests` in the answer, a message.
const DIGESTS: u8 = 2 << 3 | 2;
/// The fields of a digest: its hash, a text, and its size, a number.
const HASH: u8 = 1 << 3 | 2;
const SIZE: u8 = 2 << 3;
/// What comes before a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

fn cases(options: &Options) -> Vec<Case> {
    let workers = options.cores.len();
    let digests = match options.scale {
        Scale::Tiny => 20,
        Scale::Quick | Scale::Full => 10_000,
    };
    let calls = options.count(100, 2);
    let run = move || run(workers, digests, calls);
    // Every other blob is there.
    let missing = move || calls * (digests / 2);
    let case = Case::new(STORE, "10,000 a call", Threads::anywhere(), run);
    vec![case.expecting(missing)]
}

fn run(workers: usize, digests: u64, calls: u64) -> Sample {
    let runtime = http::runtime(workers);
    let server = Server::front(&runtime);
    let store = server.store().expect("ours has one").clone();
    let names: Vec<Sha256Digest> = (0..digests)
        .map(|number| {
            let content = blob(number, BLOB_BYTES);
            let name = Sha256Digest::of(&content);
            if number % 2 == 0 {
                let put = runtime.block_on(store.put_as_sha256(name, content));
                put.expect("the disk has room");
            }
            name
        })
        .collect();
    drop(store);
    let question = question(&names);
    let address = server.address;
    let clients = http::runtime(workers);
    let (elapsed, missing) = timed(|| {
        clients.block_on(async {
            let stream = TcpStream::connect(address).await.expect("it listens");
            stream.set_nodelay(true).expect("a socket");
            let handshake = http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(1 << 20)
                .initial_connection_window_size(8 << 20)
                .handshake(TokioIo::new(stream));
            let (sender, connection) = handshake.await.expect("HTTP/2");
            tokio::spawn(connection);
            let next = Arc::new(std::sync::atomic::AtomicU64::new(0));
            let askers = (0..AT_ONCE).map(|_| {
                let (mut sender, question, next) =
                    (sender.clone(), question.clone(), Arc::clone(&next));
                async move {
                    let mut missing = 0;
                    while next.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < calls {
                        missing += ask(&mut sender, question.clone()).await;
                    }
                    missing
                }
            });
            http::together(askers).await
        })
    });
    drop(clients);
    server.end(&runtime);
    Sample::kilo_rate(calls * digests, elapsed, missing)
}

/// The question as it goes over the wire.
fn question(names: &[Sha256Digest]) -> Bytes {
    let mut message = BytesMut::new();
    for name in names {
        let hash = name.hex();
        // All lengths and sizes here are below 128, one byte each.
        let digest_bytes = 2 + hash.len() as u8 + 2;
        message.extend_from_slice(&[DIGESTS, digest_bytes, HASH, hash.len() as u8]);
        message.extend_from_slice(hash.as_bytes());
        message.extend_from_slice(&[SIZE, name.size_bytes() as u8]);
    }
    let mut framed = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    framed.extend_from_slice(&[0]);
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(&message);
    framed.freeze()
}

/// Asks, reads the whole answer, and counts what is missing.
async fn ask(sender: &mut http2::SendRequest<Full<Bytes>>, question: Bytes) -> u64 {
    let request = Request::post(format!("http://localhost{CALL}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(question))
        .expect("a request");
    let answer = sender.send_request(request).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    let body = answer.into_body().collect().await.expect("a whole answer");
    let status = body
        .trailers()
        .and_then(|trailers| trailers.get("grpc-status"));
    assert_eq!(status.map(|status| status.as_bytes()), Some(&b"0"[..]));
    let body = body.to_bytes();
    let mut rest = &body[PREFIX_BYTES..];
    let mut missing = 0;
    while let [DIGESTS, length, after @ ..] = rest {
        rest = &after[usize::from(*length)..];
        missing += 1;
    }
    assert!(rest.is_empty(), "nothing but digests");
    missing
}
