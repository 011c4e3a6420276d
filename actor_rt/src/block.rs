//! Waiting for a future on a thread that may block.
//!
//! Owns: one waker per thread, kept between uses. Does not know: what is waited for.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Instant;

struct Bell {
    thread: Thread,
    rung: AtomicBool,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Release pairs with the Acquire in `block_on`.
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.thread.unpark();
        }
    }
}

thread_local! {
    static BELL: (Arc<Bell>, Waker) = {
        let bell = Arc::new(Bell { thread: std::thread::current(), rung: AtomicBool::new(false) });
        let waker = Waker::from(Arc::clone(&bell));
        (bell, waker)
    };
}

/// Polls `future` until it is ready, parking in between; `None` at the deadline.
pub(crate) fn block_on<F: Future + Unpin>(
    mut future: F,
    deadline: Option<Instant>,
) -> Option<F::Output> {
    BELL.with(|(bell, waker)| {
        let mut context = Context::from_waker(waker);
        loop {
            if let Poll::Ready(output) = Pin::new(&mut future).poll(&mut context) {
                return Some(output);
            }
            while !bell.rung.swap(false, Ordering::AcqRel) {
                match deadline {
                    None => std::thread::park(),
                    Some(deadline) => {
                        let left = deadline.saturating_duration_since(Instant::now());
                        if left.is_zero() {
                            return None;
                        }
                        std::thread::park_timeout(left);
                    }
                }
            }
        }
    })
}
