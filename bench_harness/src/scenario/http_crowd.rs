//! Many connections, few of them busy: how soon the busy ones are answered, and whether all are.
//!
//! 5,000 kept-alive connections are open. 64 of them ask, as fast as they are answered or at a steady pace, for the entries
//! of `http_get`; then each of the others asks once, so that a connection which was forgotten shows. Beside our front ends
//! the bare hyper server of `http_get` under the same crowd: the floor of this machine. The clients are one thread that
//! writes prepared requests and counts bytes, which costs less than any server. Whatever is not answered with 200 and the
//! whole body ends the run.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time;

use super::http::{self, Server};
use super::http_client::{self, Client, Seen};
use super::http_get::{ENTRIES, bare, body, front, path, sum_of_body};
use super::store::STORE;
use super::{Family, Scenario};
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;
use crate::threads::Threads;

/// `http_crowd`.
pub const SCENARIO: Scenario = Scenario {
    name: "http_crowd",
    family: Family::Store,
    about: "latency of 64 busy connections among 5,000 open ones, all of them answered",
    unit: Unit::Milliseconds,
    cases,
};

const ENTRY_BYTES: u64 = 1024;
/// How often a paced connection asks; 64 of them ask 16,000 times a second.
const PACE: Duration = Duration::from_millis(4);

/// How late a timer of tokio may be by itself, and some more: from so long before on, a client looks at the clock.
const SHORTLY: Duration = Duration::from_millis(2);

/// What one run does.
#[derive(Clone, Copy)]
struct Load {
    open: u64,
    busy: u64,
    /// Requests of each busy connection.
    each: u64,
    pace: Option<Duration>,
    quantile: f64,
    workers: usize,
}

impl Load {
    /// Every byte of all answers, added up: each busy connection asks often, each of the others once.
    fn sum(self) -> u64 {
        let sums = (0..self.open).map(|number| {
            let times = if number < self.busy { self.each } else { 1 };
            times * sum_of_body(number % ENTRIES, ENTRY_BYTES)
        });
        sums.sum()
    }
}

fn cases(options: &Options) -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, pace, each) in [
        ("as fast as answered", None, options.count(5_000, 5)),
        ("16,000/s", Some(PACE), options.count(750, 5)),
    ] {
        for (percentile, quantile) in [("p50", 0.5), ("p99", 0.99)] {
            let load = Load {
                open: options.count(25_000, 40).min(5_000),
                busy: options.count(320, 8).min(64),
                each,
                pace,
                quantile,
                workers: options.cores.len(),
            };
            let case = |implementation, serve: fn(&Runtime, u64) -> Server| {
                let variant = format!("{name}, {percentile}");
                let run = move || run(serve, load);
                Case::new(implementation, variant, Threads::anywhere(), run)
                    .expecting(move || load.sum())
            };
            cases.push(case(STORE, front));
            if options.peers {
                cases.push(case("hyper", bare));
            }
        }
    }
    cases
}

fn run(serve: fn(&Runtime, u64) -> Server, load: Load) -> Sample {
    allow_files(2 * load.open + 512);
    let runtime = http::runtime(load.workers);
    let server = serve(&runtime, ENTRY_BYTES);
    let clients = http_client::runtime();
    let seen = clients.block_on(crowd(server.address, load));
    drop(clients);
    server.end(&runtime);
    Sample::time(seen.quantile(load.quantile), seen.sum)
}

/// Lets this process have so many files open, if it may.
fn allow_files(wanted: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let current = Some(limit.maximum.map_or(wanted, |most| most.min(wanted)));
    // Where it may not, a connection fails and says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current, ..limit });
}

/// A connection that asks for its entry again and again.
async fn client(address: SocketAddr, number: u64) -> Client {
    let entry = number % ENTRIES;
    Client::connect(address, &path(entry), body(entry, ENTRY_BYTES)).await
}

async fn crowd(address: SocketAddr, load: Load) -> Seen {
    let mut idle = Vec::new();
    for number in load.busy..load.open {
        idle.push(client(address, number).await);
    }
    let mut running = JoinSet::new();
    for number in 0..load.busy {
        let client = client(address, number).await;
        running.spawn(ask(client, number, load));
    }
    let mut all = Seen::nothing();
    while let Some(seen) = running.join_next().await {
        let seen = seen.expect("every request of a busy connection is answered");
        all.add(&seen);
    }
    for mut client in idle {
        all.sum = all.sum.wrapping_add(client.ask().await);
    }
    all
}

/// Asks so many times over one connection. Paced ones take turns within the pace, and each question counts from when it was
/// due, whatever made it late.
async fn ask(mut client: Client, number: u64, load: Load) -> Seen {
    let mut seen = Seen::nothing();
    let turn = |pace: Duration| pace.mul_f64(number as f64 / load.busy as f64);
    let mut due = load.pace.map(|pace| (Instant::now() + turn(pace), pace));
    for _ in 0..load.each {
        let begin = match &mut due {
            None => Instant::now(),
            Some((next, pace)) => {
                let due = *next;
                *next += *pace;
                until(due).await;
                due
            }
        };
        let sum = client.ask().await;
        seen.answer(begin, sum);
    }
    seen
}

/// Sleeps until shortly before a moment, then looks at the clock and lets others have the thread and the core in between.
async fn until(due: Instant) {
    if let Some(early) = due.checked_sub(SHORTLY)
        && early > Instant::now()
    {
        time::sleep_until(early.into()).await;
    }
    while Instant::now() < due {
        std::thread::yield_now();
        tokio::task::yield_now().await;
    }
}
