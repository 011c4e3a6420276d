//! Calls that several ask for at once are made once.
//!
//! Owns: which calls are under way.
//! Does not know: what is called.
//! Invariants: a call runs to its end whoever goes away meanwhile; it is forgotten at its end, also
//! after a panic, so the next who asks calls again.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::runtime::Handle;

type Flight<V> = Shared<BoxFuture<'static, Option<V>>>;
type Open<K, V> = Mutex<HashMap<K, Flight<V>>>;

/// The calls under way, by what they ask for.
pub(super) struct Flights<K, V>(Arc<Open<K, V>>);

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, V> Flights<K, V>
where
    K: Copy + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The answer of the call for `key` that is under way, or else of the one that `start` makes.
    /// It runs as a task of its own: who asked first may go away.
    pub(super) fn join<F>(&self, runtime: &Handle, key: K, start: impl FnOnce() -> F) -> Flight<V>
    where
        F: Future<Output = Option<V>> + Send + 'static,
    {
        let mut open = lock(&self.0);
        if let Some(flight) = open.get(&key) {
            return flight.clone();
        }
        let landing = Landing(Arc::clone(&self.0), key);
        let call = start();
        let task = runtime.spawn(async move {
            let _landing = landing;
            call.await
        });
        let flight = task.map(|ended| ended.ok().flatten()).boxed().shared();
        open.insert(key, flight.clone());
        flight
    }
}

/// Forgets a call when it ends.
struct Landing<K: Eq + Hash, V>(Arc<Open<K, V>>, K);

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        let flight = lock(&self.0).remove(&self.1);
        drop(flight);
    }
}

/// What is guarded stays whole: it is changed by single calls only.
fn lock<K, V>(open: &Open<K, V>) -> MutexGuard<'_, HashMap<K, Flight<V>>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn a_call_is_made_once_for_all_who_ask_meanwhile_and_again_later() {
        let (flights, calls) = (Flights::<u8, u32>::default(), AtomicU32::new(0));
        let (go, waits) = oneshot::channel::<()>();
        let start = |waits: oneshot::Receiver<()>| {
            let number = calls.fetch_add(1, Relaxed) + 1;
            async move {
                let _ = waits.await;
                Some(number)
            }
        };
        let runtime = Handle::current();
        let first = flights.join(&runtime, 1, || start(waits));
        let second = flights.join(&runtime, 1, || -> std::future::Ready<Option<u32>> {
            panic!("a call is under way")
        });
        go.send(()).unwrap();
        assert_eq!((first.await, second.await), (Some(1), Some(1)));
        let (go, waits) = oneshot::channel::<()>();
        drop(go);
        assert_eq!(flights.join(&runtime, 1, || start(waits)).await, Some(2));
    }

    #[tokio::test]
    async fn a_call_that_panics_is_no_answer_and_blocks_nobody() {
        let flights = Flights::<u8, u32>::default();
        let runtime = Handle::current();
        let broken = || async { panic!("a broken upstream") };
        assert_eq!(flights.join(&runtime, 1, broken).await, None);
        assert!(lock(&flights.0).is_empty());
        assert_eq!(
            flights.join(&runtime, 1, || async { Some(3) }).await,
            Some(3)
        );
    }
}
