//! The store across processes: killed at random moments, locked out, out of space, read-only.
//!
//! Runs itself as the child process, so it has a `main` instead of the test harness.
//! `ZAKO_KILL_ROUNDS` sets the number of kills (200), `ZAKO_KILL_SEED` repeats a run.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use actor_rt::System;
use cas_actor::{ActionEntry, Digest, Durability, PutError, Store, StoreConfig, StoreError};

fn main() {
    let arguments: Vec<String> = env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "child-write", root, seed] => child_write(Path::new(root), seed.parse().unwrap()),
        [_, "child-fill", root] => child_fill(Path::new(root)),
        _ => {
            run(
                "killed_writers_lose_nothing_acknowledged",
                killed_writers_lose_nothing_acknowledged,
            );
            run(
                "another_process_is_locked_out",
                another_process_is_locked_out,
            );
            run(
                "a_file_size_limit_is_told_as_a_full_disk",
                a_file_size_limit_is_told_as_a_full_disk,
            );
            run("a_full_disk_loses_nothing", a_full_disk_loses_nothing);
            run("a_read_only_store_is_told", a_read_only_store_is_told);
        }
    }
}

fn run(name: &str, test: fn()) {
    test();
    println!("test {name} ... ok");
}

/// A small generator, so that a printed seed repeats a run (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn content(&mut self) -> Vec<u8> {
        let size = match self.below(10) {
            0 => 65_536 + self.below(300_000),
            1..4 => self.below(40_000),
            _ => self.below(3000),
        };
        let mut content = vec![0; size as usize];
        for chunk in content.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        content
    }
}

fn open(root: &Path, system: &System) -> Store {
    let config = StoreConfig {
        shards: 2,
        ..StoreConfig::new(root)
    };
    Store::open(config, system).expect("the store opens")
}

fn child(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.arg(arguments[0]).arg(root).args(&arguments[1..]);
    command.stdout(Stdio::piped());
    command
}

/// Puts for ever and prints each name once it is acknowledged. Killed by the parent.
fn child_write(root: &Path, seed: u64) {
    let system = System::new().unwrap();
    let store = open(root, &system);
    let durability = [
        Durability::Durable,
        Durability::Relaxed,
        Durability::Volatile,
    ];
    let store = store.with_durability(durability[seed as usize % 3]);
    thread::scope(|scope| {
        for number in 0..4 {
            let store = &store;
            scope.spawn(move || {
                let mut random = Random(seed.wrapping_mul(31).wrapping_add(number));
                loop {
                    churn(store, &mut random);
                    let digest = match random.below(4) {
                        0 => store.blocking().put_reader(&*random.content(), None),
                        _ => store.blocking().put(random.content()),
                    };
                    let digest = digest.unwrap();
                    let mut line = format!("{digest}\n");
                    if random.below(4) == 0 {
                        let entry = ActionEntry::new("x").with_outputs(vec![digest]);
                        store.blocking().put_action(digest.hash(), entry).unwrap();
                        line = format!("{digest} action\n");
                    }
                    // One write: a kill never splits a line.
                    if io::stdout().lock().write_all(line.as_bytes()).is_err() {
                        return;
                    }
                    io::stdout().flush().unwrap();
                }
            });
        }
    });
}

/// Leaves dead records behind, and now and then has the segments that hold them rewritten.
fn churn(store: &Store, random: &mut Random) {
    if random.below(2) == 0 {
        let unwanted = store.blocking().put(random.content()).unwrap();
        assert!(store.blocking().delete(&unwanted).unwrap() || unwanted.size_bytes() == 0);
    }
    if random.below(12) == 0 {
        store.blocking().gc(u64::MAX).unwrap();
    }
}

fn killed_writers_lose_nothing_acknowledged() {
    let rounds: u64 = env::var("ZAKO_KILL_ROUNDS").map_or(200, |n| n.parse().unwrap());
    let seed =
        env::var("ZAKO_KILL_SEED").map_or(u64::from(std::process::id()), |n| n.parse().unwrap());
    println!("{rounds} rounds; repeat with ZAKO_KILL_SEED={seed}");
    let directory = tempfile::tempdir().unwrap();
    let mut random = Random(seed);
    let mut acknowledged: HashMap<Digest, bool> = HashMap::new();
    for round in 0..rounds {
        let seed = (seed.wrapping_add(round)).to_string();
        let mut child = child(directory.path(), &["child-write", &seed])
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let until = random.below(60);
        let mut fresh = Vec::new();
        for _ in 0..until {
            fresh.push(
                lines
                    .next()
                    .expect("the writer writes until it is killed")
                    .unwrap(),
            );
        }
        child.kill().unwrap();
        child.wait().unwrap();
        fresh.extend(lines.map_while(Result::ok));
        let fresh = fresh
            .iter()
            .map(|line| parse_line(line))
            .collect::<Vec<_>>();
        acknowledged.extend(fresh.iter().copied());
        check_acknowledged(directory.path(), &fresh);
    }
    let all: Vec<_> = acknowledged.into_iter().collect();
    check_acknowledged(directory.path(), &all);
    println!("{} acknowledged puts present and intact", all.len());
}

fn parse_line(line: &str) -> (Digest, bool) {
    match line.strip_suffix(" action") {
        Some(digest) => (digest.parse().unwrap(), true),
        None => (line.parse().unwrap(), false),
    }
}

/// Everything acknowledged is here; everything here is complete; nothing else is left.
fn check_acknowledged(root: &Path, acknowledged: &[(Digest, bool)]) {
    let system = System::new().unwrap();
    let store = open(root, &system);
    for (digest, action) in acknowledged {
        let blob = store.blocking().get(digest).expect("acknowledged, so here");
        assert_eq!(Digest::of(&blob), *digest);
        if *action {
            let entry = store.blocking().get_complete_action(digest.hash()).unwrap();
            assert!(entry.is_some(), "the entry of {digest} was acknowledged");
        }
    }
    let report = store.blocking().verify(|_| ()).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(fs::read_dir(root.join("tmp")).unwrap().count(), 0);
    store.blocking().close();
}

fn another_process_is_locked_out() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = child(directory.path(), &["child-write", "1"])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines
        .next()
        .expect("the writer has the store open")
        .unwrap();
    let system = System::new().unwrap();
    let error = Store::open(StoreConfig::new(directory.path()), &system).unwrap_err();
    let holder = child.id();
    assert!(
        matches!(error, StoreError::Locked { pid: Some(pid), .. } if pid == holder),
        "{error}"
    );
    assert!(error.to_string().contains(&holder.to_string()), "{error}");
    child.kill().unwrap();
    child.wait().unwrap();
    open(directory.path(), &system);
}

/// Puts growing blobs until one fails; what was acknowledged must still be readable, small puts
/// must work again after a deletion.
fn child_fill(root: &Path) {
    let system = System::new().unwrap();
    let store = open(root, &system);
    let blocking = store.blocking();
    let mut random = Random(7);
    let mut kept: Vec<Digest> = Vec::new();
    let refused = loop {
        let mut content = random.content();
        content.resize(20_000 * (kept.len() + 1), 1);
        let digest = Digest::of(&content);
        match blocking.put(content) {
            Ok(digest) => kept.push(digest),
            Err(error) => {
                assert!(matches!(error, PutError::NoSpace(_)), "{error}");
                assert!(!blocking.contains(&[digest]).unwrap()[0]);
                break error;
            }
        }
    };
    for digest in &kept {
        assert_eq!(Digest::of(&blocking.get(digest).unwrap()), *digest);
    }
    let largest = kept.pop().expect("something fits");
    assert!(blocking.delete(&largest).unwrap());
    blocking.put("there is room again").unwrap();
    let held = blocking.stats().unwrap().blob_bytes;
    // Rewriting segments must work where there is hardly room.
    for digest in kept.drain(..kept.len() / 2) {
        assert!(blocking.delete(&digest).unwrap());
    }
    blocking.gc(u64::MAX).unwrap();
    assert!(blocking.stats().unwrap().blob_bytes < held);
    assert!(blocking.verify(|_| ()).unwrap().is_clean());
    assert_eq!(fs::read_dir(root.join("tmp")).unwrap().count(), 0);
    println!("{refused}");
}

fn expect_refusal(mut command: Command) {
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("free some space"), "{said}");
}

fn a_file_size_limit_is_told_as_a_full_disk() {
    let directory = tempfile::tempdir().unwrap();
    let mut shell = Command::new("sh");
    // The limit kills unless its signal is ignored, which children inherit.
    shell.args([
        "-c",
        "trap '' XFSZ; ulimit -f 400; exec \"$0\" child-fill \"$1\"",
    ]);
    shell.arg(env::current_exe().unwrap()).arg(directory.path());
    expect_refusal(shell);
}

fn mount(arguments: &[&str], at: &Path) -> bool {
    let mut command = Command::new("mount");
    command.args(arguments).arg(at).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A mounted file system that goes away with the test.
struct Mounted<'p>(&'p Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

fn a_full_disk_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    if !mount(&["-t", "tmpfs", "-o", "size=2m", "none"], directory.path()) {
        println!("(may not mount: the file-size limit above stands for the full disk)");
        return;
    }
    let _mounted = Mounted(directory.path());
    expect_refusal(child(directory.path(), &["child-fill"]));
}

fn a_read_only_store_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let mounted = mount(&["-t", "tmpfs", "-o", "size=2m", "none"], root).then(|| Mounted(root));
    let system = System::new().unwrap();
    let store = open(root, &system);
    store.blocking().put("kept").unwrap();
    store.blocking().close();
    drop(store);
    let lock = root.join("LOCK");
    if mounted.is_some() {
        assert!(mount(&["-o", "remount,ro"], root));
    } else {
        fs::set_permissions(&lock, fs::Permissions::from_mode(0o444)).unwrap();
        if fs::OpenOptions::new().write(true).open(&lock).is_ok() {
            println!("(permissions do not bind this user, and it may not mount)");
            return;
        }
    }
    let error = Store::open(StoreConfig::new(root), &system).unwrap_err();
    assert!(
        matches!(&error, StoreError::Io(failure) if failure.path == lock),
        "{error}"
    );
}
