//! `--otel`: a build as spans of OpenTelemetry, to standard output or to a collector over HTTP.
//!
//! Owns which spans a build has and how they hang together. Does not know the build: it reads events.
//! Invariants: every span lies within the build's own, which is the last one sent and hangs below the
//! caller's when `TRACEPARENT` names one; a collector that is slow or gone costs a bounded wait, once.

use std::io;
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    IdGenerator, RandomIdGenerator, SpanData, SpanEvents, SpanExporter, SpanLinks,
};
use rustc_hash::FxHashMap;
use tokio::runtime::Handle;

use super::sink::Sink;
use crate::engine::event::{Event, Outcome, Stamped, Summary};

/// How long one delivery may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Spans that are sent together.
const BATCH: usize = 512;
/// Where collectors take spans.
const TRACES: &str = "/v1/traces";

#[derive(Debug)]
enum Exporter {
    Stdout(opentelemetry_stdout::SpanExporter),
    Http(Box<opentelemetry_otlp::SpanExporter>),
}

impl Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        match self {
            Self::Stdout(exporter) => exporter.export(batch).await,
            Self::Http(exporter) => exporter.export(batch).await,
        }
    }

    fn set_resource(&mut self, resource: &Resource) {
        match self {
            Self::Stdout(exporter) => exporter.set_resource(resource),
            Self::Http(exporter) => exporter.set_resource(resource),
        }
    }
}

/// Sends spans.
pub struct Otel {
    exporter: Exporter,
    runtime: Handle,
    scope: InstrumentationScope,
    /// When the command began.
    begin: SystemTime,
    trace: TraceId,
    build: SpanId,
    parent: SpanId,
    running: FxHashMap<String, u64>,
    batch: Vec<SpanData>,
}

impl Otel {
    /// Sends to `to`: `stdout`, or the address of a collector.
    ///
    /// # Errors
    /// When there can be no such collector.
    pub fn new(to: &str, begin: Instant, runtime: Handle) -> Result<Self, String> {
        let mut exporter = match to {
            "stdout" => Exporter::Stdout(opentelemetry_stdout::SpanExporter::default()),
            address => Exporter::Http(Box::new(collector(address)?)),
        };
        exporter.set_resource(&Resource::builder().with_service_name("zako").build());
        let ids = RandomIdGenerator::default();
        let traceparent = std::env::var("TRACEPARENT").unwrap_or_default();
        let (trace, parent) =
            caller(&traceparent).unwrap_or_else(|| (ids.new_trace_id(), SpanId::INVALID));
        let now = SystemTime::now();
        Ok(Self {
            exporter,
            runtime,
            scope: InstrumentationScope::builder("zako")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
            begin: now.checked_sub(begin.elapsed()).unwrap_or(now),
            trace,
            build: ids.new_span_id(),
            parent,
            running: FxHashMap::default(),
            batch: Vec::new(),
        })
    }

    fn at(&self, time_us: u64) -> SystemTime {
        self.begin + Duration::from_micros(time_us)
    }

    /// A span of the build, with the times in µs since its beginning.
    fn span(&self, name: String, begin_us: u64, end_us: u64) -> SpanData {
        SpanData {
            span_context: self.context(RandomIdGenerator::default().new_span_id()),
            parent_span_id: self.build,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: name.into(),
            start_time: self.at(begin_us),
            end_time: self.at(end_us),
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        }
    }

    fn context(&self, span: SpanId) -> SpanContext {
        SpanContext::new(
            self.trace,
            span,
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        )
    }

    /// The whole build.
    fn whole(&self, summary: &Summary, end_us: u64) -> SpanData {
        let mut span = self.span("zako build".to_owned(), 0, end_us);
        span.span_context = self.context(self.build);
        span.parent_span_id = self.parent;
        span.parent_span_is_remote = self.parent != SpanId::INVALID;
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

fn collector(address: &str) -> Result<opentelemetry_otlp::SpanExporter, String> {
    let wrong = || {
        format!(
            "`{address}` is no collector: write stdout, or http://HOST:PORT (TLS is for a collector on this machine to speak)"
        )
    };
    let uri: hyper::Uri = address.parse().map_err(|_| wrong())?;
    if uri.scheme_str() != Some("http") || uri.host().is_none() {
        return Err(wrong());
    }
    let endpoint = match uri.path() {
        "" | "/" => format!("{}{TRACES}", address.trim_end_matches('/')),
        _ => address.to_owned(),
    };
    opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(HyperClient::with_default_connector(PATIENCE, None))
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint)
        .with_timeout(PATIENCE)
        .build()
        .map_err(|error| error.to_string())
}

/// Trace and span of the caller, as W3C Trace Context writes them.
fn caller(traceparent: &str) -> Option<(TraceId, SpanId)> {
    let mut parts = traceparent.split('-').skip(1);
    let trace = TraceId::from_hex(parts.next()?).ok()?;
    let span = SpanId::from_hex(parts.next()?).ok()?;
    (trace != TraceId::INVALID && span != SpanId::INVALID).then_some((trace, span))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_taken_only_when_it_is_one() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let (trace, span) = caller(good).unwrap();
        assert_eq!(trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(span.to_string(), "b7ad6b7169203331");
        for bad in ["", "00-x-y-01", &format!("00-{0:032}-{0:016}-01", 0)] {
            assert_eq!(caller(bad), None, "{bad}");
        }
        assert!(
            collector("https://x:4318")
                .unwrap_err()
                .contains("http://HOST:PORT")
        );
    }
}
