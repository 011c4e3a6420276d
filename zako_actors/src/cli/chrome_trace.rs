//! The file of `--trace`: a build as a picture in Perfetto or chrome://tracing.
//!
//! Owns the Chrome trace event format and the rows that steps are drawn in. Does not know the
//! build: it reads events.
//! Invariants: two steps that ran at the same time are in different rows, so that no slice overlaps another one in part, which
//! viewers drop; every event has `ph`, `ts`, `pid` and `tid`; the file is valid JSON
//! as soon as the build has ended, however it ended.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use rustc_hash::FxHashMap;
use serde_json::{Value, json};

use super::sink::Sink;
use crate::engine::event::{Event, Stamped};

/// The row of everything that is no step. Its number is the process's, as that of a main thread is; what is in row 0, Perfetto
/// draws among the steps of row 1.
const OWN_ROW: usize = 1;

/// Writes a trace.
pub struct Trace<W: Write + Send = BufWriter<File>> {
    out: W,
    first: bool,
    /// Which rows are taken; those up to [`OWN_ROW`] always are.
    taken: Vec<bool>,
    running: FxHashMap<String, (usize, u64)>,
}

impl Trace {
    /// Begins a trace in `file`.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn of(file: File) -> io::Result<Self> {
        Self::new(BufWriter::new(file))
    }
}

impl<W: Write + Send> Trace<W> {
    fn new(mut out: W) -> io::Result<Self> {
        out.write_all(b"{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n")?;
        let mut trace = Self {
            out,
            first: true,
            taken: vec![true; OWN_ROW + 1],
            running: FxHashMap::default(),
        };
        trace.write(
            &json!({
                "ph": "M", "ts": 0, "pid": 1, "tid": OWN_ROW, "name": "process_name", "args": {"name": "zako"},
            }),
        )?;
        trace.name_row(OWN_ROW, "zako")?;
        Ok(trace)
    }

    fn write(&mut self, event: &Value) -> io::Result<()> {
        if !std::mem::replace(&mut self.first, false) {
            self.out.write_all(b",\n")?;
        }
        serde_json::to_writer(&mut self.out, event)?;
        Ok(())
    }

    fn name_row(&mut self, row: usize, name: &str) -> io::Result<()> {
        self.write(&json!({
            "ph": "M", "ts": 0, "pid": 1, "tid": row, "name": "thread_name", "args": {"name": name},
        }))?;
        self.write(&json!({
            "ph": "M", "ts": 0, "pid": 1, "tid": row, "name": "thread_sort_index", "args": {"sort_index": row},
        }))
    }

    fn free_row(&mut self) -> io::Result<usize> {
        if let Some(row) = self.taken.iter().position(|taken| !taken) {
            self.taken[row] = true;
            return Ok(row);
        }
        let row = self.taken.len();
        self.taken.push(true);
        self.name_row(row, &format!("steps {}", row - OWN_ROW))?;
        Ok(row)
    }

    fn count_running(&mut self, time_us: u64) -> io::Result<()> {
        let running = self.running.len();
        self.write(&json!({
            "ph": "C", "pid": 1, "tid": OWN_ROW, "ts": time_us, "name": "running", "args": {"steps": running},
        }))
    }
}

impl<W: Write + Send> Sink for Trace<W> {
    fn name(&self) -> &'static str {
        "trace"
    }

    fn take(&mut self, stamped: &Stamped) -> io::Result<()> {
        let time_us = stamped.time_us;
        match &stamped.event {
            Event::BuildStarted { .. }
            | Event::BuildGrew { .. }
            | Event::SandboxChosen { .. }
            | Event::ScriptsEvaluated { .. }
            | Event::PoolsFinished { .. } => Ok(()),
            Event::PhaseFinished { phase, duration_us } => self.write(&json!({
                "ph": "X", "pid": 1, "tid": OWN_ROW, "cat": "zako", "name": phase,
                "ts": time_us.saturating_sub(*duration_us), "dur": duration_us,
            })),
            Event::StepStarted { label, .. } => {
                let row = self.free_row()?;
                self.running.insert(label.clone(), (row, time_us));
                self.count_running(time_us)
            }
            Event::StepFinished {
                label,
                outcome,
                causes,
                failure,
                ..
            } => {
                // A skipped step never began.
                let Some((row, begin)) = self.running.remove(label) else {
                    return Ok(());
                };
                self.taken[row] = false;
                self.write(&json!({
                    "ph": "X", "pid": 1, "tid": row, "cat": "step", "name": label,
                    "ts": begin, "dur": time_us.saturating_sub(begin),
                    "args": {"outcome": outcome, "because": causes, "failure": failure},
                }))?;
                self.count_running(time_us)
            }
            Event::BuildFinished(summary) => self.write(&json!({
                "ph": "i", "s": "t", "pid": 1, "tid": OWN_ROW, "cat": "zako",
                "name": "build finished", "ts": time_us, "args": summary,
            })),
        }
    }

    fn end(&mut self) -> io::Result<()> {
        self.out.write_all(b"\n]}\n")?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::event::Outcome;

    #[test]
    fn steps_at_the_same_time_are_in_different_rows() {
        let mut trace = Trace::new(Vec::new()).unwrap();
        let mut take = |time_us, event| trace.take(&Stamped { time_us, event }).unwrap();
        let start = |label: &str| Event::StepStarted {
            label: label.into(),
            cause: "new".into(),
            critical: false,
        };
        let finish = |label: &str| Event::StepFinished {
            label: label.into(),
            outcome: Outcome::Executed,
            duration_us: 0,
            causes: vec!["a.c changed".into()],
            failure: None,
            output: None,
            reason: None,
            attempts: 1,
            left_us: None,
        };
        take(1, start("a"));
        take(2, start("b"));
        take(5, finish("a"));
        take(6, start("c"));
        take(9, finish("c"));
        take(9, finish("b"));
        trace.end().unwrap();
        let value: Value = serde_json::from_slice(&trace.out).unwrap();
        let steps: Vec<(&str, u64, u64, u64)> = value["traceEvents"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|event| event["cat"] == "step")
            .map(|event| {
                let number = |name: &str| event[name].as_u64().unwrap();
                (
                    event["name"].as_str().unwrap(),
                    number("tid"),
                    number("ts"),
                    number("dur"),
                )
            })
            .collect();
        assert_eq!(steps, [("a", 2, 1, 4), ("c", 2, 6, 3), ("b", 3, 2, 7)]);
    }
}
