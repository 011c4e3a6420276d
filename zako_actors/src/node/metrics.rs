//! The node's figures in the Prometheus text format.
//!
//! Owns names, help and types: every name keeps its meaning.
//! Does not know HTTP, nor how a figure is written (see `prometheus`).

use cas_actor::front::{FrontStats, SpaceStats, TransportStats};
use cas_actor::{Stats, Tier};

use super::Node;
use super::prometheus::Page;

/// Renders every figure.
pub async fn render(node: &Node) -> String {
    let mut page = Page::new();
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
    page.text()
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
    page.depths(
        "actors_mailbox_depth",
        "Messages that waited when an actor's turn began.",
        &node.system.depths(),
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
