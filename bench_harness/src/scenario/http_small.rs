//! Small entries of a remote cache over kept-alive connections that ask again as soon as they are answered: how many a
//! second, and how long each takes.
//!
//! 16 connections of one thread; every answer is compared byte by byte. Like stands beside like: our front ends and a bare
//! hyper server, both in this process, and a `zako node` and the same hyper server, each in a process of its own. Bare
//! hyper gives the same answers, heads included, out of a map.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cas_actor::Sha256Digest;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::http::{self, Ended, Server};
use super::http_client::{self, Client, Seen};
use super::http_get::{ENTRIES, body, sum_of_body};
use super::store::STORE;
use super::{Family, Scenario};
use crate::elapsed::{Elapsed, timed};
use crate::measure::{Case, Sample, Unit};
use crate::options::{Options, Scale};
use crate::probe::{Probe, beside};
use crate::threads::Threads;

/// `http_small`.
pub const RATE: Scenario = Scenario {
    name: "http_small",
    family: Family::Store,
    about: "entries of 1 KiB over 16 HTTP connections, in this process and of a `zako node`",
    unit: Unit::ThousandPerSecond("requests"),
    cases: rates,
};

/// `http_small_latency`.
pub const LATENCY: Scenario = Scenario {
    name: "http_small_latency",
    family: Family::Store,
    about: "how long each of these requests takes: mean, p50 and p99, of the same runs",
    unit: Unit::Milliseconds,
    cases: latencies,
};

const CONNECTIONS: u64 = 16;
const ENTRY_BYTES: u64 = 1024;
/// Ours as a process.
const NODE: &str = "zako_actors";
const HYPER: &str = "hyper";
/// Where servers are.
const HERE: &str = "in this process";
const APART: &str = "a process of its own";

/// A server that answers until it is told to end.
struct Serving {
    address: SocketAddr,
    end: Box<dyn FnOnce()>,
}

/// Who answers, and where.
#[derive(Clone, Copy)]
struct Side {
    implementation: &'static str,
    place: &'static str,
    /// Starts it with so many threads.
    serve: fn(usize) -> Serving,
    /// Requests of each connection.
    each: u64,
    workers: usize,
}

fn sides(options: &Options) -> Vec<Side> {
    let side = |implementation, place, serve| Side {
        implementation,
        place,
        serve,
        each: options.count(400_000, 64) / CONNECTIONS,
        workers: options.cores.len(),
    };
    let mut sides = vec![side(STORE, HERE, here)];
    if beside("zako").is_some() {
        sides.push(side(NODE, APART, node));
    }
    if options.peers {
        sides.push(side(HYPER, HERE, bare_here));
        // A program of tests cannot be started again as one that serves.
        let tiny = options.scale == Scale::Tiny;
        sides.push(side(HYPER, APART, if tiny { bare_here } else { bare }));
    }
    sides
}

fn rates(options: &Options) -> Vec<Case> {
    let case = |side: Side| {
        let run = move || {
            let (elapsed, seen) = side.run();
            Sample::kilo_rate(side.each * CONNECTIONS, elapsed, seen.sum)
        };
        Case::new(side.implementation, side.place, Threads::anywhere(), run)
            .expecting(move || side.sum())
    };
    sides(options).into_iter().map(case).collect()
}

/// What is told of latencies.
type Figure = fn(&Seen) -> Duration;
const FIGURES: [(&str, Figure); 3] = [
    ("mean", Seen::mean),
    ("p50", |seen| seen.quantile(0.5)),
    ("p99", |seen| seen.quantile(0.99)),
];

fn latencies(options: &Options) -> Vec<Case> {
    let mut cases = Vec::new();
    for side in sides(options) {
        let runs = Rc::new(Runs::of(side));
        for (index, (name, _)) in FIGURES.into_iter().enumerate() {
            let runs = Rc::clone(&runs);
            let variant = format!("{}, {name}", side.place);
            let run = move || runs.figure(index);
            let case = Case::new(side.implementation, variant, Threads::anywhere(), run);
            cases.push(case.expecting(move || side.sum()));
        }
    }
    cases
}

/// The runs of a side: each gives every figure once.
struct Runs {
    side: Side,
    /// Figures of runs that were not asked for yet.
    left: RefCell<[VecDeque<Sample>; FIGURES.len()]>,
}

impl Runs {
    fn of(side: Side) -> Self {
        let left = RefCell::default();
        Self { side, left }
    }

    fn figure(&self, index: usize) -> Sample {
        let mut left = self.left.borrow_mut();
        if left[index].is_empty() {
            let (_, seen) = self.side.run();
            for ((_, of), left) in FIGURES.iter().zip(left.iter_mut()) {
                left.push_back(Sample::time(of(&seen), seen.sum));
            }
        }
        left[index].pop_front().expect("a run has every figure")
    }
}

impl Side {
    /// Every byte of all answers, added up.
    fn sum(self) -> u64 {
        let of = |number: u64| sum_of_body(number % ENTRIES, ENTRY_BYTES);
        (0..CONNECTIONS).map(|number| self.each * of(number)).sum()
    }

    fn run(self) -> (Elapsed, Seen) {
        let serving = (self.serve)(self.workers);
        let clients = http_client::runtime();
        let connected = clients.block_on(self.connected(serving.address));
        let (elapsed, seen) = timed(|| clients.block_on(self.ask(connected)));
        drop(clients);
        (serving.end)();
        (elapsed, seen)
    }

    /// All connections, after some answers that do not count.
    async fn connected(self, address: SocketAddr) -> Vec<Client> {
        let mut connected = Vec::new();
        for number in 0..CONNECTIONS {
            let body = body(number % ENTRIES, ENTRY_BYTES);
            let mut client = Client::connect(address, &path(&body), body).await;
            for _ in 0..self.each.min(100) {
                client.ask().await;
            }
            connected.push(client);
        }
        connected
    }

    async fn ask(self, connected: Vec<Client>) -> Seen {
        let mut running = JoinSet::new();
        for mut client in connected {
            running.spawn(async move {
                let mut seen = Seen::nothing();
                for _ in 0..self.each {
                    let begin = Instant::now();
                    let sum = client.ask().await;
                    seen.answer(begin, sum);
                }
                seen
            });
        }
        let mut all = Seen::nothing();
        while let Some(seen) = running.join_next().await {
            all.add(&seen.expect("every request is answered"));
        }
        all
    }
}

/// Where a content is.
fn path(body: &Bytes) -> String {
    format!("/cas/{}", Sha256Digest::of(body).hex())
}

fn bodies() -> impl Iterator<Item = Bytes> {
    (0..ENTRIES).map(|entry| body(entry, ENTRY_BYTES))
}

fn put_all(runtime: &Runtime, address: SocketAddr) {
    runtime.block_on(async {
        let mut connection = http::connect(address).await;
        for body in bodies() {
            let answer = http::send(&mut connection, Method::PUT, &path(&body), body.clone()).await;
            assert!(answer.status().is_success(), "{}", answer.status());
            answer.into_body().collect().await.expect("a whole body");
        }
    });
}

/// Our front ends over a store with the entries in it.
fn here(workers: usize) -> Serving {
    let runtime = http::runtime(workers);
    let server = Server::front(&runtime);
    put_all(&runtime, server.address);
    in_process(runtime, server)
}

fn in_process(runtime: Runtime, server: Server) -> Serving {
    Serving {
        address: server.address,
        end: Box::new(move || server.end(&runtime)),
    }
}

/// hyper alone, with the entries in a map.
fn bare_here(workers: usize) -> Serving {
    let runtime = http::runtime(workers);
    let server = bare_server(&runtime);
    in_process(runtime, server)
}

fn bare_server(runtime: &Runtime) -> Server {
    let bodies: HashMap<String, Bytes> = bodies().map(|body| (path(&body), body)).collect();
    let bodies = Arc::new(bodies);
    Server::bare(runtime, move |request: Request<Incoming>| {
        let body = bodies[request.uri().path()].clone();
        let mut answer = Response::new(Full::new(body));
        // As ours says of content that is named by its hash.
        let headers = answer.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        );
        headers.insert(
            CACHE_CONTROL,
            HeaderValue::from_static("max-age=31536000, immutable"),
        );
        async move { answer }
    })
}

/// A `zako node` with the entries in it.
fn node(workers: usize) -> Serving {
    let directory = tempfile::tempdir().expect("a directory for the store");
    let mut command = Command::new(beside("zako").expect("looked for before"));
    command
        .args(["node", "--http", "127.0.0.1:0", "--data-dir"])
        .arg(directory.path());
    let child = Program::start(&mut command);
    put_all(&http::runtime(workers), child.address);
    Serving {
        address: child.address,
        end: Box::new(move || {
            drop(child);
            drop(directory);
        }),
    }
}

/// hyper alone in a process of its own.
fn bare(workers: usize) -> Serving {
    let [program, arguments @ ..] = Probe::Http { workers }.words().expect("a path");
    let child = Program::start(Command::new(program).args(arguments));
    Serving {
        address: child.address,
        end: Box::new(move || drop(child)),
    }
}

/// A server that says where it answers.
struct Program {
    address: SocketAddr,
    /// It may have more to say.
    _said: BufReader<ChildStdout>,
    _process: Ended,
}

impl Program {
    fn start(command: &mut Command) -> Self {
        // With its standard input this process is known to be alive.
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = command.spawn().expect("the program starts");
        let mut process = Ended(child);
        let said = process.0.stdout.take().expect("a pipe");
        let mut said = BufReader::new(said);
        let mut line = String::new();
        let address = loop {
            line.clear();
            let read = said.read_line(&mut line).expect("text");
            assert_ne!(read, 0, "{command:?} ended before it said where it answers");
            if let Some((_, address)) = line.trim_end().split_once("http://") {
                break address.parse().expect("an address");
            }
        };
        Self {
            address,
            _said: said,
            _process: process,
        }
    }
}

/// Bare hyper as a process: says where it answers, and does until its standard input ends.
///
/// # Errors
/// When that cannot be read.
pub fn serve_bare(workers: usize) -> io::Result<()> {
    let runtime = http::runtime(workers);
    let server = bare_server(&runtime);
    println!("http://{}", server.address);
    io::stdin().read_to_end(&mut Vec::new())?;
    server.end(&runtime);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server answers to a request for the first entry, but for the time.
    fn head_by(serve: fn(usize) -> Serving) -> Vec<String> {
        let serving = serve(1);
        let head = http_client::runtime().block_on(async {
            let body = body(0, ENTRY_BYTES);
            let mut client = Client::connect(serving.address, &path(&body), body).await;
            client.ask().await;
            client.head().to_owned()
        });
        (serving.end)();
        let lines = head.lines().filter(|line| !line.starts_with("date:"));
        lines.map(str::to_owned).collect()
    }

    #[test]
    fn bare_hyper_answers_the_same_bytes_as_ours() {
        let ours = head_by(here);
        assert_eq!(ours, head_by(bare_here));
        assert!(ours.contains(&"content-length: 1024".to_owned()));
    }

    #[test]
    fn figures_of_a_run_are_told_once_each_whatever_the_order() {
        let side = sides(&Options::tiny())[0];
        let runs = Runs::of(Side { each: 2, ..side });
        for index in [1, 0, 2, 2, 1, 0] {
            let sample = runs.figure(index);
            assert!(sample.value > 0.0);
            assert_eq!(sample.checksum, Side { each: 2, ..side }.sum());
        }
        // Two runs of three figures each.
        assert!(runs.left.borrow().iter().all(VecDeque::is_empty));
    }
}
