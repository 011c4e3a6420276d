//! The beginning of the end of a front, as its tasks learn of it.
//!
//! Owns: waiting for it, and looking at it on the way of every request for next to nothing.
//! Does not know: what ends.
#![forbid(unsafe_code)]

use std::pin::Pin;
use std::task::{Context, Waker};

use tokio::sync::watch;

/// Waits for the beginning of the end.
pub(crate) async fn drained(draining: &mut watch::Receiver<bool>) {
    // An error means that the front is gone altogether.
    let _ = draining.wait_for(|draining| *draining).await;
}

/// The same for a task that is woken by other things all the time: a receiver that is polled takes
/// a lock that all connections share.
pub(crate) struct Draining {
    receiver: watch::Receiver<bool>,
    told: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Whom `told` will wake.
    waker: Option<Waker>,
}

impl Draining {
    pub(crate) fn new(receiver: watch::Receiver<bool>) -> Self {
        let mut polled = receiver.clone();
        Self {
            receiver,
            told: Some(Box::pin(async move { drained(&mut polled).await })),
            waker: None,
        }
    }

    /// Whether the end has begun; says so once, and wakes the task when it does.
    pub(crate) fn begins(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(told) = &mut self.told else {
            return false;
        };
        let same = self.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker()));
        // An error is a change as well.
        if same && matches!(self.receiver.has_changed(), Ok(false)) {
            return false;
        }
        self.waker = Some(cx.waker().clone());
        let begins = told.as_mut().poll(cx).is_ready();
        if begins {
            self.told = None;
        }
        begins
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::task::Poll;

    #[tokio::test]
    async fn the_end_is_told_once_and_wakes_who_waits() {
        for late in [false, true] {
            let (sender, receiver) = watch::channel(false);
            let mut draining = Draining::new(receiver);
            if late {
                let waiting = poll_fn(|cx| Poll::Ready(draining.begins(cx)));
                assert!(!waiting.await);
                tokio::spawn(async move {
                    tokio::task::yield_now().await;
                    sender.send_replace(true);
                });
            } else {
                sender.send_replace(true);
            }
            poll_fn(|cx| match draining.begins(cx) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            })
            .await;
            assert!(!poll_fn(|cx| Poll::Ready(draining.begins(cx))).await);
        }
    }
}
