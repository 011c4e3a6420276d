//! Showing a build while it runs.
//!
//! Owns the live line in a terminal, plain lines elsewhere, the event file, and the summary's
//! words. Does not know the build: it reads events.
//! Invariant: a failure and what its command printed are shown once.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::say;
use crate::engine::event::{Event, Outcome, Summary};

/// How often the live line is drawn again.
const TICK: Duration = Duration::from_millis(100);
/// Running steps that the live line names.
const SHOWN: usize = 3;

/// What to show and where.
pub struct Display {
    verbose: bool,
    bar: Option<ProgressBar>,
    events: Option<BufWriter<File>>,
    running: Vec<(String, Instant)>,
    total: usize,
    ended: usize,
    cached: usize,
}

impl Display {
    /// A display; events also go to the file `events`.
    ///
    /// # Errors
    /// When that file cannot be made.
    pub fn new(verbose: bool, events: Option<&Path>) -> io::Result<Self> {
        let live =
            io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|t| t != "dumb");
        Ok(Self {
            verbose,
            bar: live.then(|| {
                let style = ProgressStyle::with_template("{bar:20.green} {pos}/{len} {wide_msg}");
                ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr())
                    .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            }),
            events: events.map(File::create).transpose()?.map(BufWriter::new),
            running: Vec::new(),
            total: 0,
            ended: 0,
            cached: 0,
        })
    }

    /// Shows events until the build is finished.
    pub fn follow(mut self, events: &Receiver<Event>) {
        loop {
            match events.recv_timeout(TICK) {
                Ok(event) => {
                    self.show(&event);
                    if matches!(event, Event::BuildFinished(_)) {
                        break;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.draw();
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if let Some(file) = &mut self.events
            && let Err(error) = file.flush()
        {
            say(&format!("warning: cannot write the event file: {error}"));
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(text)),
            None => say(text),
        }
    }

    fn show(&mut self, event: &Event) {
        if let Some(file) = &mut self.events {
            let written = serde_json::to_writer(&mut *file, event)
                .map_err(io::Error::from)
                .and_then(|()| file.write_all(b"\n"));
            if let Err(error) = written {
                self.events = None;
                self.line(&format!("warning: cannot write the event file: {error}"));
            }
        }
        match event {
            Event::BuildStarted { targets, fresh } => {
                self.total = targets - fresh;
                if let Some(bar) = &self.bar {
                    bar.set_length(self.total as u64);
                }
            }
            Event::StepStarted { label, cause } => {
                self.running.push((label.clone(), Instant::now()));
                if self.verbose {
                    self.line(&format!("{label}: {cause}"));
                }
            }
            Event::StepFinished {
                label,
                outcome,
                duration_us,
                failure,
                output,
            } => {
                self.running.retain(|(running, _)| running != label);
                self.ended += 1;
                self.cached += usize::from(*outcome == Outcome::Cached);
                self.step(
                    label,
                    *outcome,
                    *duration_us,
                    failure.as_deref(),
                    output.as_deref(),
                );
            }
            Event::BuildFinished(_) => {}
        }
    }

    fn step(
        &self,
        label: &str,
        outcome: Outcome,
        duration_us: u64,
        failure: Option<&str>,
        output: Option<&str>,
    ) {
        let progress = format!("[{}/{}]", self.ended, self.total);
        let word = match outcome {
            Outcome::Executed => format!("{:.2} s", duration_us as f64 / 1e6),
            Outcome::Cached => "from the cache".into(),
            Outcome::UpToDate => "unchanged".into(),
            Outcome::Skipped => "skipped".into(),
            Outcome::Cancelled => "stopped".into(),
            Outcome::Failed => String::new(),
        };
        match failure {
            Some(text) => self.line(text),
            // In a terminal the live line is enough, unless more is asked for.
            None if self.bar.is_none() || self.verbose => {
                self.line(&format!("{progress} {label}  {word}"));
            }
            None => {}
        }
        if let Some(output) = output {
            let text: String = crate::engine::step::shorten(output)
                .lines()
                .map(|line| format!("\n    {line}"))
                .collect();
            self.line(&format!("{label} printed:{text}"));
        }
    }

    fn draw(&self) {
        let Some(bar) = &self.bar else { return };
        let mut names: Vec<String> = self
            .running
            .iter()
            .take(SHOWN)
            .map(|(label, since)| format!("{label} {:.0}s", since.elapsed().as_secs_f64()))
            .collect();
        if self.running.len() > SHOWN {
            names.push(format!("{} more", self.running.len() - SHOWN));
        }
        let cached = if self.cached > 0 {
            format!("{} cached · ", self.cached)
        } else {
            String::new()
        };
        bar.set_message(format!("{cached}{}", names.join(", ")));
        bar.set_position(self.ended as u64);
        bar.tick();
    }
}

/// The last line of a build.
pub fn summarise(summary: &Summary) -> String {
    let plural = |count: usize, word: &str| {
        format!(
            "{} {word}{}",
            group(count),
            if count == 1 { "" } else { "s" }
        )
    };
    let targets = plural(summary.targets, "target");
    let files = plural(summary.files, "file");
    let time = duration(summary.duration_us);
    let mut parts = Vec::new();
    for (count, word) in [
        (summary.failed, "failed"),
        (summary.cancelled, "stopped"),
        (summary.skipped, "skipped"),
        (summary.executed, "ran"),
        (summary.cached, "from the cache"),
        (summary.up_to_date, "up to date"),
    ] {
        if count > 0 {
            parts.push(format!("{} {word}", group(count)));
        }
    }
    if parts.is_empty() {
        parts.push("nothing to do".into());
    }
    format!(
        "{targets}, {files}: {} · {} · {time}",
        parts.join(", "),
        summary.engine
    )
}

fn duration(us: u64) -> String {
    let seconds = us as f64 / 1e6;
    if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1e3)
    } else {
        format!("{seconds:.2} s")
    }
}

/// `12,345`.
fn group(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_names_what_happened() {
        let summary = Summary {
            targets: 5,
            files: 1153,
            executed: 3,
            up_to_date: 2,
            duration_us: 1_240_000,
            engine: "V8 150".into(),
            ..Summary::default()
        };
        assert_eq!(
            summarise(&summary),
            "5 targets, 1,153 files: 3 ran, 2 up to date · V8 150 · 1.24 s"
        );
        assert_eq!(group(1_234_567), "1,234,567");
    }
}
