//! The tokio runtime that asynchronous actors find entered.
//!
//! Owns: one current-thread runtime on its own thread, which drives I/O and timers. Actors are not
//! tasks of it: workers poll them and tokio only wakes them.
//! Does not know: actors.

use crate::sched::mark_thread;
use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) struct Reactor {
    handle: tokio::runtime::Handle,
    stop: Arc<tokio::sync::Notify>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Reactor {
    /// Starts the reactor; every thread that it makes, also for what blocks, runs `first` before all else.
    ///
    /// # Panics
    /// If the operating system gives neither a thread nor an event queue.
    pub(crate) fn start(first: impl Fn() + Clone + Send + Sync + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .on_thread_start(first.clone())
            .build()
            .expect("the operating system provides an event queue for asynchronous I/O");
        let handle = runtime.handle().clone();
        let stop = Arc::new(tokio::sync::Notify::new());
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("actor-io".into())
            .spawn(move || {
                mark_thread();
                first();
                runtime.block_on(stopped.notified());
            })
            .expect("the operating system provides a thread for asynchronous I/O");
        Self {
            handle,
            stop,
            thread: Mutex::new(Some(thread)),
        }
    }

    /// Makes the runtime the current one of a worker's thread, for good: asked for at every turn, this
    /// is a look at a flag.
    #[inline]
    pub(crate) fn enter_for_good(&'static self) {
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

    /// Ends the reactor's thread and waits for it.
    pub(crate) fn stop(&self) {
        self.stop.notify_one();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            // A panic of the reactor was reported on its own thread.
            let _ = thread.join();
        }
    }
}
