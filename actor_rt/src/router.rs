//! Routers and topics: one message, one of many actors, or all of them.
//!
//! Owns: the choice of target. Routing happens on the sender's thread; there is no actor in between.
//! Does not know: what the targets do.

use crate::actor_ref::ActorRef;
use crate::recipient::Recipient;
use crate::tell_error::TellError;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// How a [`Router`] chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Route {
    /// One after the other.
    #[default]
    RoundRobin,
    /// The one with the fewest messages waiting.
    LeastLoaded,
}

/// Spreads messages over equal actors. Targets that have ended are passed over.
///
/// ```
/// use actor_rt::{Actor, Context, Route, Router, System};
/// struct Worker;
/// impl Actor for Worker {
///     type Msg = u32;
///     fn handle(&mut self, _n: u32, _ctx: &mut Context<'_, Self>) {}
/// }
/// let system = System::new()?;
/// let workers = (0..4).map(|_| system.spawn(|| Worker)).collect();
/// let router = Router::new(Route::LeastLoaded, workers);
/// for n in 0..100 {
///     router.tell(n).expect("room");
/// }
/// # Ok::<(), actor_rt::StartError>(())
/// ```
#[derive(Debug)]
pub struct Router<M> {
    route: Route,
    targets: Vec<ActorRef<M>>,
    turn: AtomicUsize,
}

impl<M: Send + 'static> Router<M> {
    /// A router over `targets`.
    ///
    /// # Panics
    /// If there are none.
    #[must_use]
    pub fn new(route: Route, targets: Vec<ActorRef<M>>) -> Self {
        assert!(!targets.is_empty(), "a router needs somebody to route to");
        Self {
            route,
            targets,
            turn: AtomicUsize::new(0),
        }
    }

    /// Sends to the target chosen by the route; if that one is full or has ended, to the next one that
    /// takes the message.
    ///
    /// # Errors
    /// `Full` if every live target is full, `Closed` if all have ended.
    pub fn tell(&self, message: M) -> Result<(), TellError<M>> {
        let start = match self.route {
            Route::RoundRobin => self.turn.fetch_add(1, Ordering::Relaxed),
            Route::LeastLoaded => {
                let open = self
                    .targets
                    .iter()
                    .enumerate()
                    .filter(|(_, target)| !target.is_closed());
                open.min_by_key(|(_, target)| target.queued())
                    .map_or(0, |(index, _)| index)
            }
        };
        first_taker(&self.targets, start, message)
    }

    /// Sends to the target that `key` always leads to, as long as it lives: by rendezvous hashing, so
    /// that the end of one target moves only the keys that were its own.
    ///
    /// # Errors
    /// `Full` if that target is full, `Closed` if all have ended.
    pub fn tell_by_key(&self, key: &impl Hash, message: M) -> Result<(), TellError<M>> {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let open = self
            .targets
            .iter()
            .enumerate()
            .filter(|(_, target)| !target.is_closed());
        match open.max_by_key(|(index, _)| hasher.hash_one((key, index))) {
            Some((_, target)) => target.tell(message),
            None => Err(TellError::Closed(message)),
        }
    }

    /// Sends a copy to every target; returns how many took it.
    pub fn broadcast(&self, message: &M) -> usize
    where
        M: Clone,
    {
        self.targets
            .iter()
            .filter(|target| target.tell(message.clone()).is_ok())
            .count()
    }

    /// The targets.
    #[must_use]
    pub fn targets(&self) -> &[ActorRef<M>] {
        &self.targets
    }
}

/// Sends to the first of `targets` that takes the message, beginning with the one at `start` modulo their
/// number.
///
/// # Errors
/// `Full` if every live one is full, `Closed` if all have ended.
pub(crate) fn first_taker<M: Send + 'static>(
    targets: &[ActorRef<M>],
    start: usize,
    mut message: M,
) -> Result<(), TellError<M>> {
    let mut full = false;
    for step in 0..targets.len() {
        match targets[start.wrapping_add(step) % targets.len()].tell(message) {
            Ok(()) => return Ok(()),
            Err(refused) => {
                full |= refused.is_full();
                message = refused.into_message();
            }
        }
    }
    Err(if full {
        TellError::Full(message)
    } else {
        TellError::Closed(message)
    })
}

/// Publish and subscribe: every subscriber gets a copy of what is published from then on.
///
/// Clones share the subscribers. Those that have ended are forgotten; a subscriber that is full misses
/// the message, which [`Topic::publish`] counts.
///
/// ```
/// use actor_rt::{System, Topic, testkit::Probe};
/// let system = System::new()?;
/// let topic = Topic::new();
/// let (first, second) = (Probe::new(&system), Probe::new(&system));
/// topic.subscribe(first.actor().recipient());
/// topic.subscribe(second.actor().recipient());
/// topic.publish(&"news");
/// assert_eq!((first.expect(), second.expect()), ("news", "news"));
/// # Ok::<(), actor_rt::StartError>(())
/// ```
#[derive(Debug)]
pub struct Topic<M> {
    subscribers: Arc<RwLock<Vec<Recipient<M>>>>,
}

impl<M> Clone for Topic<M> {
    fn clone(&self) -> Self {
        Self {
            subscribers: Arc::clone(&self.subscribers),
        }
    }
}

impl<M: Clone + Send + 'static> Default for Topic<M> {
    fn default() -> Self {
        Self::new()
    }
}

/// How a publication went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Subscribers that got a copy.
    pub delivered: usize,
    /// Subscribers whose mailbox was full.
    pub missed: usize,
}

impl<M: Clone + Send + 'static> Topic<M> {
    /// A topic without subscribers.
    #[must_use]
    pub fn new() -> Self {
        Self {
            subscribers: Arc::default(),
        }
    }

    /// Adds a subscriber. One that is added twice gets two copies.
    pub fn subscribe(&self, subscriber: Recipient<M>) {
        self.subscribers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(subscriber);
    }

    /// Removes a subscriber, as often as it was added; `false` if it was none.
    pub fn unsubscribe(&self, subscriber: &Recipient<M>) -> bool {
        let mut subscribers = self
            .subscribers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let before = subscribers.len();
        subscribers.retain(|known| known != subscriber);
        subscribers.len() < before
    }

    /// Sends a copy to every subscriber.
    pub fn publish(&self, message: &M) -> Published {
        let mut published = Published::default();
        let mut ended = false;
        for subscriber in &*self
            .subscribers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
        {
            match subscriber.tell(message.clone()) {
                Ok(()) => published.delivered += 1,
                Err(TellError::Full(_)) => published.missed += 1,
                Err(TellError::Closed(_)) => ended = true,
            }
        }
        if ended {
            let mut subscribers = self
                .subscribers
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            subscribers.retain(|subscriber| !subscriber.is_closed());
        }
        published
    }

    /// How many subscribe.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.subscribers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }
}
