//! Files share their extents with the store where the file system can do that: on one of XFS in a file, where
//! this machine lets us make and mount it.
#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use actor_rt::System;
use cas_actor::{Durability, Store, StoreConfig};

const MIB: usize = 1024 * 1024;

/// A file system that is unmounted when it is dropped.
struct Mounted {
    at: PathBuf,
    _directory: tempfile::TempDir,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg(&self.at));
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output();
    let output = output.map_err(|error| format!("{command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("{command:?}: {}", said.trim()))
        }
    }
}

fn mount() -> Result<Mounted, String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (image, at) = (directory.path().join("image"), directory.path().join("at"));
    let file = File::create(&image).and_then(|file| file.set_len(512 * MIB as u64));
    file.and_then(|()| fs::create_dir(&at))
        .map_err(|error| error.to_string())?;
    run(Command::new("mkfs.xfs")
        .args(["-q", "-m", "reflink=1"])
        .arg(&image))?;
    run(Command::new("mount")
        .args(["-o", "loop"])
        .args([&image, &at]))?;
    Ok(Mounted {
        at,
        _directory: directory,
    })
}

/// Bytes that are free once everything is written.
fn free_bytes(at: &Path) -> u64 {
    rustix::fs::syncfs(File::open(at).unwrap()).unwrap();
    let stat = rustix::fs::statvfs(at).unwrap();
    stat.f_bfree * stat.f_frsize
}

/// Tells that this did not run: `cargo xtask test` ends with what was left out.
fn left_out(reason: &str) {
    eprintln!("SKIPPED, reflinks are not tested: {reason}");
    if let Some(path) = std::env::var_os("ZAKO_TESTS_LEFT_OUT") {
        let line =
            "a file system of XFS in a file\tlarge_files_share_their_extents_with_the_store\n";
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.unwrap().write_all(line.as_bytes()).unwrap();
    }
}

#[test]
fn large_files_share_their_extents_with_the_store() {
    let mounted = match mount() {
        Ok(mounted) => mounted,
        Err(reason) => {
            left_out(&reason);
            return;
        }
    };
    let system = System::new().unwrap();
    let store = Store::open(StoreConfig::new(mounted.at.join("store")), &system).unwrap();
    // One that is hashed first, and one that is copied while it is hashed where it cannot be shared.
    for (size, durability) in [
        (24 * MIB, Durability::Durable),
        (100 * MIB, Durability::Volatile),
    ] {
        let content: Vec<u8> = (0..size).map(|at| (at / 4093 % 251) as u8).collect();
        let (source, out) = (mounted.at.join("source"), mounted.at.join("out"));
        fs::write(&source, &content).unwrap();
        let before = free_bytes(&mounted.at);
        let little = (size / 8) as u64;
        let store = store.with_durability(durability);
        let digest = store.blocking().put_file(&source).unwrap();
        assert!(before - free_bytes(&mounted.at).min(before) < little, "in");
        store.blocking().export(&digest, &out, 0o644).unwrap();
        assert!(before - free_bytes(&mounted.at).min(before) < little, "out");
        // Each stays what it was whatever becomes of the others.
        fs::write(&source, "changed").unwrap();
        assert!(fs::read(&out).unwrap() == content);
        fs::write(&out, "changed").unwrap();
        assert!(*store.blocking().get(&digest).unwrap() == content[..]);
        fs::remove_file(&source).unwrap();
        fs::remove_file(&out).unwrap();
    }
    store.blocking().close();
}
