//! What a command printed, as far as it is kept and shown.
//!
//! Owns both bounds. Does not know who prints it where.
//! Invariant: beginning and end stay, and what is left out between them is told with its number of lines.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// Of a longer output a half of this is kept from either end.
const KEPT_BYTES: u64 = 256 << 10;
/// Lines shown from the beginning and the end of a long output.
const HEAD_LINES: usize = 40;
const TAIL_LINES: usize = 160;
/// Where less is free the disk counts as full: what does not fit stays unwritten.
const ROOM_BYTES: u64 = 16 << 10;

/// What a command printed to the file at `path`; nothing where it cannot be read.
pub fn read_log(path: &Path) -> String {
    // Most print nothing.
    if fs::metadata(path).is_ok_and(|it| it.len() == 0) {
        return String::new();
    }
    let bytes = File::open(path).and_then(|file| read(file, KEPT_BYTES));
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}

/// What is said where nothing more can be written to the file system of one of `places`: a command that fails for that may not
/// have been able to say so.
pub fn note_of_full_disk(places: [&Path; 2]) -> String {
    let full = places.into_iter().find(|place| is_full(place));
    full.map_or(String::new(), |place| {
        format!(
            "\nnote: No space left on device at {}: it may have failed for that, and what it printed may be lost; make room there",
            place.display()
        )
    })
}

fn is_full(place: &Path) -> bool {
    rustix::fs::statvfs(place).is_ok_and(|disk| {
        // Some is kept for root.
        let blocks = match rustix::process::geteuid().is_root() {
            true => disk.f_bfree,
            false => disk.f_bavail,
        };
        // Some file systems have no number of files.
        blocks.saturating_mul(disk.f_frsize) < ROOM_BYTES || disk.f_files > 0 && disk.f_ffree == 0
    })
}

fn read(mut file: File, kept_bytes: u64) -> io::Result<Vec<u8>> {
    let size = file.metadata()?.len();
    let mut bytes = Vec::new();
    if size <= kept_bytes {
        file.read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    let half = kept_bytes / 2;
    file.by_ref().take(half).read_to_end(&mut bytes)?;
    // Whole lines, as far as they are not longer than what is kept.
    let head = bytes.iter().rposition(|byte| *byte == b'\n');
    bytes.truncate(head.map_or(bytes.len(), |end| end + 1));
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(size - half))?;
    file.read_to_end(&mut tail)?;
    let begin = tail.iter().position(|byte| *byte == b'\n');
    let begin = begin.map_or(0, |end| end + 1);
    file.seek(SeekFrom::Start(bytes.len() as u64))?;
    let between = size - half + begin as u64 - bytes.len() as u64;
    let lines = lines(BufReader::new(file.take(between)))?;
    if bytes.last() != Some(&b'\n') {
        bytes.push(b'\n');
    }
    bytes.extend_from_slice(left_out(lines).as_bytes());
    bytes.push(b'\n');
    bytes.extend_from_slice(&tail[begin..]);
    Ok(bytes)
}

/// How many lines a text has, the last of which may lack its end.
fn lines(mut text: impl BufRead) -> io::Result<usize> {
    let (mut lines, mut is_open) = (0, false);
    loop {
        let part = text.fill_buf()?;
        let Some(last) = part.last() else {
            return Ok(lines + usize::from(is_open));
        };
        lines += part.iter().filter(|byte| **byte == b'\n').count();
        is_open = *last != b'\n';
        let length = part.len();
        text.consume(length);
    }
}

fn left_out(lines: usize) -> String {
    let word = if lines == 1 { "line" } else { "lines" };
    format!("… {lines} {word} left out …")
}

/// How many lines a line stands for: one, unless it says that others were left out.
fn stands_for(line: &str) -> usize {
    let number = line.strip_prefix("… ");
    let number = number.and_then(|line| line.strip_suffix(" lines left out …"));
    number.and_then(|number| number.parse().ok()).unwrap_or(1)
}

/// Beginning and end of a long text, with the number of lines left out.
pub fn shorten(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    if lines.len() <= HEAD_LINES + TAIL_LINES {
        return lines.join("\n");
    }
    let (head, rest) = lines.split_at(HEAD_LINES);
    let (between, tail) = rest.split_at(rest.len() - TAIL_LINES);
    let between = between.iter().map(|line| stands_for(line)).sum();
    [&head.join("\n"), &left_out(between), &tail.join("\n")]
        .map(String::as_str)
        .join("\n")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn long_output_keeps_both_ends() {
        let long: String = (0..1000).map(|n| format!("{n}\n")).collect();
        let short = shorten(&long);
        assert!(short.starts_with("0\n1\n") && short.ends_with("998\n999"));
        assert!(short.contains("\n39\n… 800 lines left out …\n840\n"));
    }

    #[test]
    fn of_a_long_log_both_ends_are_read_and_no_line_is_forgotten() {
        let read = |text: &str, kept| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            file.rewind().unwrap();
            String::from_utf8(read(file, kept).unwrap()).unwrap()
        };
        let text: String = (0..100_000).map(|n| format!("{n}\n")).collect();
        let short = shorten(&read(&text, KEPT_BYTES));
        assert!(short.starts_with("0\n1\n") && short.ends_with("99998\n99999"));
        assert!(short.contains("\n… 99800 lines left out …\n"), "{short}");
        assert_eq!(read("0\n1\n2\n", 6), "0\n1\n2\n");
        assert_eq!(read("0\n1\n2\n3", 6), "0\n… 2 lines left out …\n3");
        let one_line = "x".repeat(20);
        assert_eq!(read(&one_line, 6), "xxx\n… 1 line left out …\nxxx");
    }
}
