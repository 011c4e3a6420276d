//! Signals that end a build.
//!
//! Owns the translation of SIGINT and SIGTERM into a cancellation. Does not know what is cancelled.

use actor_rt::{AsyncActor, AsyncContext, System};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::engine::cancel::{Cancel, CancelReason};

/// Waits for a signal as long as its system lives.
struct Interrupts(Cancel);

impl AsyncActor for Interrupts {
    type Msg = (Signal, Signal);

    async fn handle(
        &mut self,
        (mut ctrl_c, mut terminate): Self::Msg,
        _ctx: &mut AsyncContext<Self>,
    ) {
        tokio::select! {
            _ = ctrl_c.recv() => {}
            _ = terminate.recv() => {}
        }
        self.0.cancel(CancelReason::Interrupted);
    }
}

/// From now on SIGINT and SIGTERM cancel instead of ending the process.
pub fn cancel_on_signals(system: &System, cancel: &Cancel) {
    let signals = {
        let tokio = system.tokio();
        let _entered = tokio.enter();
        signal(SignalKind::interrupt()).and_then(|a| Ok((a, signal(SignalKind::terminate())?)))
    };
    match signals {
        Ok(signals) => {
            let cancel = cancel.clone();
            let actor = system.spawn_async(move || Interrupts(cancel.clone()));
            // The mailbox is new and empty.
            drop(actor.tell(signals));
        }
        Err(error) => tracing::warn!("a signal will end the build without tidying up: {error}"),
    }
}
