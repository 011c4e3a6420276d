//! A node that is killed again and again while clients write: what it has acknowledged is there afterwards.

use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use zako_tests::Node;
use zako_tests::wire::{curl, http, sha256, write};

/// Rounds unless `ZAKO_NODE_KILL_ROUNDS` says more.
const ROUNDS: u64 = 20;
const HTTP_WRITERS: u64 = 4;
const GRPC_WRITERS: u64 = 2;
/// Acknowledged writes after which the node is killed.
const ACKNOWLEDGED: u64 = 24;

/// What a client tried to store.
struct Tried {
    path: String,
    seed: u64,
    is_acknowledged: bool,
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

/// Writes one content after the other until the node is gone.
fn write_on(
    address: &str,
    is_grpc: bool,
    seeds: &AtomicU64,
    acknowledged: &AtomicU64,
) -> Vec<Tried> {
    let mut tried = Vec::new();
    loop {
        let seed = seeds.fetch_add(1, Relaxed);
        let content = content(seed);
        let hash = sha256(&content);
        let (path, is_acknowledged) = if is_grpc {
            let mut curl = curl();
            let origin = format!("http://{address}");
            let done = write(curl.arg("--http2-prior-knowledge"), &origin, &content);
            (format!("/cas/{hash}"), done)
        } else {
            let path = match seed % 3 {
                0 => format!("/gradle/{hash}"),
                _ => format!("/cas/{hash}"),
            };
            let answer = http(address, "PUT", &path, &content);
            let status = answer.map(|(status, _)| status);
            (path, status == Some(200))
        };
        tried.push(Tried {
            path,
            seed,
            is_acknowledged,
        });
        if !is_acknowledged {
            return tried;
        }
        acknowledged.fetch_add(1, Relaxed);
    }
}

fn round(node: &mut Node, seeds: &AtomicU64) -> Vec<Tried> {
    let address = node.address().to_owned();
    let (over_http, over_grpc) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        let start = |is_grpc| {
            let (address, count) = (&address, if is_grpc { &over_grpc } else { &over_http });
            scope.spawn(move || write_on(address, is_grpc, seeds, count))
        };
        let writers: Vec<_> = (0..HTTP_WRITERS)
            .map(|_| start(false))
            .chain((0..GRPC_WRITERS).map(|_| start(true)))
            .collect();
        let is_enough = || {
            let (http, grpc) = (over_http.load(Relaxed), over_grpc.load(Relaxed));
            http + grpc >= ACKNOWLEDGED && grpc >= GRPC_WRITERS
        };
        while !is_enough() && writers.iter().all(|writer| !writer.is_finished()) {
            thread::yield_now();
        }
        let was_enough = is_enough();
        // Before anything is asserted: the writers go on as long as it lives.
        node.kill();
        assert!(was_enough, "a writer was refused by a living node");
        let ended = writers.into_iter().map(|writer| writer.join().unwrap());
        ended.flatten().collect()
    })
}

fn check(node: &Node, tried: &[Tried]) {
    for Tried {
        path,
        seed,
        is_acknowledged,
    } in tried
    {
        let (status, body) = http(node.address(), "GET", path, b"").expect("an answer");
        if status == 404 && !is_acknowledged {
            continue;
        }
        assert_eq!(status, 200, "{path} of seed {seed} was acknowledged");
        assert!(
            body == content(*seed),
            "{path} of seed {seed} is another content"
        );
    }
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
    let mut all = Vec::new();
    for _ in 0..rounds {
        let tried = round(&mut node, &seeds);
        node.restart();
        check(&node, &tried);
        all.extend(tried);
    }
    // Also what came before the last kill.
    check(&node, &all);
    let acknowledged = all.iter().filter(|tried| tried.is_acknowledged).count();
    println!(
        "{rounds} kills, {acknowledged} of {} writes acknowledged",
        all.len()
    );
}
