//! `--otel`: a build as spans of OpenTelemetry, to standard output or to a collector over HTTP.
//!
//! Owns which spans a build has and how they hang together. Does not know the build: it reads events.
//! Invariants: every span lies within the build's own, which is the last one sent and hangs below the
//! caller's when `TRACEPARENT` names one; a collector that is slow or gone costs a bounded wait, once.

use std::io;
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SpanData};
use rustc_hash::FxHashMap;
use tokio::runtime::Handle;

use super::sink::Sink;
use crate::engine::event::{Event, Outcome, Stamped, Summary};
use crate::spans::{BATCH, Exporter, Parent};

/// Sends spans.
pub struct Otel {
    exporter: Exporter,
    runtime: Handle,
    /// When the command began.
    begin: SystemTime,
    /// The span of the build.
    build: Parent,
    /// Whoever has called it.
    caller: Parent,
    running: FxHashMap<String, u64>,
    batch: Vec<SpanData>,
}

impl Otel {
    /// Sends to `to`: `stdout`, or the address of a collector.
    ///
    /// # Errors
    /// When there can be no such collector.
    pub fn new(to: &str, begin: Instant, runtime: Handle) -> Result<Self, String> {
        let traceparent = std::env::var("TRACEPARENT").unwrap_or_default();
        let caller = Parent::read(&traceparent).unwrap_or_else(Parent::none);
        let now = SystemTime::now();
        Ok(Self {
            exporter: Exporter::new(to, "zako")?,
            runtime,
            begin: now.checked_sub(begin.elapsed()).unwrap_or(now),
            build: Parent {
                span: RandomIdGenerator::default().new_span_id(),
                ..caller
            },
            caller,
            running: FxHashMap::default(),
            batch: Vec::new(),
        })
    }

    fn at(&self, time_us: u64) -> SystemTime {
        self.begin + Duration::from_micros(time_us)
    }

    /// A span of the build, with the times in µs since its beginning.
    fn span(&self, name: String, begin_us: u64, end_us: u64) -> SpanData {
        let time = (self.at(begin_us), self.at(end_us));
        self.build.child(SpanKind::Internal, name, time, Vec::new())
    }

    /// The whole build.
    fn whole(&self, summary: &Summary, end_us: u64) -> SpanData {
        let mut span = self.span("zako build".to_owned(), 0, end_us);
        let Parent {
            trace, span: id, ..
        } = self.build;
        let flags = TraceFlags::SAMPLED;
        span.span_context = SpanContext::new(trace, id, flags, false, TraceState::default());
        span.parent_span_id = self.caller.span;
        span.parent_span_is_remote = self.caller.span != SpanId::INVALID;
        let counts = [
            ("zako.targets", summary.targets),
            ("zako.executed", summary.executed),
            ("zako.cached", summary.cached),
            ("zako.up_to_date", summary.up_to_date),
            ("zako.failed", summary.failed),
        ];
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        span.attributes = counts
            .map(|(key, value)| KeyValue::new(key, count(value)))
            .to_vec();
        span.status = match summary {
            Summary { failed: 1.., .. } => Status::error("steps failed"),
            Summary {
                interrupted: true, ..
            } => Status::error("interrupted"),
            _ => Status::Ok,
        };
        span
    }

    fn flush(&mut self) -> io::Result<()> {
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        let sent = self.runtime.block_on(self.exporter.export(batch));
        sent.map_err(io::Error::other)
    }
}

impl Sink for Otel {
    fn name(&self) -> &'static str {
        "OpenTelemetry export"
    }

    fn take(&mut self, stamped: &Stamped) -> io::Result<()> {
        let end_us = stamped.time_us;
        match &stamped.event {
            Event::StepStarted { label, .. } => {
                self.running.insert(label.clone(), end_us);
                return Ok(());
            }
            Event::PhaseFinished { phase, duration_us } => {
                let begin_us = end_us.saturating_sub(*duration_us);
                let span = self.span((*phase).to_owned(), begin_us, end_us);
                self.batch.push(span);
            }
            Event::StepFinished {
                label,
                outcome,
                causes,
                failure,
                ..
            } => {
                // A skipped step never began.
                let Some(begin_us) = self.running.remove(label) else {
                    return Ok(());
                };
                let mut span = self.span(label.clone(), begin_us, end_us);
                span.attributes = vec![
                    KeyValue::new("zako.outcome", outcome.to_string()),
                    KeyValue::new("zako.causes", causes.join("; ")),
                ];
                let line = failure.as_deref().and_then(|text| text.lines().next());
                span.status = match outcome {
                    Outcome::Failed | Outcome::Cancelled => {
                        Status::error(line.unwrap_or("stopped").to_owned())
                    }
                    _ => Status::Ok,
                };
                self.batch.push(span);
            }
            Event::BuildFinished(summary) => {
                let span = self.whole(summary, end_us);
                self.batch.push(span);
            }
            _ => return Ok(()),
        }
        if self.batch.len() < BATCH {
            return Ok(());
        }
        self.flush()
    }

    fn end(&mut self) -> io::Result<()> {
        self.flush()
    }
}
