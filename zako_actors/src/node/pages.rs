//! The node's own pages, beside what build tools ask the store for.
//!
//! Owns which paths they have. Does not know connections, nor what the pages say.

use std::pin::Pin;
use std::sync::Arc;

use cas_actor::front::{Page, Pages};

use super::{Node, metrics};

const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The pages of one node.
pub(super) struct NodePages(pub(super) Arc<Node>);

impl Pages for NodePages {
    fn page(&self, path: &str) -> Option<Pin<Box<dyn Future<Output = Page> + Send>>> {
        let node = Arc::clone(&self.0);
        match path {
            "/healthz" => Some(Box::pin(async move {
                let report = node.health.report(&node).await;
                let body = serde_json::to_string_pretty(&*report).unwrap_or_default();
                Page {
                    status: if report.healthy { 200 } else { 503 },
                    content_type: "application/json",
                    body: (body + "\n").into(),
                }
            })),
            "/metrics" => Some(Box::pin(async move {
                Page {
                    status: 200,
                    content_type: METRICS,
                    body: metrics::render(&node).await.into(),
                }
            })),
            _ => None,
        }
    }
}
