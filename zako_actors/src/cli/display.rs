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
use super::sink::Sink;
use crate::engine::event::{Event, Outcome, Stamped};

/// How often the live line is drawn again.
const TICK: Duration = Duration::from_millis(100);
/// Running steps that the live line names.
const SHOWN: usize = 3;

/// What to show and where.
pub struct Display {
    verbose: bool,
    bar: Option<ProgressBar>,
    sinks: Vec<Box<dyn Sink>>,
    running: Vec<(String, Instant)>,
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
                ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr())
                    .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            }),
            sinks,
            running: Vec::new(),
            total: 0,
            ended: 0,
            cached: 0,
        }
    }

    /// Shows events until the build is finished.
    pub fn follow(mut self, events: &Receiver<Stamped>) {
        loop {
            match events.recv_timeout(TICK) {
                Ok(stamped) => {
                    self.hand_on(|sink| sink.take(&stamped));
                    self.show(&stamped.event);
                    if matches!(stamped.event, Event::BuildFinished(_)) {
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
                ..
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
            Event::PhaseFinished { .. }
            | Event::ScriptsEvaluated { .. }
            | Event::PoolsFinished { .. }
            | Event::BuildFinished(_) => {}
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
