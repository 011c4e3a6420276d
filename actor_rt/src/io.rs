//! The tokio runtime that asynchronous actors find entered.
//!
//! Owns: one current-thread runtime on its own thread, which drives I/O and timers. Actors are not
//! tasks of it: workers poll them and tokio only wakes them.
//! Does not know: actors.
//! Invariant: who ends it waits no longer than told: tokio waits without limit for jobs that block, and a task may hold the
//! thread itself.

use crate::sched::mark_thread;
use std::cell::Cell;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

pub(crate) struct Reactor {
    handle: tokio::runtime::Handle,
    stop: Arc<tokio::sync::Notify>,
    thread: Mutex<Option<Thread>>,
}

struct Thread {
    handle: JoinHandle<()>,
    /// Disconnected once the thread has nothing left to do.
    ended: Receiver<()>,
}

impl Reactor {
    /// Starts the reactor; every thread that it makes, also for what blocks, is marked as the runtime's own and runs
    /// `first` before all else.
    ///
    /// # Panics
    /// If the operating system gives neither a thread nor an event queue.
    pub(crate) fn start(first: impl Fn() + Clone + Send + Sync + 'static) -> Self {
        let begin = move || {
            mark_thread();
            first();
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .on_thread_start(begin.clone())
            .build()
            .expect("the operating system provides an event queue for asynchronous I/O");
        let handle = runtime.handle().clone();
        let stop = Arc::new(tokio::sync::Notify::new());
        let stopped = Arc::clone(&stop);
        let (alive, ended) = channel();
        let thread = std::thread::Builder::new()
            .name("actor-io".into())
            .spawn(move || {
                begin();
                runtime.block_on(stopped.notified());
                // Not `shutdown_timeout`: that waits for what blocks before it drops the tasks that it may be waiting for.
                drop(runtime);
                drop::<Sender<()>>(alive);
            })
            .expect("the operating system provides a thread for asynchronous I/O");
        Self {
            handle,
            stop,
            thread: Mutex::new(Some(Thread {
                handle: thread,
                ended,
            })),
        }
    }

    /// Makes the runtime the current one of a worker's thread, for good: asked for at every turn, this
    /// is a look at a flag.
    #[inline]
    pub(crate) fn enter_for_good(&self) {
        thread_local! {
            static ENTERED: Cell<bool> = const { Cell::new(false) };
        }
        if !ENTERED.get() {
            ENTERED.set(true);
            // A worker serves one system until its thread ends, and with it tokio's thread-local.
            std::mem::forget(self.handle.enter());
        }
    }

    pub(crate) fn handle(&self) -> &tokio::runtime::Handle {
        &self.handle
    }

    /// Lets the reactor's thread end by itself.
    pub(crate) fn order_stop(&self) {
        self.stop.notify_one();
    }

    /// Orders the reactor's thread to end and waits for it, with all jobs that block; `false` if it still runs at the
    /// deadline. Then it ends when they do.
    pub(crate) fn stop(&self, deadline: Instant) -> bool {
        self.order_stop();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(Thread { handle, ended }) = thread else {
            return true;
        };
        if handle.thread().id() == std::thread::current().id() {
            return true;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if ended.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
            return false;
        }
        // A panic of the reactor was reported on its own thread.
        let _ = handle.join();
        true
    }
}

impl Drop for Reactor {
    /// In case nobody has stopped it.
    fn drop(&mut self) {
        self.order_stop();
    }
}
