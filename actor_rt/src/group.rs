//! Groups: named sets of actors that come and go.
//!
//! Owns: the members, and that an actor which ends is no longer one of them.
//! Does not know: what members do. Sending happens on the sender's thread.
//! Invariant: whoever is in `watched` has one watcher that removes it at its end; so joining and leaving many
//! times leaves nothing behind.

use crate::actor_ref::ActorRef;
use crate::router::first_taker;
use crate::system::System;
use crate::tell_error::TellError;
use std::any::{Any, TypeId};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A named set of actors that take messages of type `M`. Cheap to clone; clones and everybody who asks the
/// system for this name and type share the members.
///
/// An actor that ends leaves by itself.
///
/// ```
/// use actor_rt::{System, testkit::Probe};
/// let system = System::new()?;
/// let (ann, ben) = (Probe::new(&system), Probe::new(&system));
/// let lobby = system.group::<&str>("lobby");
/// lobby.join(ann.actor());
/// lobby.join(ben.actor());
/// assert_eq!(system.group("lobby").tell_all(&"welcome"), 2);
/// assert_eq!((ann.expect(), ben.expect()), ("welcome", "welcome"));
/// lobby.leave(ann.actor());
/// lobby.tell_any("anybody?").expect("ben is there");
/// assert_eq!(ben.expect(), "anybody?");
/// # Ok::<(), actor_rt::StartError>(())
/// ```
pub struct Group<M> {
    shared: Arc<Shared<M>>,
}

struct Shared<M> {
    name: Arc<str>,
    turn: AtomicUsize,
    members: Mutex<Members<M>>,
}

struct Members<M> {
    list: Arc<[ActorRef<M>]>,
    watched: HashSet<ActorRef<M>>,
}

/// The groups of a system, by name and type of message.
pub(crate) type Groups = Mutex<HashMap<(Arc<str>, TypeId), Arc<dyn Any + Send + Sync>>>;

impl<M> Shared<M> {
    fn lock(&self) -> MutexGuard<'_, Members<M>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl System {
    /// The group of this name for messages of type `M`, made if there is none yet. It lives as long as the
    /// system.
    #[must_use]
    pub fn group<M: Send + 'static>(&self, name: &str) -> Group<M> {
        let mut groups = self
            .runtime()
            .groups
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let name: Arc<str> = name.into();
        let group = groups
            .entry((Arc::clone(&name), TypeId::of::<M>()))
            .or_insert_with(|| Arc::new(Shared::<M>::new(name)));
        match Arc::clone(group).downcast() {
            Ok(shared) => Group { shared },
            Err(_) => unreachable!("the type is part of the key"),
        }
    }
}

impl<M> Shared<M> {
    fn new(name: Arc<str>) -> Self {
        Self {
            name,
            turn: AtomicUsize::new(0),
            members: Mutex::new(Members {
                list: Arc::default(),
                watched: HashSet::new(),
            }),
        }
    }
}

impl<M: Send + 'static> Group<M> {
    /// Adds an actor; `false` if it is a member already or has ended.
    pub fn join(&self, actor: &ActorRef<M>) -> bool {
        let mut members = self.shared.lock();
        if actor.is_closed() || members.list.contains(actor) {
            return false;
        }
        members.list = members
            .list
            .iter()
            .cloned()
            .chain(Some(actor.clone()))
            .collect();
        let watch = members.watched.insert(actor.clone());
        drop(members);
        if watch {
            let group = Arc::downgrade(&self.shared);
            let ending = actor.clone();
            actor.cell().on_end(move |_| {
                if let Some(shared) = group.upgrade() {
                    let mut members = shared.lock();
                    members.remove(&ending);
                    members.watched.remove(&ending);
                }
            });
        }
        true
    }

    /// Removes an actor; `false` if it was no member.
    pub fn leave(&self, actor: &ActorRef<M>) -> bool {
        self.shared.lock().remove(actor)
    }

    /// The members, in the order in which they joined.
    #[must_use]
    pub fn members(&self) -> Arc<[ActorRef<M>]> {
        Arc::clone(&self.shared.lock().list)
    }

    /// Sends a copy to every member; returns how many took it. A member that is full misses it.
    pub fn tell_all(&self, message: &M) -> usize
    where
        M: Clone,
    {
        self.members()
            .iter()
            .filter(|member| member.tell(message.clone()).is_ok())
            .count()
    }

    /// Sends to one member, each in turn; if that one is full, to the next that takes the message.
    ///
    /// # Errors
    /// `Full` if every member is full, `Closed` if there is none.
    pub fn tell_any(&self, message: M) -> Result<(), TellError<M>> {
        let turn = self.shared.turn.fetch_add(1, Ordering::Relaxed);
        first_taker(&self.members(), turn, message)
    }

    /// The group's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }
}

impl<M> Members<M> {
    fn remove(&mut self, actor: &ActorRef<M>) -> bool {
        let before = self.list.len();
        self.list = self.list.iter().filter(|m| *m != actor).cloned().collect();
        self.list.len() < before
    }
}

impl<M> Clone for Group<M> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<M> fmt::Debug for Group<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("name", &self.shared.name)
            .field("members", &self.shared.lock().list.len())
            .finish()
    }
}
