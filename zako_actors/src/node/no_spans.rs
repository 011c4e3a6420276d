//! What stands for `spans` in a build without OpenTelemetry: whoever asks for spans is told so.

use std::sync::Arc;
use std::time::Duration;

use cas_actor::front::Watcher;

/// Nothing ever sends.
pub(super) enum Sending {}

impl Sending {
    #[expect(
        clippy::unused_async,
        reason = "as where there is something to wait for"
    )]
    pub(super) async fn end(self, _patience: Duration) {
        match self {}
    }
}

/// Refuses.
pub(super) fn start(_to: &str) -> Result<(Arc<dyn Watcher>, Sending), String> {
    Err("this zako was built without OpenTelemetry (feature `otel`)".to_owned())
}
