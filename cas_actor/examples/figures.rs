//! What the store does on this machine, beside what the machine does without it.
//!
//! `figures ingest | small | index [DIRECTORY]`
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use actor_rt::System;
use cas_actor::{Digest, Durability, Store, StoreConfig};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap_or_default();
    let parent = arguments
        .next()
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let root = parent.join(format!("figures-{}", std::process::id()));
    fs::create_dir_all(&root)?;
    let done = match what.as_str() {
        "ingest" => ingest(&root),
        "small" => small(&root),
        "index" => index(&root),
        other => Err(format!("`{other}` is not ingest, small or index").into()),
    };
    fs::remove_dir_all(&root)?;
    done
}

fn open(root: &Path, system: &System, sha256_names: bool) -> Result<Store, Failure> {
    let config = StoreConfig {
        sha256_names,
        ..StoreConfig::new(root.join("store"))
    };
    Ok(Store::open(config, system)?)
}

/// Bytes that look like noise and are made faster than a disk takes them.
fn noise(seed: u64, out: &mut [u8]) {
    let mut state = seed;
    for word in out.chunks_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word.copy_from_slice(&(mixed ^ (mixed >> 27)).to_le_bytes()[..word.len()]);
    }
}

fn timed<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<(f64, T), Failure> {
    let started = Instant::now();
    let value = work()?;
    Ok((started.elapsed().as_secs_f64(), value))
}

/// A gibibyte from a file that is in memory, three times each way, the best of each.
fn ingest(root: &Path) -> Result<(), Failure> {
    let source = root.join("source");
    let system = System::new()?;
    let (mut hash_s, mut copy_s) = (f64::MAX, f64::MAX);
    let (mut blake3_s, mut both_s, mut again_s) = (f64::MAX, f64::MAX, f64::MAX);
    for round in 0..3 {
        let mut file = File::create(&source)?;
        let mut piece = vec![0; 1 << 20];
        for number in 0..1024 {
            noise(round * 1024 + number, &mut piece);
            file.write_all(&piece)?;
        }
        file.sync_all()?;
        let hashed = timed(|| {
            let (mut file, mut hasher) = (File::open(&source)?, cas_actor::Hasher::new());
            loop {
                match file.read(&mut piece)? {
                    0 => return Ok(hasher.finish()),
                    length => hasher.update(&piece[..length]),
                }
            }
        })?;
        hash_s = hash_s.min(hashed.0);
        let copy = root.join("copy");
        let copied = timed(|| {
            let mut to = File::create(&copy)?;
            io::copy(&mut File::open(&source)?, &mut to)?;
            Ok(to.sync_all()?)
        })?;
        copy_s = copy_s.min(copied.0);
        fs::remove_file(&copy)?;
        for sha256_names in [false, true] {
            let store = open(root, &system, sha256_names)?;
            let put = timed(|| Ok(store.blocking().put_file(&source)?))?;
            assert_eq!(put.1, hashed.1);
            match sha256_names {
                false => blake3_s = blake3_s.min(put.0),
                true => both_s = both_s.min(put.0),
            }
            let again = timed(|| Ok(store.blocking().put_file(&source)?))?;
            again_s = again_s.min(again.0);
            store.blocking().delete(&put.1)?;
            store.blocking().close();
        }
    }
    let ratio = hash_s.max(copy_s) / blake3_s;
    println!("hash alone {hash_s:.2} s, copy and fsync alone {copy_s:.2} s");
    println!("put_file {blake3_s:.2} s: {ratio:.2} x the slower of them; again {again_s:.2} s");
    println!("put_file with SHA-256 {both_s:.2} s");
    Ok(())
}

/// Small blobs: presence, reading, durable puts.
fn small(root: &Path) -> Result<(), Failure> {
    const BLOBS: u64 = 10_000;
    let system = System::new()?;
    let store = open(root, &system, false)?;
    let relaxed = store.with_durability(Durability::Volatile);
    let mut content = vec![0; 1024];
    let mut digests = Vec::new();
    for seed in 0..BLOBS {
        noise(seed << 20, &mut content);
        digests.push(relaxed.blocking().put(content.clone())?);
    }
    let (contains_s, found) = timed(|| {
        let mut found = 0;
        for _ in 0..20 {
            let present = store.blocking().contains(&digests)?;
            found += present.iter().filter(|present| **present).count();
        }
        Ok(found)
    })?;
    assert_eq!(found as u64, 20 * BLOBS);
    let (get_s, sum) = timed(|| {
        let mut sum = 0u64;
        for _ in 0..100 {
            for digest in &digests {
                sum += u64::from(store.peek(digest).ok_or("not in memory")?[17]);
            }
        }
        Ok(sum)
    })?;
    let million = |number: u64, seconds: f64| number as f64 / seconds / 1e6;
    println!("contains {:.2} M/s", million(20 * BLOBS, contains_s));
    println!(
        "get {:.2} M/s from memory (sum {sum})",
        million(100 * BLOBS, get_s)
    );

    let single = timed(|| {
        for seed in 0..500u64 {
            noise(seed << 40 | 1, &mut content);
            let mut file = File::create(root.join(format!("{seed}")))?;
            file.write_all(&content)?;
            file.sync_data()?;
        }
        Ok(())
    })?;
    let single = 500.0 / single.0;
    const EACH: u64 = 1000;
    let grouped = timed(|| {
        thread::scope(|scope| {
            for writer in 0..64u64 {
                let store = &store;
                scope.spawn(move || {
                    let mut content = vec![0; 2048];
                    for number in 0..EACH {
                        noise((writer << 50) + (number << 20) + 7, &mut content);
                        store.blocking().put(content.clone()).expect("a put");
                    }
                });
            }
        });
        Ok(())
    })?;
    let grouped = 64.0 * EACH as f64 / grouped.0;
    let ratio = grouped / single;
    println!("durable puts {grouped:.0}/s, one fsync per put {single:.0}/s: {ratio:.0} x");
    Ok(())
}

/// A million small blobs: opening, and memory of an entry.
fn index(root: &Path) -> Result<(), Failure> {
    const BLOBS: u64 = 1_000_000;
    let system = System::new()?;
    let config = || {
        let mut config = StoreConfig::new(root.join("store"));
        config.memory.capacity_bytes = 0;
        config.durability = Durability::Volatile;
        config
    };
    let store = Store::open(config(), &system)?;
    let digest = |number: u64| Digest::of(&number.to_le_bytes());
    thread::scope(|scope| {
        for writer in 0..16 {
            let store = &store;
            scope.spawn(move || {
                for number in (writer..BLOBS).step_by(16) {
                    let content = number.to_le_bytes().to_vec();
                    store.blocking().put(content).expect("a put");
                }
            });
        }
    });
    store.blocking().close();
    drop(store);
    let before = memory_bytes()?;
    let (open_s, store) = timed(|| {
        let store = Store::open(config(), &system)?;
        assert_eq!(store.blocking().contains(&[digest(7)])?, [true]);
        Ok(store)
    })?;
    let opened = memory_bytes()?;
    let numbers: Vec<u64> = (0..BLOBS).collect();
    for some in numbers.chunks(10_000) {
        let digests: Vec<Digest> = some.iter().map(|number| digest(*number)).collect();
        assert!(
            store
                .blocking()
                .contains(&digests)?
                .iter()
                .all(|here| *here)
        );
    }
    drop(numbers);
    let used = memory_bytes()?;
    let each = |now: u64| now.saturating_sub(before) as f64 / BLOBS as f64;
    println!("open to the first answer {:.1} ms", open_s * 1e3);
    println!(
        "resident per entry, mapped table included: {:.1} B when opened, {:.1} B when all were used",
        each(opened),
        each(used)
    );
    Ok(())
}

/// What this process has in memory.
fn memory_bytes() -> Result<u64, Failure> {
    let text = fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = text.split(' ').nth(1).ok_or("no such field")?.parse()?;
    Ok(pages * 4096)
}
