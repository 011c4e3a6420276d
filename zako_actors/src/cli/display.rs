//! Showing a build while it runs.
//!
//! Owns the live line in a terminal, plain lines elsewhere, and the handing on of every event to the
//! files that want them. Does not know the build: it reads events.
//! Invariant: a failure and what its command printed are shown once.

use std::io::{self, IsTerminal};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::say;
use super::screen::Screen;
use super::sink::Sink;
use crate::engine::event::{Event, Outcome, Stamped};

/// How often the live line is drawn again.
const TICK: Duration = Duration::from_millis(100);
/// Between two looks at the events, so that not every one of them wakes this thread while steps want its
/// CPU.
const PAUSE: Duration = Duration::from_millis(4);
/// Running steps that the live line names.
const SHOWN: usize = 3;

/// What to show and where.
pub struct Display {
    verbose: bool,
    bar: Option<ProgressBar>,
    sinks: Vec<Box<dyn Sink>>,
    /// With when each began, and whether the build waits for it.
    running: Vec<(String, Instant, bool)>,
    /// When the build is expected to end.
    expected: Option<Instant>,
    total: usize,
    ended: usize,
    cached: usize,
}

impl Display {
    /// A display; events also go to `sinks`.
    pub fn new(verbose: bool, sinks: Vec<Box<dyn Sink>>) -> Self {
        let live =
            io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|t| t != "dumb");
        Self {
            verbose,
            bar: live.then(|| {
                let style = ProgressStyle::with_template("{bar:20.green} {pos}/{len} {wide_msg}");
                ProgressBar::with_draw_target(
                    Some(0),
                    ProgressDrawTarget::term_like(Box::<Screen>::default()),
                )
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            }),
            sinks,
            running: Vec::new(),
            expected: None,
            total: 0,
            ended: 0,
            cached: 0,
        }
    }

    /// Shows the events of a build until it is finished, and ends the files. Whoever carries it out unparks this thread
    /// at its end.
    pub fn follow(mut self, events: Receiver<Stamped>) {
        'build: loop {
            let mut news = match events.recv_timeout(TICK) {
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => None,
                Ok(stamped) => Some(stamped),
            };
            let happened = news.is_some();
            while let Some(stamped) = news {
                self.hand_on(|sink| sink.take(&stamped));
                if matches!(stamped.event, Event::BuildFinished(_)) {
                    break 'build;
                }
                self.show(&stamped.event);
                news = events.try_recv().ok();
            }
            self.draw();
            if happened {
                std::thread::park_timeout(PAUSE);
            }
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.hand_on(|sink| sink.end());
    }

    /// Does the same to every sink; one that fails is left out from then on.
    fn hand_on(&mut self, mut give: impl FnMut(&mut dyn Sink) -> io::Result<()>) {
        let mut broken = Vec::new();
        self.sinks.retain_mut(|sink| match give(&mut **sink) {
            Ok(()) => true,
            Err(error) => {
                broken.push(format!(
                    "warning: cannot write the {}: {error}",
                    sink.name()
                ));
                false
            }
        });
        broken.iter().for_each(|text| self.line(text));
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(text)),
            None => say(text),
        }
    }

    fn show(&mut self, event: &Event) {
        match event {
            Event::BuildStarted { targets, fresh } | Event::BuildGrew { targets, fresh } => {
                self.total += targets - fresh;
                if let Some(bar) = &self.bar {
                    bar.set_length(self.total as u64);
                }
            }
            Event::StepStarted {
                label,
                cause,
                critical,
            } => {
                self.running
                    .push((label.clone(), Instant::now(), *critical));
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
                reason,
                attempts,
                left_us,
                ..
            } => {
                self.running.retain(|(running, ..)| running != label);
                self.expected = left_us.map(|left| Instant::now() + Duration::from_micros(left));
                self.ended += 1;
                self.cached += usize::from(*outcome == Outcome::Cached);
                let word = word(*outcome, *duration_us, *attempts);
                let word = match reason {
                    Some(reason) => format!("{word}: {reason}"),
                    None => word,
                };
                let failure = failure.as_deref();
                self.step(label, &word, failure, output.as_deref());
            }
            Event::SandboxChosen { mode, by } => self.line(&format!("sandbox {mode}: {by}")),
            Event::PhaseFinished { .. }
            | Event::ScriptsEvaluated { .. }
            | Event::PoolsFinished { .. }
            | Event::BuildFinished(_) => {}
        }
    }

    fn step(&self, label: &str, word: &str, failure: Option<&str>, output: Option<&str>) {
        let progress = format!("[{}/{}]", self.ended, self.total);
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
        bar.set_message(self.message(Instant::now()));
        bar.set_position(self.ended as u64);
        bar.tick();
    }

    /// What the live line says behind the bar. Steps that the whole build waits for come first and
    /// are marked.
    fn message(&self, now: Instant) -> String {
        let mut parts = Vec::new();
        if self.cached > 0 {
            parts.push(format!("{} cached", self.cached));
        }
        let left = self.expected.map(|end| end.saturating_duration_since(now));
        if let Some(left) = left.filter(|left| *left >= Duration::from_secs(1)) {
            parts.push(format!("ETA {}", hours(left)));
        }
        let critical = self.running.iter().filter(|(.., critical)| *critical);
        let others = self.running.iter().filter(|(.., critical)| !critical);
        let mut names: Vec<String> = critical
            .chain(others)
            .take(SHOWN)
            .map(|(label, since, critical)| {
                let mark = if *critical { "» " } else { "" };
                let seconds = now.saturating_duration_since(*since).as_secs_f64();
                format!("{mark}{label} {seconds:.0}s")
            })
            .collect();
        if self.running.len() > SHOWN {
            names.push(format!("{} more", self.running.len() - SHOWN));
        }
        parts.push(names.join(", "));
        parts.join(" · ")
    }
}

/// How a step ended, for its line.
fn word(outcome: Outcome, duration_us: u64, attempts: u32) -> String {
    let seconds = duration_us as f64 / 1e6;
    match outcome {
        Outcome::Executed if attempts > 1 => {
            format!("{seconds:.2} s, flaky: try {attempts} passed")
        }
        Outcome::Executed => format!("{seconds:.2} s"),
        Outcome::Cached => "from the cache".into(),
        Outcome::UpToDate => "unchanged".into(),
        Outcome::Skipped => "skipped".into(),
        Outcome::Cancelled => "stopped".into(),
        Outcome::Failed => String::new(),
    }
}

/// `1:02:03`, `2:03` or `3s`.
fn hours(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_live_line_names_what_the_build_waits_for_and_for_how_long() {
        let mut display = Display::new(false, Vec::new());
        for (label, critical) in [("//:a", false), ("//:b", true)] {
            display.show(&Event::StepStarted {
                label: label.into(),
                cause: String::new(),
                critical,
            });
        }
        let now = Instant::now();
        display.expected = Some(now + Duration::from_millis(125_500));
        display.cached = 3;
        assert_eq!(
            display.message(now),
            "3 cached · ETA 2:05 · » //:b 0s, //:a 0s"
        );
        assert_eq!(hours(Duration::from_secs(3_723)), "1:02:03");
    }
}
