//! Where spans of OpenTelemetry go: standard output, or a collector over HTTP.
//!
//! Owns the exporters, and how a caller names the span that ours hang below. Does not know what the spans
//! are about.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{
    IdGenerator, RandomIdGenerator, SpanData, SpanEvents, SpanExporter, SpanLinks,
};

/// How long one delivery may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Spans that are sent together.
pub const BATCH: usize = 512;
/// Where collectors take spans.
const TRACES: &str = "/v1/traces";

/// Sends spans.
#[derive(Debug)]
pub struct Exporter(Kind);

#[derive(Debug)]
enum Kind {
    Stdout(Resource),
    Http(Box<opentelemetry_otlp::SpanExporter>),
}

impl Exporter {
    /// Sends to `to`: `stdout`, or the address of a collector. `service` is what the spans are from.
    ///
    /// # Errors
    /// When there can be no such collector.
    pub fn new(to: &str, service: &'static str) -> Result<Self, String> {
        let resource = Resource::builder().with_service_name(service).build();
        Ok(Self(match to {
            "stdout" => Kind::Stdout(resource),
            address => {
                let mut exporter = collector(address)?;
                exporter.set_resource(&resource);
                Kind::Http(Box::new(exporter))
            }
        }))
    }

    /// Delivers spans; gives up after a few seconds.
    ///
    /// # Errors
    /// When the collector does not take them, or nobody reads the output.
    pub async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        match &self.0 {
            Kind::Stdout(resource) => {
                let written = print(&mut io::stdout().lock(), resource, &batch);
                written.map_err(|error| OTelSdkError::InternalFailure(error.to_string()))
            }
            Kind::Http(exporter) => exporter.export(batch).await,
        }
    }
}

/// Writes spans for a person, each with what it is from.
fn print(to: &mut impl Write, resource: &Resource, batch: &[SpanData]) -> io::Result<()> {
    let time = |at: SystemTime| humantime::format_rfc3339_micros(at);
    for span in batch {
        let SpanData { span_context, .. } = span;
        writeln!(to, "Span {}", span.name)?;
        writeln!(
            to,
            "  trace {}  span {}",
            span_context.trace_id(),
            span_context.span_id()
        )?;
        if span.parent_span_id != SpanId::INVALID {
            writeln!(to, "  parent {}", span.parent_span_id)?;
        }
        writeln!(to, "  kind {:?}  status {:?}", span.span_kind, span.status)?;
        writeln!(
            to,
            "  from {} to {}",
            time(span.start_time),
            time(span.end_time)
        )?;
        for (key, value) in resource.iter() {
            writeln!(to, "  resource {key} = {value}")?;
        }
        for KeyValue { key, value, .. } in &span.attributes {
            writeln!(to, "  {key} = {value}")?;
        }
    }
    to.flush()
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

/// What a span of ours hangs below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// The trace that it belongs to.
    pub trace: TraceId,
    /// The caller's span; [`SpanId::INVALID`] if there is no caller.
    pub span: SpanId,
    /// Whether the caller wants spans.
    pub is_sampled: bool,
}

impl Parent {
    /// The caller, as W3C Trace Context writes it.
    pub fn read(traceparent: &str) -> Option<Self> {
        let mut parts = traceparent.split('-').skip(1);
        let trace = TraceId::from_hex(parts.next()?).ok()?;
        let span = SpanId::from_hex(parts.next()?).ok()?;
        let flags = parts
            .next()
            .and_then(|flags| u8::from_str_radix(flags, 16).ok());
        (trace != TraceId::INVALID && span != SpanId::INVALID).then_some(Self {
            trace,
            span,
            is_sampled: flags.is_none_or(|flags| TraceFlags::new(flags).is_sampled()),
        })
    }

    /// Nobody: the span begins a trace of its own.
    pub fn none() -> Self {
        Self {
            trace: RandomIdGenerator::default().new_trace_id(),
            span: SpanId::INVALID,
            is_sampled: true,
        }
    }

    /// A span below this one.
    pub fn child(
        &self,
        kind: SpanKind,
        name: String,
        time: (SystemTime, SystemTime),
        attributes: Vec<KeyValue>,
    ) -> SpanData {
        SpanData {
            span_context: SpanContext::new(
                self.trace,
                RandomIdGenerator::default().new_span_id(),
                TraceFlags::SAMPLED,
                false,
                TraceState::default(),
            ),
            parent_span_id: self.span,
            parent_span_is_remote: kind == SpanKind::Server && self.span != SpanId::INVALID,
            span_kind: kind,
            name: name.into(),
            start_time: time.0,
            end_time: time.1,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::builder("zako")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_taken_only_when_it_is_one() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let parent = Parent::read(good).unwrap();
        assert_eq!(parent.trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(parent.span.to_string(), "b7ad6b7169203331");
        assert!(parent.is_sampled);
        assert!(
            !Parent::read(&good.replace("-01", "-00"))
                .unwrap()
                .is_sampled
        );
        for bad in ["", "00-x-y-01", &format!("00-{0:032}-{0:016}-01", 0)] {
            assert_eq!(Parent::read(bad), None, "{bad}");
        }
        assert!(
            collector("https://x:4318")
                .unwrap_err()
                .contains("http://HOST:PORT")
        );
    }
}
