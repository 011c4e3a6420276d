//! Blobs on their way into a remote cache over HTTP: kept-alive connections that upload one new blob after another.
//!
//! Uploads go to `/cas/SHA-256`, which our front ends answer once the blob is on disk. Beside them a bare hyper server
//! that reads a body, checks its name and writes a file of its own for it, with the same promise: synced, renamed, and the
//! directory synced. Afterwards, outside the measured time, everything is read back for the checksum.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use cas_actor::Sha256Digest;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use tokio::runtime::Runtime;

use super::files::Files;
use super::http::{self, CONNECTIONS, Connection, Server};
use super::store::{STORE, blob, sum, sum_of_blobs};
use super::{Family, Scenario};
use crate::elapsed::timed;
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;
use crate::threads::Threads;

/// `http_put`.
pub const SCENARIO: Scenario = Scenario {
    name: "http_put",
    family: Family::Store,
    about: "new blobs into a remote cache over 8 HTTP connections, small and large, on disk when answered",
    unit: Unit::ThousandPerSecond("requests"),
    cases,
};

fn cases(options: &Options) -> Vec<Case> {
    let workers = options.cores.len();
    let mut cases = Vec::new();
    for (variant, bytes, requests) in [
        ("1 KiB", 1024, options.count(8_000, 40)),
        ("16 MiB", 16 << 20, options.count(40, 2)),
    ] {
        let case = |implementation, serve: fn(&Runtime) -> Server| {
            let run = move || run(serve, workers, bytes, requests);
            Case::new(implementation, variant, Threads::anywhere(), run)
                .expecting(move || sum_of_blobs(requests, bytes))
        };
        cases.push(case(STORE, Server::front));
        if options.peers {
            cases.push(case("hyper, file per blob", bare));
        }
    }
    cases
}

/// Where a blob goes, and the blob.
type Upload = (String, Bytes);

fn run(serve: fn(&Runtime) -> Server, workers: usize, bytes: usize, requests: u64) -> Sample {
    let uploads: Vec<Upload> = (0..requests)
        .map(|number| {
            let blob = blob(number, bytes);
            (format!("/cas/{}", Sha256Digest::of(&blob).hex()), blob)
        })
        .collect();
    let share = uploads.len().div_ceil(CONNECTIONS as usize);
    let shares: Vec<Arc<[Upload]>> = uploads.chunks(share).map(Arc::from).collect();

    let runtime = http::runtime(workers);
    let server = serve(&runtime);
    let address = server.address;
    let clients = http::runtime(workers);
    let (elapsed, stored) = timed(|| {
        let tasks = shares.iter().map(|share| put(address, Arc::clone(share)));
        clients.block_on(http::together(tasks))
    });
    assert_eq!(stored, requests);
    let tasks = shares.iter().map(|share| get(address, Arc::clone(share)));
    let sum = clients.block_on(http::together(tasks));
    drop(clients);
    server.end(&runtime);
    Sample::kilo_rate(requests, elapsed, sum)
}

/// Uploads blobs over one connection; how many were taken.
async fn put(address: SocketAddr, uploads: Arc<[Upload]>) -> u64 {
    let mut connection = http::connect(address).await;
    for (path, blob) in &*uploads {
        let body = blob.clone();
        body_of(&mut connection, Method::PUT, path, body).await;
    }
    uploads.len() as u64
}

/// Reads blobs back over one connection; every word is added up.
async fn get(address: SocketAddr, uploads: Arc<[Upload]>) -> u64 {
    let mut connection = http::connect(address).await;
    let mut all = 0_u64;
    for (path, _) in &*uploads {
        let body = body_of(&mut connection, Method::GET, path, Bytes::new()).await;
        all = all.wrapping_add(sum(&body));
    }
    all
}

/// The body of an answer, which has to be 200.
async fn body_of(connection: &mut Connection, method: Method, path: &str, body: Bytes) -> Bytes {
    let answer = http::send(connection, method, path, body).await;
    assert_eq!(answer.status(), StatusCode::OK, "{path}");
    let body = answer.into_body().collect().await;
    body.expect("a whole body").to_bytes()
}

/// One file per blob behind hyper.
fn bare(runtime: &Runtime) -> Server {
    let directory = tempfile::tempdir().expect("a directory for the files");
    let files = Files::new(directory.path(), true);
    let place = Arc::new((files, directory));
    Server::bare(runtime, move |request| answer(Arc::clone(&place), request))
}

async fn answer(
    place: Arc<(Files, tempfile::TempDir)>,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let name = request.uri().path().trim_start_matches("/cas/").to_owned();
    let is_upload = request.method() == Method::PUT;
    let body = request.into_body().collect().await;
    let body = body.expect("a whole body").to_bytes();
    let answer = move || {
        let (files, _) = &*place;
        let mut answer = Response::default();
        if !is_upload {
            *answer.body_mut() = Full::new(files.get(&name).into());
        } else if Sha256Digest::of(&body).hex() == name {
            files.put(&name, &body);
        } else {
            *answer.status_mut() = StatusCode::BAD_REQUEST;
        }
        answer
    };
    let answered = tokio::task::spawn_blocking(answer).await;
    answered.expect("the disk works")
}
