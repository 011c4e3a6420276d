//! A node that is killed again and again while clients of every dialect write: what it has acknowledged is
//! there afterwards and intact, what it has not is absent or complete.
//!
//! `ZAKO_NODE_KILL_ROUNDS=200 cargo test -p zako_tests --test node_killed -- --nocapture` kills it as often
//! as that; without the variable it dies [`ROUNDS`] times.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use zako_tests::Node;
use zako_tests::wire::{call, call_with, curl, digest, field, http, number, sha256, write};

const ROUNDS: u64 = 12;
/// Acknowledged writes after which the node is killed, if every dialect has one: at least so many, and less
/// than twice as many.
const ACKNOWLEDGED: u64 = 24;

/// Ways to store something, each with a writer of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    BazelBlob,
    BazelResult,
    Ccache,
    Sccache,
    Gradle,
    Turborepo,
    Nx,
    ByteStream,
    BatchUpdate,
    /// A blob, and then the result of an action that names it.
    ActionCache,
    Zako,
}

use Dialect::*;

const DIALECTS: [Dialect; 11] = [
    BazelBlob,
    BazelResult,
    Ccache,
    Sccache,
    Gradle,
    Turborepo,
    Nx,
    ByteStream,
    BatchUpdate,
    ActionCache,
    Zako,
];

/// A path over HTTP and what is to be found there.
type Entry = (String, Vec<u8>);

impl Dialect {
    /// What a client stores for a seed, in the order in which it is stored.
    fn entries(self, seed: u64) -> Vec<Entry> {
        let content = content(seed);
        let hash = sha256(&content);
        let path = match self {
            BazelBlob | ByteStream | BatchUpdate => format!("/cas/{hash}"),
            // Its standard output is the content.
            BazelResult => return vec![(format!("/ac/{hash}"), field(5, &content))],
            Ccache => format!("/ccache/{}/{}", &hash[..2], &hash[2..]),
            Sccache => format!("/sccache/{}/{hash}", &hash[..1]),
            Gradle => format!("/gradle/{hash}"),
            Turborepo => format!("/v8/artifacts/{hash}?teamId=team"),
            Nx => format!("/v1/cache/{hash}"),
            ActionCache => {
                let output = [field(1, b"out"), field(2, &digest(&content))].concat();
                let result = field(2, &output);
                let action = format!("/ac/{hash}");
                return vec![(format!("/cas/{hash}"), content), (action, result)];
            }
            Zako => format!("/cas/{}", blake3::hash(&content).to_hex()),
        };
        vec![(path, content)]
    }

    /// Stores it; whether the node has acknowledged all of it.
    fn store(self, address: &str, entries: &[Entry]) -> bool {
        let origin = format!("http://{address}");
        let (path, content) = &entries[0];
        match self {
            ByteStream => write(&mut over_grpc(), &origin, content),
            BatchUpdate => {
                let blob = [field(1, &digest(content)), field(2, content)].concat();
                let stored = [field(1, &digest(content)), field(2, b"")].concat();
                let method = "ContentAddressableStorage/BatchUpdateBlobs";
                reapi(&origin, method, &field(2, &blob)) == Some(field(1, &stored))
            }
            ActionCache => {
                let result = &entries[1].1;
                let request = [field(2, &digest(content)), field(3, result)].concat();
                let method = "ActionCache/UpdateActionResult";
                write(&mut over_grpc(), &origin, content)
                    && reapi(&origin, method, &request).as_ref() == Some(result)
            }
            Zako => {
                let url = format!("{origin}/zako.v1.Transport/Upload");
                let (size, hash) = (content.len() as u64, blake3::hash(content));
                let digest = [number(1, size), field(2, hash.as_bytes())].concat();
                let messages = [field(1, &field(1, &digest)), field(2, content)];
                call_with(&mut over_grpc(), &url, &messages) == Some(number(1, size))
            }
            _ => {
                let answer = http(address, "PUT", path, content);
                answer.is_some_and(|(status, _)| (200..300).contains(&status))
            }
        }
    }
}

fn over_grpc() -> Command {
    let mut curl = curl();
    curl.arg("--http2-prior-knowledge");
    curl
}

/// The answer to a call of the Remote Execution API.
fn reapi(origin: &str, method: &str, message: &[u8]) -> Option<Vec<u8>> {
    let url = format!("{origin}/build.bazel.remote.execution.v2.{method}");
    call(&mut over_grpc(), &url, message)
}

/// Small ones go into segments, larger ones into files of their own.
fn content(seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let most = if seed.is_multiple_of(4) {
        300_000
    } else {
        5_000
    };
    let mut bytes = vec![0; random.usize(1..most)];
    random.fill(&mut bytes);
    bytes
}

/// What a client tried to store.
struct Tried {
    dialect: Dialect,
    seed: u64,
    is_acknowledged: bool,
}

/// Stores one content after the other until the node is gone.
fn write_on(
    dialect: Dialect,
    address: &str,
    seeds: &AtomicU64,
    acknowledged: &AtomicU64,
) -> Vec<Tried> {
    let mut tried = Vec::new();
    loop {
        let seed = seeds.fetch_add(1, Relaxed);
        let is_acknowledged = dialect.store(address, &dialect.entries(seed));
        tried.push(Tried {
            dialect,
            seed,
            is_acknowledged,
        });
        if !is_acknowledged {
            return tried;
        }
        acknowledged.fetch_add(1, Relaxed);
    }
}

fn round(node: &mut Node, seeds: &AtomicU64, enough: u64) -> Vec<Tried> {
    let address = node.address().to_owned();
    let acknowledged = DIALECTS.map(|_| AtomicU64::new(0));
    thread::scope(|scope| {
        let pairs = DIALECTS.iter().zip(&acknowledged);
        let writers: Vec<_> = pairs
            .map(|(dialect, count)| {
                let address = &address;
                scope.spawn(move || write_on(*dialect, address, seeds, count))
            })
            .collect();
        let counts = || acknowledged.each_ref().map(|count| count.load(Relaxed));
        let is_enough = || counts().iter().sum::<u64>() >= enough && !counts().contains(&0);
        while !is_enough() && writers.iter().all(|writer| !writer.is_finished()) {
            thread::yield_now();
        }
        let (counts, was_enough) = (counts(), is_enough());
        // Before anything is asserted: the writers go on as long as it lives.
        node.kill();
        assert!(
            was_enough,
            "a writer was refused by a living node: {DIALECTS:?} had {counts:?} acknowledged"
        );
        let ended = writers.into_iter().map(|writer| writer.join().unwrap());
        ended.flatten().collect()
    })
}

/// Reads what was tried; returns how many entries were found whole.
fn check(node: &Node, tried: &[Tried]) -> usize {
    let mut found = 0;
    for one in tried {
        let (dialect, seed) = (one.dialect, one.seed);
        // What names another entry is there only with that one.
        let mut must_be_there = one.is_acknowledged;
        for (path, content) in dialect.entries(seed).into_iter().rev() {
            let (status, body) = http(node.address(), "GET", &path, b"").expect("an answer");
            if status == 404 && !must_be_there {
                continue;
            }
            assert_eq!(status, 200, "{dialect:?} {path} of seed {seed} is lost");
            assert!(
                body == content,
                "{dialect:?} {path} of seed {seed} is another content"
            );
            must_be_there = true;
            found += 1;
        }
    }
    found
}

#[test]
fn what_was_acknowledged_survives_every_kill() {
    let rounds = std::env::var("ZAKO_NODE_KILL_ROUNDS").map_or(ROUNDS, |it| it.parse().unwrap());
    let found = curl().arg("--version").stdout(Stdio::null()).status();
    assert!(
        found.is_ok_and(|status| status.success()),
        "this test needs curl, which writes over gRPC"
    );
    let mut node = Node::open();
    let seeds = AtomicU64::new(1);
    let (mut all, mut verified) = (Vec::new(), 0);
    for round_number in 0..rounds {
        let enough = ACKNOWLEDGED + round_number % ACKNOWLEDGED;
        let tried = round(&mut node, &seeds, enough);
        node.restart();
        verified += check(&node, &tried);
        all.extend(tried);
    }
    // Also what came before the last kill.
    let at_the_end = check(&node, &all);
    let acknowledged = all.iter().filter(|tried| tried.is_acknowledged).count();
    println!(
        "{rounds} kills, {acknowledged} of {} writes acknowledged; {verified} entries read whole after the kill \
         that followed, {at_the_end} at the end",
        all.len()
    );
}
