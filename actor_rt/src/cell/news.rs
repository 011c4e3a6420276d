//! What only some actors have: a name, watchers, an exit reason that says more than "stopped".
//!
//! Owns: the box that holds them, made when it is first needed.
//! Does not know: why an actor ends.

use super::{Header, control};
use crate::exit::ExitReason;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::Waker;

/// What only some actors have: a name, watchers, an exit reason that says more than "stopped".
#[derive(Default)]
pub(super) struct News {
    name: Option<Arc<str>>,
    reason: Option<ExitReason>,
    failure: Option<ExitReason>,
    watchers: Vec<Watcher>,
}

impl News {
    pub(super) fn named(name: Arc<str>) -> Self {
        Self {
            name: Some(name),
            ..Self::default()
        }
    }
}

/// Who wants to know of the end.
enum Watcher {
    Waits(Waker),
    Calls(Box<dyn FnOnce(&ExitReason) + Send>),
}

impl Header {
    fn with_news<R>(&self, access: impl FnOnce(&mut News) -> R) -> R {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        access(news.get_or_insert_default())
    }

    pub(crate) fn name(&self) -> Option<Arc<str>> {
        // Relaxed: set at creation. Most actors have no name, and then no lock is taken.
        if self.control.load(Ordering::Relaxed) & control::NAMED == 0 {
            return None;
        }
        let news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        news.as_ref().and_then(|news| news.name.clone())
    }

    /// For messages to people: the name, or else the actor's type.
    pub(crate) fn label(&self) -> String {
        self.name()
            .map_or_else(|| (self.table.actor)().to_owned(), |name| name.to_string())
    }

    /// Leaves word of a failure that the owner shall act upon.
    pub(crate) fn leave_failure(&self, reason: ExitReason) {
        self.with_news(|news| news.failure.get_or_insert(reason).is_failure());
    }

    pub(crate) fn take_failure(&self) -> Option<ExitReason> {
        self.with_news(|news| news.failure.take())
    }

    /// Publishes the end and wakes everybody who waits for it.
    pub(crate) fn announce_end(&self, reason: ExitReason) {
        let watchers = {
            let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
            if reason != ExitReason::Stopped {
                news.get_or_insert_default().reason = Some(reason.clone());
            }
            // Release pairs with the Acquire of `control`: whoever sees the end sees its reason.
            self.control.fetch_or(control::ENDED, Ordering::Release);
            news.as_mut()
                .map(|news| std::mem::take(&mut news.watchers))
                .unwrap_or_default()
        };
        for watcher in watchers {
            match watcher {
                Watcher::Waits(waker) => waker.wake(),
                Watcher::Calls(call) => call(&reason),
            }
        }
    }

    /// The exit reason, or `None` while the actor lives, in which case `waker` is kept.
    pub(crate) fn poll_end(&self, waker: Option<&Waker>) -> Option<ExitReason> {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_ended() {
            let reason = news.as_ref().and_then(|news| news.reason.clone());
            return Some(reason.unwrap_or(ExitReason::Stopped));
        }
        if let Some(waker) = waker {
            let watchers = &mut news.get_or_insert_default().watchers;
            let known = |watcher: &Watcher| match watcher {
                Watcher::Waits(known) => known.will_wake(waker),
                Watcher::Calls(_) => false,
            };
            if !watchers.iter().any(known) {
                watchers.push(Watcher::Waits(waker.clone()));
            }
        }
        None
    }

    /// Calls back with the exit reason, at once if the actor has ended.
    pub(crate) fn on_end(&self, call: impl FnOnce(&ExitReason) + Send + 'static) {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_ended() {
            let reason = news.as_ref().and_then(|news| news.reason.clone());
            drop(news);
            call(&reason.unwrap_or(ExitReason::Stopped));
        } else {
            let watchers = &mut news.get_or_insert_default().watchers;
            watchers.push(Watcher::Calls(Box::new(call)));
        }
    }
}
