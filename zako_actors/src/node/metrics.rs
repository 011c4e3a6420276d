//! The node's figures in the Prometheus text format.
//!
//! Owns names, help and types: every name begins with `zako_v1_` and keeps its meaning.
//! Does not know HTTP.

use std::fmt::{Display, Write};

use cas_actor::front::{FrontStats, SIZE_BOUNDS_BYTES, SizeStats, SpaceStats, TransportStats};
use cas_actor::{Latency, Stats, Tier};

use super::Node;

/// Renders every figure.
pub async fn render(node: &Node) -> String {
    let mut page = Page(String::with_capacity(8 * 1024));
    actors(node, &mut page);
    match node.store.stats().await {
        Ok(stats) => {
            page.gauge("store_up", "Whether the store answers.", 1);
            store(&stats, &mut page);
            if let Some(limit) = node.store.config().max_bytes {
                page.gauge(
                    "store_limit_bytes",
                    "What the store may take on disk.",
                    limit,
                );
            }
        }
        Err(_) => page.gauge("store_up", "Whether the store answers.", 0),
    }
    if let Some(tier) = node.store.upstream() {
        upstream(tier, &mut page);
    }
    if let Some(front) = node.front.get() {
        fronts(&front.figures.read(), &mut page);
    }
    node.engine.render(&mut page);
    process(node, &mut page);
    page.0
}

pub(super) struct Page(String);

impl Page {
    fn sample(&mut self, kind: &str, name: &str, help: &str, value: impl Display) {
        // Writing to a String cannot fail.
        let _ = writeln!(
            self.0,
            "# HELP zako_v1_{name} {help}\n# TYPE zako_v1_{name} {kind}\nzako_v1_{name} {value}"
        );
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.sample("gauge", name, help, value);
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.sample("counter", name, help, value);
    }

    /// One figure of several things, told apart by a label.
    pub(super) fn by_label<'a, V: Display>(
        &mut self,
        kind: &str,
        name: &str,
        help: &str,
        label: &str,
        values: impl Iterator<Item = (&'a str, V)>,
    ) {
        let name = format!("zako_v1_{name}");
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (which, value) in values {
            let _ = writeln!(self.0, "{name}{{{label}=\"{which}\"}} {value}");
        }
    }

    fn by_client(
        &mut self,
        name: &str,
        help: &str,
        stats: &FrontStats,
        of: fn(&SpaceStats) -> u64,
    ) {
        let name = format!("zako_v1_front_{name}_total");
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} counter");
        for (space, stats) in &stats.spaces {
            let _ = writeln!(
                self.0,
                "{name}{{client=\"{}\"}} {}",
                space.name(),
                of(stats)
            );
        }
    }

    fn sizes(&mut self, name: &str, help: &str, stats: &SizeStats) {
        let name = format!("zako_v1_{name}");
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} histogram");
        let mut sum = 0;
        for (bound, count) in SIZE_BOUNDS_BYTES.iter().zip(stats.buckets) {
            sum += count;
            let _ = writeln!(self.0, "{name}_bucket{{le=\"{bound}\"}} {sum}");
        }
        let count: u64 = stats.buckets.iter().sum();
        let _ = writeln!(
            self.0,
            "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {}\n{name}_count {count}",
            stats.sum_bytes
        );
    }

    fn histogram(&mut self, name: &str, help: &str, latency: &Latency) {
        let _ = writeln!(
            self.0,
            "# HELP zako_v1_{name} {help}\n# TYPE zako_v1_{name} histogram"
        );
        let mut sum = 0;
        for (index, count) in latency.buckets.iter().enumerate() {
            sum += count;
            // The last bucket has no upper bound.
            if index + 1 < latency.buckets.len() {
                let bound = (1_u64 << index) as f64 / 1e6;
                let _ = writeln!(self.0, "zako_v1_{name}_bucket{{le=\"{bound}\"}} {sum}");
            }
        }
        let seconds = latency.sum_ns as f64 / 1e9;
        let _ = writeln!(
            self.0,
            "zako_v1_{name}_bucket{{le=\"+Inf\"}} {sum}\nzako_v1_{name}_sum {seconds}\nzako_v1_{name}_count {sum}"
        );
    }
}

fn actors(node: &Node, page: &mut Page) {
    let stats = node.system.stats();
    page.gauge("actors_live", "Actors that have not ended.", stats.live);
    page.gauge(
        "actors_workers",
        "Threads that run actors.",
        node.system.workers(),
    );
    page.counter("actors_spawned_total", "Actors started.", stats.spawned);
    page.counter(
        "actors_failures_total",
        "Panics and failures of actors.",
        stats.failures,
    );
    page.counter(
        "actors_restarts_total",
        "Restarts after failures.",
        stats.restarts,
    );
    page.counter(
        "actors_dead_letters_total",
        "Messages that nobody handled.",
        stats.dead_letters,
    );
}

fn store(stats: &Stats, page: &mut Page) {
    page.gauge("store_blobs", "Blobs on disk.", stats.blobs);
    page.gauge(
        "store_blob_bytes",
        "Bytes of blobs on disk.",
        stats.blob_bytes,
    );
    page.gauge(
        "store_actions",
        "Entries of the action cache.",
        stats.actions,
    );
    page.gauge(
        "store_action_bytes",
        "Bytes of the action cache.",
        stats.action_bytes,
    );
    page.gauge(
        "store_memory_blobs",
        "Blobs in the memory tier.",
        stats.memory_blobs,
    );
    page.gauge(
        "store_memory_bytes",
        "Bytes of the memory tier.",
        stats.memory_bytes,
    );
    page.counter("store_puts_total", "Blobs written.", stats.puts);
    page.counter(
        "store_put_bytes_total",
        "Bytes of blobs written.",
        stats.put_bytes,
    );
    page.counter(
        "store_puts_present_total",
        "Puts of blobs that were there.",
        stats.puts_present,
    );
    page.counter(
        "store_memory_hits_total",
        "Reads from the memory tier.",
        stats.memory_hits,
    );
    page.counter("store_disk_hits_total", "Reads from disk.", stats.disk_hits);
    page.counter(
        "store_misses_total",
        "Reads of blobs that are not there.",
        stats.misses,
    );
    page.counter("store_get_bytes_total", "Bytes read.", stats.get_bytes);
    page.counter(
        "store_action_hits_total",
        "Action entries found.",
        stats.action_hits,
    );
    page.counter(
        "store_action_misses_total",
        "Action entries not found.",
        stats.action_misses,
    );
    page.counter(
        "store_fsyncs_total",
        "Calls that make data durable.",
        stats.fsyncs,
    );
    page.counter(
        "store_corrupt_total",
        "Damaged blobs and entries met.",
        stats.corrupt,
    );
    page.counter(
        "store_evicted_total",
        "Blobs and entries evicted.",
        stats.evicted,
    );
    page.counter(
        "store_evicted_bytes_total",
        "Bytes evicted.",
        stats.evicted_bytes,
    );
    page.counter(
        "store_scrubbed_total",
        "Blobs and entries that were read again in the background.",
        stats.scrubbed,
    );
    page.counter(
        "store_scrubbed_bytes_total",
        "Bytes read again in the background.",
        stats.scrubbed_bytes,
    );
    page.histogram(
        "store_put_seconds",
        "How long groups of puts took.",
        &stats.put_latency,
    );
    page.histogram(
        "store_get_seconds",
        "How long reads from disk took.",
        &stats.get_latency,
    );
}

fn upstream(tier: &Tier, page: &mut Page) {
    let stats = tier.stats();
    page.gauge(
        "upstream_up",
        "Whether the cache behind the node is asked; 0 while it does not answer.",
        u64::from(!tier.is_down()),
    );
    for (name, help, value) in [
        ("hits", "Blobs found behind the node.", stats.hits),
        ("misses", "Blobs that are not there either.", stats.misses),
        (
            "action_hits",
            "Entries found behind the node.",
            stats.action_hits,
        ),
        (
            "action_misses",
            "Entries that are not there either.",
            stats.action_misses,
        ),
        ("failures", "Calls that failed.", stats.failures),
        (
            "skipped",
            "Calls not made because the cache behind does not answer.",
            stats.skipped,
        ),
        (
            "fetched_bytes",
            "Bytes of the blobs found.",
            stats.fetched_bytes,
        ),
        ("handed_on", "Blobs and entries handed on.", stats.handed_on),
        (
            "not_handed_on",
            "Blobs and entries that were not handed on.",
            stats.not_handed_on,
        ),
    ] {
        page.counter(&format!("upstream_{name}_total"), help, value);
    }
}

fn fronts(stats: &FrontStats, page: &mut Page) {
    page.gauge(
        "front_connections",
        "Connections that are open.",
        stats.connections,
    );
    page.gauge(
        "front_requests",
        "Requests that are being answered.",
        stats.requests,
    );
    page.gauge(
        "front_held_bytes",
        "Bytes that requests hold in memory.",
        stats.held_bytes,
    );
    page.counter(
        "front_overloaded_total",
        "Connections and requests turned away because of a limit.",
        stats.overloaded,
    );
    transport(&stats.transport, page);
    page.sizes(
        "transport_upload_chunk_bytes",
        "Chunks of uploads over gRPC.",
        &stats.upload_chunks,
    );
    page.sizes(
        "transport_download_chunk_bytes",
        "Chunks of downloads over gRPC.",
        &stats.download_chunks,
    );
    for (name, help, errors) in [
        (
            "front_http_errors_total",
            "Answers over HTTP that refused or failed, by status.",
            &stats.http_errors,
        ),
        (
            "front_grpc_errors_total",
            "Calls over gRPC that failed, by the number of their status.",
            &stats.grpc_errors,
        ),
    ] {
        let errors: Vec<_> = errors
            .iter()
            .map(|(code, n)| (code.to_string(), n))
            .collect();
        let values = errors.iter().map(|(code, number)| (&code[..], *number));
        page.by_label("counter", name, help, "code", values);
    }
    type Of = fn(&SpaceStats) -> u64;
    let families: [(&str, &str, Of); 6] = [
        ("hits", "Reads that found an entry.", |s| s.hits),
        ("misses", "Reads that found none.", |s| s.misses),
        ("stored", "Entries stored.", |s| s.stored),
        ("refused", "Requests refused.", |s| s.refused),
        ("read_bytes", "Bytes of entries read.", |s| s.read_bytes),
        ("stored_bytes", "Bytes of entries stored.", |s| {
            s.stored_bytes
        }),
    ];
    for (name, help, of) in families {
        page.by_client(name, help, stats, of);
    }
}

fn transport(stats: &TransportStats, page: &mut Page) {
    for (name, help, value) in [
        (
            "cas_negotiated_total",
            "Digests that clients asked about.",
            stats.negotiated,
        ),
        (
            "cas_negotiate_missing_total",
            "Digests that were missing.",
            stats.negotiated_missing,
        ),
        (
            "transport_details_total",
            "Calls for the details of the transport.",
            stats.details,
        ),
        (
            "transport_details_failed_total",
            "Calls for the details that failed.",
            stats.details_failed,
        ),
        (
            "transport_uploads_resumed_total",
            "Uploads over gRPC that went on where an earlier one was interrupted.",
            stats.uploads_resumed,
        ),
        (
            "transport_uploads_total",
            "Uploads that ended.",
            stats.uploads,
        ),
        (
            "transport_uploads_present_total",
            "Uploads of blobs that were there.",
            stats.uploads_present,
        ),
        (
            "transport_uploads_failed_total",
            "Uploads that failed.",
            stats.uploads_failed,
        ),
        (
            "transport_upload_bytes_total",
            "Bytes of uploads that were stored.",
            stats.upload_bytes,
        ),
        (
            "transport_downloads_total",
            "Downloads that began.",
            stats.downloads,
        ),
        (
            "transport_downloads_failed_total",
            "Downloads that were refused.",
            stats.downloads_failed,
        ),
        (
            "transport_download_bytes_total",
            "Bytes of downloads.",
            stats.download_bytes,
        ),
    ] {
        page.counter(name, help, value);
    }
}

fn process(node: &Node, page: &mut Page) {
    let uptime = node.begin.elapsed().as_secs_f64();
    page.gauge("process_uptime_seconds", "Since the node started.", uptime);
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let resident: Option<u64> = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    if let Some(pages) = resident {
        let bytes = pages * rustix::param::page_size() as u64;
        page.gauge("process_resident_bytes", "Memory in use.", bytes);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        page.gauge("process_open_fds", "Open file descriptors.", open.count());
    }
    if let Ok(threads) = std::fs::read_dir("/proc/self/task") {
        page.gauge("process_threads", "Threads.", threads.count());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_add_up() {
        let mut latency = Latency::default();
        latency.buckets[0] = 1;
        latency.buckets[3] = 2;
        latency.sum_ns = 3_000_000_000;
        let mut page = Page(String::new());
        page.histogram("x_seconds", "Help.", &latency);
        assert!(
            page.0
                .contains("zako_v1_x_seconds_bucket{le=\"0.000001\"} 1\n"),
            "{}",
            page.0
        );
        assert!(
            page.0
                .contains("zako_v1_x_seconds_bucket{le=\"0.000008\"} 3\n")
        );
        assert!(page.0.ends_with(
            "_bucket{le=\"+Inf\"} 3\nzako_v1_x_seconds_sum 3\nzako_v1_x_seconds_count 3\n"
        ));
    }
}
