//! Disks that are full or read-only, and cache files that are damaged: nothing wrong is ever built,
//! and nothing that was stored before is lost.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use zako_tests::{Outcome, Project, may_run, zako};

const BUILD: &str = r#"
import { target } from "zako:build";
export default {
  big: target({
    cmd: ["sh", "-c", "echo big >> $RAN; for i in 1 2 3 4 5 6 7 8; do cat words.txt; done > big.out"],
    srcs: ["words.txt"],
    outs: ["big.out"],
  }),
  small: target({
    cmd: ["sh", "-c", "echo small >> $RAN; head -c 6 big.out > small.out"],
    deps: [":big"],
    outs: ["small.out"],
  }),
};
"#;

/// Bytes of `words.txt`: enough that its copies are no small blobs.
const SOURCE_BYTES: usize = 64 * 1024;

fn project() -> Project {
    let project = Project::with_build(BUILD);
    project.write("words.txt", &words("w"));
    project
}

fn words(word: &str) -> String {
    let line = format!("{word} orchid\n");
    line.repeat(SOURCE_BYTES / line.len())
}

fn check_outputs(project: &Project, word: &str) {
    assert!(project.read("big.out") == words(word).repeat(8), "big.out");
    assert_eq!(project.read("small.out"), words(word)[..6]);
}

/// Every file of the cache, in a fixed order.
fn cache_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut pending = vec![directory.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap();
            if kind.is_dir() {
                pending.push(path);
            } else if kind.is_file() && kind.len() > 0 {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn overwrite(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(file).unwrap();
    change(&mut bytes);
    let mode = fs::metadata(file).unwrap().permissions();
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(file, bytes).unwrap();
    fs::set_permissions(file, mode).unwrap();
}

/// Damages one file of a cache after the other; each time, outputs must be rebuilt right.
fn damage_each(change: impl Fn(&mut Vec<u8>)) {
    let project = project();
    project.build();
    let count = cache_files(&project.cache()).len();
    assert!(count >= 3, "a cache of {count} files");
    for index in 0..count {
        let files = cache_files(&project.cache());
        let Some(file) = files.get(index) else { break };
        let name = file.display().to_string();
        overwrite(file, &change);
        for output in ["big.out", "small.out"] {
            fs::remove_file(project.root().join(output)).unwrap();
        }
        let outcome = project.zako(&["build"]);
        assert!(outcome.status.success(), "{name}: {}", outcome.text());
        check_outputs(&project, "w");
    }
    project.store_is_intact();
}

#[test]
fn a_flipped_bit_anywhere_in_the_cache_is_survived() {
    damage_each(|bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x40;
    });
}

#[test]
fn a_truncated_file_anywhere_in_the_cache_is_survived() {
    damage_each(|bytes| bytes.truncate(bytes.len() / 2));
}

#[test]
fn a_file_of_garbage_anywhere_in_the_cache_is_survived() {
    damage_each(|bytes| bytes.fill(b'?'));
}

#[test]
fn verify_names_a_damaged_blob_and_sets_it_aside() {
    let project = project();
    project.build();
    let blob = cache_files(&project.cache())
        .into_iter()
        .find(|file| fs::read(file).unwrap() == words("w").repeat(8).as_bytes())
        .expect("large outputs lie in files of their own");
    overwrite(&blob, |bytes| bytes[0] ^= 1);
    project
        .zako(&["cache", "verify"])
        .fails_saying(&["damaged"]);
    project.store_is_intact();
    fs::remove_file(project.root().join("big.out")).unwrap();
    project.build();
    check_outputs(&project, "w");
}

#[test]
fn a_file_that_outgrows_its_limit_fails_and_leaves_an_intact_store() {
    // A file size limit is what a full disk looks like to one file, wherever the tests run.
    let project = project();
    project.write("words.txt", "tiny");
    project.build();
    project.ran();
    project.write("words.txt", &words("x"));
    let script = "trap '' XFSZ; ulimit -f 128; exec \"$ZAKO\" build";
    let outcome = Outcome::of(&mut project.shell(script));
    outcome.fails_saying(&["big"]);
    project.store_is_intact();
    project.build();
    check_outputs(&project, "x");
}

#[test]
fn a_full_disk_fails_and_leaves_an_intact_store() {
    let project = project();
    let disk = project.outside().join("disk");
    fs::create_dir(&disk).unwrap();
    let mount = format!(
        "mount -t tmpfs -o size=256k tmpfs '{0}' && export ZAKO_CACHE_DIR='{0}/cache'",
        disk.display()
    );
    let private = |script: &str| on_a_disk(&project, &mount, script);
    // Where mounting is not allowed, the limit on file sizes above shows the same failure.
    if !may_run("private mounts", private("true").status.success()) {
        return;
    }
    let outcome =
        private("\"$ZAKO\" build; status=$?; \"$ZAKO\" cache verify >&2 || exit 0; exit $status");
    outcome.fails_saying(&["No space left on device"]);
    // With room again, the same build succeeds.
    project.build();
    check_outputs(&project, "w");
}

#[test]
fn a_command_that_fills_the_disk_is_told_of_though_it_could_not_say_so() {
    let project = Project::with_build(
        "import { target } from \"zako:build\";\nexport default {\n\
         \x20 o: target({ cmd: [\"sh\", \"-c\", \"head -c 9000000 /dev/zero > o\"], outs: [\"o\"] }),\n};\n",
    );
    let disk = project.outside().join("disk");
    fs::create_dir(&disk).unwrap();
    let mount = format!(
        "mount -t tmpfs -o size=3m tmpfs '{0}' && cp zako.toml BUILD.ts '{0}' && cd '{0}'",
        disk.display()
    );
    if !may_run(
        "private mounts",
        on_a_disk(&project, &mount, "true").status.success(),
    ) {
        return;
    }
    let outcome = on_a_disk(&project, &mount, "\"$ZAKO\" build");
    outcome.fails_saying(&[
        "//:o failed",
        "No space left on device at",
        "make room there",
    ]);
}

/// Runs `script` after `mount`, which nobody else sees, as root or in a user namespace of one's own.
fn on_a_disk(project: &Project, mount: &str, script: &str) -> Outcome {
    let script = format!("{mount} && {{ {script}; }}");
    let mut command = project.shell(
        "exec unshare --mount $([ $(id -u) = 0 ] || echo --user --map-root-user) sh -c \"$SCRIPT\"",
    );
    command.env("SCRIPT", script);
    Outcome::of(&mut command)
}

#[test]
fn a_read_only_cache_fails_by_name() {
    let project = project();
    let cache = project.outside().join("read-only");
    fs::create_dir(&cache).unwrap();
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o555)).unwrap();

    let mut command = project.command(&["build"]);
    if fs::metadata(&cache).unwrap().uid() == 0 {
        // Permissions do not bind root: be somebody else, with a binary that they can reach.
        const NOBODY: u32 = 65_534;
        let binary = project.outside().join("zako");
        fs::copy(zako(), &binary).unwrap();
        chown(project.root(), Some(NOBODY), Some(NOBODY)).unwrap();
        fs::set_permissions(project.outside(), fs::Permissions::from_mode(0o755)).unwrap();
        command = std::process::Command::new(binary);
        command
            .arg("build")
            .current_dir(project.root())
            .uid(NOBODY)
            .gid(NOBODY);
    }
    command.env("ZAKO_CACHE_DIR", cache.join("cache"));
    Outcome::of(&mut command).fails_saying(&["read-only/cache", "ermission denied"]);
    project.build();
    check_outputs(&project, "w");
}

#[test]
fn a_kept_startup_snapshot_is_used_only_when_it_is_whole() {
    let project = project();
    project.build();
    let kept = || {
        let entries = fs::read_dir(project.cache()).unwrap().flatten();
        let path = entries.map(|entry| entry.path());
        let mut kept = path.filter(|path| path.to_string_lossy().contains("/snapshot-"));
        kept.next()
    };
    let path = kept();
    if !may_run("startup snapshots", path.is_some()) {
        return;
    }
    let path = path.unwrap();
    let whole = fs::read(&path).unwrap();
    let edit = |line: &str| project.write("BUILD.ts", &format!("{BUILD}// {line}\n"));
    edit("another process starts from it");
    project.build();
    assert_eq!(fs::read(&path).unwrap(), whole);
    for damage in [
        &whole[..whole.len() / 2],
        b"",
        b"no snapshot at all, but longer than a checksum is",
    ] {
        fs::write(&path, damage).unwrap();
        edit(&format!("{} bytes", damage.len()));
        project.build();
        assert!(fs::read(kept().unwrap()).unwrap().len() > damage.len());
    }
}
