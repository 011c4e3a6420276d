//! Waiting for what will be so.
//!
//! Owns: how long a test waits for an event before it says that there is none.

use std::time::{Duration, Instant};

/// Longer than any machine that still works stands still.
const LIMIT: Duration = Duration::from_secs(60);

/// Asks until there is an answer.
///
/// # Panics
/// When there is none within a minute.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begin.elapsed() < LIMIT, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

/// Asks until something is so.
///
/// # Panics
/// When it is not so within a minute.
pub fn until_so(what: &str, mut is_so: impl FnMut() -> bool) {
    until(what, || is_so().then_some(()));
}
