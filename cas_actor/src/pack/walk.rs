//! Walking through a segment, also where a sector of it cannot be read.
//!
//! Owns: how the files of segments are read from one end to the other.
//! Does not know: what becomes of what is found.
//! Invariant: no segment is ever mapped, for one sector that cannot be read would end the process.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use rustix::io::Errno;

use super::record::{HEADER_BYTES, Header, Met, scan};
use crate::error::{During, IoFailure};
use crate::fs::Disk;

/// What is read at a time,
const PIECE_BYTES: usize = 1024 * 1024;
/// of headers with what lies behind them,
const HEADERS_BYTES: u64 = 32 * 1024;
/// and what is lost with a sector that cannot be read.
const BLOCK_BYTES: usize = 4096;

/// Reads the headers of a segment up to its end, some twice where something is damaged; says whether all
/// of it could be read.
pub(super) fn each_header(
    disk: &dyn Disk,
    path: &Path,
    end: u32,
    mut meet: impl FnMut(&Header),
) -> Result<bool, IoFailure> {
    let file = match open_segment(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        opened => opened.during("open", path)?,
    };
    let Some(file) = file else {
        return Ok(false);
    };
    let end = u64::from(end);
    let (mut at, mut piece_at, mut piece) = (0, 0, Vec::new());
    while at < end {
        if at + HEADER_BYTES as u64 > piece_at + piece.len() as u64 {
            piece_at = at;
            piece.resize((end - at).min(HEADERS_BYTES) as usize, 0);
            if disk.read_back(&file, &mut piece, at).is_err() {
                break;
            }
        }
        let Some(header) = Header::decode(&piece[(at - piece_at) as usize..]) else {
            break;
        };
        meet(&header);
        at += header.record_bytes();
    }
    if at >= end {
        return Ok(true);
    }
    let size_bytes = file.metadata().during("read", path)?.len();
    let (bytes, is_read) = read_around(disk, &file, path, 0..size_bytes.min(end));
    scan(&bytes, 0, |_, met| {
        if let Met::Record(header, _) = met {
            meet(&header);
        }
    });
    Ok(is_read)
}

/// Opens a segment; `None` where it is there and harmed.
pub(super) fn open_segment(path: &Path) -> io::Result<Option<File>> {
    // Whatever else it is may pass: too many files, no right, a server that does not answer.
    let is_harm = |error: &io::Error| {
        let harm = [Errno::IO, Errno::LOOP].map(Errno::raw_os_error);
        error.raw_os_error().is_some_and(|it| harm.contains(&it))
    };
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if is_harm(&error) => {
            tracing::warn!(segment = %path.display(), %error, "it cannot be opened");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A part of a segment, with zeros for what cannot be read, and whether all could.
pub(super) fn read_around(
    disk: &dyn Disk,
    file: &File,
    path: &Path,
    part: Range<u64>,
) -> (Vec<u8>, bool) {
    let mut bytes = vec![0; (part.end - part.start) as usize];
    let (mut at, mut is_read) = (part.start, true);
    for piece in bytes.chunks_mut(PIECE_BYTES) {
        let length = piece.len() as u64;
        if disk.read_back(file, piece, at).is_err() {
            for (index, block) in piece.chunks_mut(BLOCK_BYTES).enumerate() {
                let offset = at + (index * BLOCK_BYTES) as u64;
                if disk.read_back(file, block, offset).is_err() {
                    block.fill(0);
                    is_read = false;
                }
            }
        }
        at += length;
    }
    if !is_read {
        tracing::warn!(segment = %path.display(), "a part of it cannot be read");
    }
    (bytes, is_read)
}
