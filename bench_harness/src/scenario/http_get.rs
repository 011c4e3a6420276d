//! Entries of a remote cache over HTTP: kept-alive connections that ask one request after another.
//!
//! Beside our front ends a bare hyper server with the same bodies in a map: what HTTP itself costs.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use tokio::runtime::Runtime;

use super::http::{self, CONNECTIONS, Server};
use super::http_client;
use super::store::STORE;
use super::{Family, Scenario};
use crate::elapsed::timed;
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;
use crate::threads::Threads;

/// `http_get`.
pub const SCENARIO: Scenario = Scenario {
    name: "http_get",
    family: Family::Store,
    about: "entries of a remote cache over 8 HTTP connections, small and large",
    unit: Unit::ThousandPerSecond("requests"),
    cases,
};

/// Different entries.
pub(super) const ENTRIES: u64 = 16;

fn cases(options: &Options) -> Vec<Case> {
    let workers = options.cores.len();
    let mut cases = Vec::new();
    for (variant, bytes, requests) in [
        ("1 KiB", 1024, options.count(100_000, 40)),
        ("1 MiB", 1 << 20, options.count(2_000, 8)),
    ] {
        let case = |implementation, serve: fn(&Runtime, u64) -> Server| {
            let run = move || run(serve, workers, bytes, requests);
            Case::new(implementation, variant, Threads::anywhere(), run).expecting(move || {
                let asked = (0..CONNECTIONS).map(|first| (first, requests / CONNECTIONS));
                sum_of_bodies(asked, bytes)
            })
        };
        cases.push(case(STORE, front));
        if options.peers {
            cases.push(case("hyper", bare));
        }
    }
    cases
}

/// One entry.
pub(super) fn body(entry: u64, bytes: u64) -> Bytes {
    (0..bytes)
        .map(|byte| (byte.wrapping_mul(31) + entry) as u8)
        .collect()
}

/// Every byte of the bodies, added up, where each connection asks so many times from one entry on.
fn sum_of_bodies(asked: impl Iterator<Item = (u64, u64)>, bytes: u64) -> u64 {
    let sums: Vec<u64> = (0..ENTRIES)
        .map(|entry| sum_of_body(entry, bytes))
        .collect();
    let sums_of = |(first, count)| {
        let entries = (first..first + count).map(|number| number % ENTRIES);
        entries.map(|entry| sums[entry as usize]).sum::<u64>()
    };
    asked.map(sums_of).sum()
}

/// Every byte of one entry, added up.
pub(super) fn sum_of_body(entry: u64, bytes: u64) -> u64 {
    http_client::sum(&body(entry, bytes))
}

pub(super) fn path(entry: u64) -> String {
    format!("/ccache/{entry:064x}")
}

fn run(serve: fn(&Runtime, u64) -> Server, workers: usize, bytes: u64, requests: u64) -> Sample {
    let runtime = http::runtime(workers);
    let server = serve(&runtime, bytes);
    let address = server.address;
    let clients = http::runtime(workers);
    let each = requests / CONNECTIONS;
    let (elapsed, sum) = timed(|| {
        let tasks = (0..CONNECTIONS).map(|first| ask(address, first, each));
        clients.block_on(http::together(tasks))
    });
    drop(clients);
    server.end(&runtime);
    Sample::kilo_rate(each * CONNECTIONS, elapsed, sum)
}

/// Asks for so many entries over one connection; every byte is added up.
async fn ask(address: SocketAddr, first: u64, count: u64) -> u64 {
    let mut connection = http::connect(address).await;
    let mut sum = 0_u64;
    for number in 0..count {
        let path = path((first + number) % ENTRIES);
        let answer = http::send(&mut connection, Method::GET, &path, Bytes::new()).await;
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

/// Our front ends over a store with the entries in it.
pub(super) fn front(runtime: &Runtime, bytes: u64) -> Server {
    let server = Server::front(runtime);
    runtime.block_on(async {
        let mut connection = http::connect(server.address).await;
        for entry in 0..ENTRIES {
            let body = body(entry, bytes);
            let answer = http::send(&mut connection, Method::PUT, &path(entry), body).await;
            assert!(answer.status().is_success(), "{}", answer.status());
            answer.into_body().collect().await.expect("a whole body");
        }
    });
    server
}

/// hyper alone, with the bodies in memory.
pub(super) fn bare(runtime: &Runtime, bytes: u64) -> Server {
    let bodies: HashMap<String, Bytes> = (0..ENTRIES)
        .map(|entry| (path(entry), body(entry, bytes)))
        .collect();
    let bodies = Arc::new(bodies);
    Server::bare(runtime, move |request: Request<Incoming>| {
        let body = bodies[request.uri().path()].clone();
        async move { Response::new(Full::new(body)) }
    })
}
