//! Signals that end a build.
//!
//! Owns the translation of SIGINT, SIGTERM and SIGHUP into a cancellation. Does not know what is cancelled.
//! Invariant: a hang-up that is ignored, as of `nohup`, stays so.

use std::fs;
use std::io;

use actor_rt::{AsyncActor, AsyncContext, System};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::engine::cancel::{Cancel, CancelReason};

/// Waits for a signal as long as its system lives.
struct Interrupts(Cancel);

impl AsyncActor for Interrupts {
    type Msg = Vec<Signal>;

    async fn handle(&mut self, signals: Self::Msg, _ctx: &mut AsyncContext<Self>) {
        let mut any = tokio::task::JoinSet::new();
        for mut signal in signals {
            any.spawn(async move { signal.recv().await });
        }
        any.join_next().await;
        self.0.cancel(CancelReason::Interrupted);
    }
}

/// From now on SIGINT, SIGTERM and, unless it is ignored, SIGHUP cancel instead of ending the process.
pub fn cancel_on_signals(system: &System, cancel: &Cancel) {
    let signals = {
        let tokio = system.tokio();
        let _entered = tokio.enter();
        let hang_up = SignalKind::hangup();
        let hang_up = (!is_ignored(hang_up)).then_some(hang_up);
        let kinds = [SignalKind::interrupt(), SignalKind::terminate()];
        let signals = kinds.into_iter().chain(hang_up).map(signal);
        signals.collect::<io::Result<Vec<Signal>>>()
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

/// Whether this process was started so that `kind` does nothing to it.
fn is_ignored(kind: SignalKind) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // The first bit is that of signal 1.
    ignored.is_some_and(|mask| mask >> (kind.as_raw_value() - 1) & 1 == 1)
}
