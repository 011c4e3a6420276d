//! Files that receive a build's events.
//!
//! Owns the interface and the plainest of them, one JSON object per line. Does not know the
//! display.
//! Invariant: a sink that cannot be written any more is reported once and left out; the build
//! goes on.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::engine::event::Stamped;

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
    /// Makes the file, or goes on in one that `continues`.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn open(path: &Path, continues: bool) -> io::Result<Self> {
        let mut options = File::options();
        options.create(true).write(true);
        let file = options.append(continues).truncate(!continues).open(path)?;
        Ok(Self(BufWriter::new(file)))
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
