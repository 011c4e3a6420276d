//! Files that receive a build's events.
//!
//! Owns the interface and the plainest of them, one JSON object per line. Does not know the
//! display.
//! Invariant: a sink that cannot be written any more is reported once and left out; the build
//! goes on.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;

use crate::engine::cancel::Cancel;
use crate::engine::event::Stamped;

/// How often a pipe that nobody reads yet is tried.
const PIPE_TRIED_EVERY: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};

/// Receives events in their order.
pub trait Sink: Send {
    /// What a person calls it.
    fn name(&self) -> &'static str;

    /// Takes one event.
    ///
    /// # Errors
    /// When it cannot be written.
    fn take(&mut self, event: &Stamped) -> io::Result<()>;

    /// Writes what is left.
    ///
    /// # Errors
    /// When it cannot be written.
    fn end(&mut self) -> io::Result<()>;
}

/// The file of `--events`.
pub struct JsonLines(BufWriter<File>);

impl JsonLines {
    /// Makes the file, or goes on in one that `continues`; see [`create`].
    ///
    /// # Errors
    /// As there.
    pub fn open(path: &Path, continues: bool, cancel: &Cancel) -> io::Result<Self> {
        let file = create(path, continues, cancel)?;
        Ok(Self(BufWriter::new(file)))
    }
}

/// Makes the file at `path`, or opens it to go on at its end; a named pipe once somebody reads it.
///
/// # Errors
/// When that cannot be done, or `cancel` was given before anybody read the pipe.
pub fn create(path: &Path, continues: bool, cancel: &Cancel) -> io::Result<File> {
    let mut options = File::options();
    options.create(true).write(true);
    options.append(continues).truncate(!continues);
    // Otherwise no signal would end the wait for a reader.
    options.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let is_pipe = || std::fs::metadata(path).is_ok_and(|it| it.file_type().is_fifo());
    loop {
        match options.open(path) {
            Ok(file) => {
                let flags = rustix::fs::fcntl_getfl(&file)?;
                fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
                return Ok(file);
            }
            Err(error) if error.raw_os_error() != Some(libc::ENXIO) || !is_pipe() => {
                return Err(error);
            }
            Err(_) if cancel.reason().is_some() => {
                return Err(io::Error::other("nobody has opened the pipe to read it"));
            }
            Err(_) => {
                let mut given = [PollFd::new(cancel, PollFlags::IN)];
                match poll(&mut given, Some(&PIPE_TRIED_EVERY)) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
}

impl Sink for JsonLines {
    fn name(&self) -> &'static str {
        "event file"
    }

    fn take(&mut self, event: &Stamped) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, event)?;
        self.0.write_all(b"\n")
    }

    fn end(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
