//! References that a worker lends and takes back without touching the count.
//!
//! Owns: per worker, one actor and a stock of references to it that are counted already. The waker of an
//! actor that asks comes from the stock, and goes back to it when the answer is given on the same worker:
//! two locked additions less for every question.
//! Does not know: what the references are for.
//! Invariant: the stock is counted in the actor's `refs`, so lending never makes a reference out of
//! nothing. A worker that finds no work gives its stock up, so that what it keeps alive is one cell, and
//! only while it is busy.
#![allow(unsafe_code)]

use super::{CellPtr, CellRef, Header};
use std::cell::Cell;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::Ordering;

/// References counted at once.
const STOCK: usize = 64;

struct Credit {
    /// Whether this thread is a worker: others would never give their stock up.
    open: Cell<bool>,
    actor: Cell<*mut Header>,
    stock: Cell<usize>,
}

thread_local! {
    static CREDIT: Credit = const {
        Credit { open: Cell::new(false), actor: Cell::new(null_mut()), stock: Cell::new(0) }
    };
}

/// Makes this thread one that lends, or ends that.
pub(crate) fn set_open(open: bool) {
    CREDIT.with(|credit| credit.open.set(open));
    settle();
}

/// Gives the stock up.
pub(crate) fn settle() {
    CREDIT.with(|credit| {
        let actor = NonNull::new(credit.actor.replace(null_mut()));
        let stock = credit.stock.replace(0);
        if let (Some(actor), Some(rest)) = (actor, stock.checked_sub(1)) {
            // The last one is dropped as any other, since it may be the very last of all.
            let last = CellRef(actor);
            // Relaxed: not the last one.
            last.refs.fetch_sub(rest, Ordering::Relaxed);
            drop(last);
        }
    });
}

/// A reference to the actor, from the stock if there is one.
#[inline]
pub(super) fn lend(actor: CellPtr) -> CellRef {
    CREDIT
        .try_with(|credit| {
            if credit.actor.get() == actor.as_ptr() && credit.stock.get() > 0 {
                credit.stock.set(credit.stock.get() - 1);
                return Some(CellRef(actor.0));
            }
            credit.open.get().then(|| restock(credit, actor))
        })
        .ok()
        .flatten()
        .unwrap_or_else(|| actor.to_ref())
}

#[cold]
#[inline(never)]
fn restock(credit: &Credit, actor: CellPtr) -> CellRef {
    settle();
    let lent = actor.to_refs(STOCK);
    credit.actor.set(actor.as_ptr());
    credit.stock.set(STOCK - 1);
    lent
}

/// Takes a reference back, into the stock if it is of the same actor.
#[inline]
pub(super) fn take_back(reference: CellRef) {
    let kept = CREDIT.try_with(|credit| {
        let ours = credit.actor.get() == reference.0.as_ptr() && credit.stock.get() < STOCK;
        if ours {
            credit.stock.set(credit.stock.get() + 1);
        }
        ours
    });
    if kept == Ok(true) {
        std::mem::forget(reference);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Actor, ActorRef, AsyncActor, AsyncContext, Context, Reply, System};
    use std::time::Duration;

    struct Echo;

    impl Actor for Echo {
        type Msg = (u64, Reply<u64>);
        fn handle(&mut self, (number, reply): Self::Msg, _ctx: &mut Context<'_, Self>) {
            reply.send(number);
        }
    }

    struct Asker(ActorRef<(u64, Reply<u64>)>);

    impl AsyncActor for Asker {
        type Msg = (u64, Reply<u64>);
        async fn handle(&mut self, (count, done): Self::Msg, _ctx: &mut AsyncContext<Self>) {
            let mut sum = 0;
            for number in 0..count {
                // Every third question is given up, so that its waker is dropped and never called.
                let ask = self.0.ask(|reply| (number, reply));
                if number % 3 > 0 {
                    sum += ask.await.expect("an answer");
                }
            }
            done.send(sum);
        }
    }

    #[test]
    fn what_was_lent_is_given_up_in_the_end() {
        for workers in [1, 2] {
            let system = System::builder().workers(workers).build().expect("threads");
            let echo = system.spawn(|| Echo);
            let askers: Vec<_> = (0..3)
                .map(|_| {
                    let echo = echo.clone();
                    system.spawn_async(move || Asker(echo.clone()))
                })
                .collect();
            let sums: Vec<_> = askers.iter().map(|it| it.ask(|done| (300, done))).collect();
            for sum in sums {
                let expected = (0..300).filter(|number| number % 3 > 0).sum();
                assert_eq!(sum.wait(), Ok(expected));
            }
            system
                .shutdown(Duration::from_secs(60))
                .expect("everything ends");
            for asker in &askers {
                let references = asker.cell().refs.load(Ordering::Acquire);
                assert_eq!(references, 1, "only the test's own is left");
            }
        }
    }
}
