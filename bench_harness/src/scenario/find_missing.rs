//! What build tools ask most: which of ten thousand blobs a cache lacks, over gRPC (`FindMissingBlobs`).
//!
//! Client and server share the machine. The client is hyper with the message written by hand: it costs little, and a client
//! library would be measured with it. Half of the blobs are there; names are SHA-256, as most tools have them. Where the store was
//! opened again, no name is asked for twice.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use cas_actor::Sha256Digest;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use super::http::{self, Server};
use super::store::{STORE, blob};
use super::{Family, Scenario, filled, store_reopened};
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
    let load = Load {
        workers: options.cores.len(),
        digests: match options.scale {
            Scale::Tiny => 20,
            Scale::Quick | Scale::Full => 10_000,
        },
    };
    vec![again_and_again(options, load), reopened(options, load)]
}

#[derive(Clone, Copy)]
struct Load {
    workers: usize,
    /// Of a call.
    digests: u64,
}

/// The same question, of blobs that were just put.
fn again_and_again(options: &Options, load: Load) -> Case {
    let calls = options.count(100, 2);
    let run = move || {
        let runtime = http::runtime(load.workers);
        let server = Server::front(&runtime);
        let store = server.store().expect("ours has one").clone();
        let names: Vec<Sha256Digest> = (0..load.digests)
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
        let questions = vec![question; calls as usize];
        load.run(&runtime, server, questions)
    };
    // Every other blob is there.
    let missing = move || calls * (load.digests / 2);
    let case = Case::new(STORE, "10,000 a call", Threads::anywhere(), run);
    case.expecting(missing)
}

/// Questions of which each names others, of blobs that were put before the store was opened.
fn reopened(options: &Options, load: Load) -> Case {
    let (blobs, asked) = (
        store_reopened::blobs(options),
        store_reopened::asked(options),
    );
    let made: OnceLock<TempDir> = OnceLock::new();
    let run = move || {
        let directory = made.get_or_init(|| filled::fill(blobs, store_reopened::put_as_sha256));
        let numbers = store_reopened::half_of_them_there(blobs, asked);
        let names = numbers.map(|number| Sha256Digest::of(&filled::content(number)));
        let names: Vec<Sha256Digest> = names.collect();
        let questions = names.chunks(load.digests as usize).map(question).collect();
        let runtime = http::runtime(load.workers);
        let server = Server::over(&runtime, filled::config(directory.path()));
        load.run(&runtime, server, questions)
    };
    let variant = store_reopened::variant(options, "10,000 a call");
    Case::new(STORE, variant, Threads::anywhere(), run).expecting(move || asked)
}

impl Load {
    fn run(self, runtime: &Runtime, server: Server, questions: Vec<Bytes>) -> Sample {
        let calls = questions.len() as u64;
        let address = server.address;
        let clients = http::runtime(self.workers);
        let (elapsed, missing) = timed(|| clients.block_on(ask_all(address, questions)));
        drop(clients);
        server.end(runtime);
        Sample::kilo_rate(calls * self.digests, elapsed, missing)
    }
}

/// Asks all of them, several at a time over one connection; how many blobs are missing in all.
async fn ask_all(address: SocketAddr, questions: Vec<Bytes>) -> u64 {
    let stream = TcpStream::connect(address).await.expect("it listens");
    stream.set_nodelay(true).expect("a socket");
    let handshake = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(8 << 20)
        .handshake(TokioIo::new(stream));
    let (sender, connection) = handshake.await.expect("HTTP/2");
    tokio::spawn(connection);
    let questions: Arc<[Bytes]> = questions.into();
    let next = Arc::new(AtomicUsize::new(0));
    let askers = (0..AT_ONCE).map(|_| {
        let (mut sender, questions, next) =
            (sender.clone(), Arc::clone(&questions), Arc::clone(&next));
        async move {
            let mut missing = 0;
            while let Some(question) = questions.get(next.fetch_add(1, Relaxed)) {
                missing += ask(&mut sender, question.clone()).await;
            }
            missing
        }
    });
    http::together(askers).await
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
