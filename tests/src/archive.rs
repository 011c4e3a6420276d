//! Archives made byte by byte, so that they can hold what no tool would put in.
//!
//! Owns the two formats, as far as tests need them. Compressing is left to `gzip`.

use std::io::Write;
use std::process::{Command, Stdio};

/// One entry.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// A file with its content.
    File(&'a str, &'a str),
    /// A program with its text.
    Program(&'a str, &'a str),
    /// A symbolic link with its target.
    Link(&'a str, &'a str),
    /// Another name of a file.
    Same(&'a str, &'a str),
}

/// A tar archive.
///
/// # Panics
/// When a name is longer than the format has room for.
pub fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut archive = Vec::new();
    for entry in entries {
        let (name, mode, kind, link, content) = match *entry {
            Entry::File(name, text) => (name, "0000644", b'0', "", text),
            Entry::Program(name, text) => (name, "0000755", b'0', "", text),
            Entry::Link(name, to) => (name, "0000777", b'2', to, ""),
            Entry::Same(name, of) => (name, "0000644", b'1', of, ""),
        };
        let mut header = [0_u8; 512];
        let mut put = |at: usize, text: &str| {
            header[at..at + text.len()].copy_from_slice(text.as_bytes());
        };
        put(0, name);
        put(100, mode);
        put(124, &format!("{:011o}", content.len()));
        put(136, "00000000000");
        put(148, "        ");
        put(157, link);
        put(257, "ustar\x0000");
        header[156] = kind;
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
        header[154] = 0;
        archive.extend_from_slice(&header);
        archive.extend_from_slice(content.as_bytes());
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

/// A tar archive, compressed.
///
/// # Panics
/// When there is no gzip.
pub fn tar_gz(entries: &[Entry<'_>]) -> Vec<u8> {
    piped(&["gzip", "-nc"], &tar(entries))
}

/// A zip archive of files that are not compressed.
///
/// # Panics
/// When it becomes larger than the format allows.
pub fn zip(entries: &[(&str, &str)]) -> Vec<u8> {
    let (mut archive, mut index) = (Vec::new(), Vec::new());
    let number = |n: usize| u32::try_from(n).expect("a small archive").to_le_bytes();
    let short = |n: usize| u16::try_from(n).expect("a short name").to_le_bytes();
    for (name, text) in entries {
        let at = number(archive.len());
        let mut common = vec![10, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
        common.extend(crc32(text.as_bytes()).to_le_bytes());
        common.extend(number(text.len()));
        common.extend(number(text.len()));
        common.extend(short(name.len()));
        common.extend([0, 0]);
        archive.extend(b"PK\x03\x04");
        archive.extend(&common);
        archive.extend(name.bytes());
        archive.extend(text.bytes());
        index.extend(b"PK\x01\x02\x0a\x00");
        index.extend(&common);
        index.extend([0; 10]);
        index.extend(at);
        index.extend(name.bytes());
    }
    let at = number(archive.len());
    let count = short(entries.len());
    archive.extend(&index);
    archive.extend(b"PK\x05\x06\0\0\0\0");
    archive.extend(count);
    archive.extend(count);
    archive.extend(number(index.len()));
    archive.extend(at);
    archive.extend([0, 0]);
    archive
}

/// As the format has it.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 * (crc & 1));
        }
    }
    !crc
}

/// What a program makes of `input`.
///
/// # Panics
/// When it cannot be started, or fails.
pub fn piped(command: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("a pipe");
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).expect("it reads"));
        child.wait_with_output().expect("it ends")
    });
    assert!(output.status.success(), "{command:?}: {}", output.status);
    output.stdout
}

/// The digest of `bytes` as `sha256sum` and its like print it, with the name of the function in front.
pub fn integrity(function: &str, bytes: &[u8]) -> String {
    let line = piped(&[&format!("{function}sum")], bytes);
    let line = String::from_utf8_lossy(&line);
    format!("{function}-{}", line.split(' ').next().unwrap_or_default())
}
