//! The last line of a terminal while nothing runs yet, which says what takes long.
//!
//! Owns when it appears, and its absence while lines are written above it. Does not know the steps of a build: these have a display
//! of their own.
//! Invariants: there is one at a time; what is over at once is not shown; elsewhere than in a terminal there is none.

use std::io::{self, IsTerminal};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::screen::Screen;

/// What is done sooner is not shown.
const DELAY: Duration = Duration::from_millis(200);
/// How often it is drawn again.
const TICK: Duration = Duration::from_millis(100);

static LINE: Mutex<Option<Line>> = Mutex::new(None);
static OVER: Condvar = Condvar::new();

struct Line {
    text: String,
    /// Once it is shown.
    shown: Option<ProgressBar>,
}

/// Whether a person looks at standard error as it is written.
pub fn is_watched() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// A line without a bar: how much there is to do is not known yet.
pub fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner:.green} {wide_msg}");
    ProgressBar::with_draw_target(
        None,
        ProgressDrawTarget::term_like(Box::<Screen>::default()),
    )
    .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

fn line() -> MutexGuard<'static, Option<Line>> {
    LINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Shows a line as long as it lives.
pub struct Live(Option<JoinHandle<()>>);

impl Live {
    /// Begins with `text`, in a terminal.
    pub fn begin(text: &str) -> Self {
        if !is_watched() || line().is_some() {
            return Self(None);
        }
        *line() = Some(Line {
            text: text.to_owned(),
            shown: None,
        });
        Self(std::thread::Builder::new().spawn(draw).ok())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let Some(thread) = self.0.take() else { return };
        if let Some(Line {
            shown: Some(bar), ..
        }) = line().take()
        {
            bar.finish_and_clear();
        }
        OVER.notify_all();
        // It has nothing to say.
        drop(thread.join());
    }
}

/// From now on the line says this, if there is one.
pub fn tell(text: impl FnOnce() -> String) {
    if let Some(line) = line().as_mut() {
        line.text = text();
    }
}

/// Has `write` write lines while there is none below them.
pub fn above(write: impl FnOnce()) {
    match line().as_ref().and_then(|line| line.shown.as_ref()) {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

fn draw() {
    let mut line = line();
    let mut pause = DELAY;
    loop {
        let woken = OVER.wait_timeout(line, pause);
        line = woken.unwrap_or_else(PoisonError::into_inner).0;
        let Some(Line { text, shown }) = line.as_mut() else {
            return;
        };
        let bar = shown.get_or_insert_with(spinner);
        bar.set_message(text.clone());
        bar.tick();
        pause = TICK;
    }
}
