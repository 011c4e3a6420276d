//! Full backtraces, for those who ask for them: `--backtrace`, `ZAKO_BACKTRACE=1`.
//!
//! Owns whether they are wanted in this process, and how a panic is told then. Does not know what failed.

use std::backtrace::Backtrace;
use std::io::{self, Write};
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicBool, Ordering};

static WANTED: AtomicBool = AtomicBool::new(false);

/// From now on failures say where they came from. Called before any thread starts.
pub fn want() {
    // Relaxed: threads that start later see it.
    WANTED.store(true, Ordering::Relaxed);
    panic::set_hook(Box::new(tell));
}

/// Whether somebody asked.
pub fn is_wanted() -> bool {
    WANTED.load(Ordering::Relaxed)
}

/// The calls that led here, as lines to follow a message; nothing when nobody asked.
pub fn here() -> String {
    if !is_wanted() {
        return String::new();
    }
    let text = format!("\nbacktrace:\n{}", Backtrace::force_capture());
    text.trim_end().to_owned()
}

fn tell(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("without a name");
    // A closed standard error is no reason for another panic.
    drop(writeln!(
        io::stderr().lock(),
        "thread {name}: {panic}{}",
        here()
    ));
}

#[cfg(test)]
mod tests {
    #[test]
    fn nobody_who_did_not_ask_is_told() {
        assert_eq!(super::here(), "");
    }
}
