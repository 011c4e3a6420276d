//! Which permission bits new files do not get.
//!
//! Owns the umask of this process while it builds: one for everybody, since steps inherit it and what they leave is shared. Does
//! not know who makes files.
//! Invariant: what this process becomes (`zako run`) has the umask of whoever called it.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::Mode;
use rustix::process::umask;

/// Of steps, wherever they run.
const OF_STEPS: Mode = Mode::from_raw_mode(0o022);

/// What this process began with, once that was changed.
static BEGAN_WITH: OnceLock<Mode> = OnceLock::new();

/// Has this process and its children make files alike, whoever calls.
pub fn settle() {
    BEGAN_WITH.get_or_init(|| umask(OF_STEPS));
}

/// Puts it back to what it was, for a program that this process is about to become.
pub fn restore() {
    if let Some(began) = BEGAN_WITH.get() {
        umask(*began);
    }
}

/// Makes a directory, and those above it, that shows to others no more than whoever called lets them see.
///
/// # Errors
/// When the disk refuses.
pub fn make_private(dir: &Path) -> io::Result<()> {
    let hidden = BEGAN_WITH.get().copied().unwrap_or(OF_STEPS);
    let mode = Mode::from_raw_mode(0o777) - hidden;
    DirBuilder::new()
        .recursive(true)
        .mode(mode.as_raw_mode())
        .create(dir)
}
