//! Room for content that is about to be written: taken from the budget, or made by eviction.
//!
//! Owns: who waits for eviction and for how many tries.
//! Does not know: how the budget counts, or what is evicted.
//! Invariant: nothing larger than the limit ever waits.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use actor_rt::{ActorRef, Ask, Reply};

use crate::budget::{Budget, Reservation};
use crate::error::PutError;
use crate::upkeep_actor::UpkeepMsg;

/// Others may take what eviction has freed for one who waits; so often it is tried again.
const TRIES: usize = 4;
/// An upload of unknown size reserves this much at a time.
const STEP_BYTES: u64 = 4 * 1024 * 1024;

/// Where reservations come from.
#[derive(Debug)]
pub(crate) struct Room {
    budget: Arc<Budget>,
    upkeep: ActorRef<UpkeepMsg>,
}

impl Room {
    pub(crate) fn new(budget: Arc<Budget>, upkeep: ActorRef<UpkeepMsg>) -> Self {
        Self { budget, upkeep }
    }

    pub(crate) fn upkeep(&self) -> &ActorRef<UpkeepMsg> {
        &self.upkeep
    }

    /// Reserves, waiting for eviction where that is needed.
    pub(crate) async fn reserve(&self, bytes: u64) -> Result<Reservation, PutError> {
        for _ in 0..TRIES {
            if let Some(reservation) = self.try_reserve(bytes)? {
                return Ok(reservation);
            }
            let (message, made) = ask(bytes);
            let sent = self.upkeep.send(message).await;
            sent.map_err(|_| PutError::Closed)?;
            if !made.await.map_err(|_| PutError::Closed)? {
                break;
            }
        }
        self.try_reserve(bytes)?.ok_or(self.refusal(bytes))
    }

    /// Has something evicted from a full disk, in which a put of `bytes` found no room just now; says
    /// whether it is worth trying again.
    pub(crate) async fn relieve(&self, bytes: u64) -> bool {
        let (reply, relieved) = Reply::pair();
        let message = UpkeepMsg::Relieve(bytes, Instant::now(), reply);
        self.upkeep.send(message).await.is_ok() && relieved.await.unwrap_or(false)
    }

    /// The same for threads that may wait.
    pub(crate) fn relieve_waiting(&self, bytes: u64) -> bool {
        let (reply, relieved) = Reply::pair();
        let message = UpkeepMsg::Relieve(bytes, Instant::now(), reply);
        self.upkeep.send_blocking(message).is_ok() && relieved.wait().unwrap_or(false)
    }

    /// Makes a reservation cover `bytes`; for threads that may wait. Without `exact`, it is made
    /// larger than that, so that this is not called for every piece.
    pub(crate) fn extend(
        &self,
        reservation: &mut Option<Reservation>,
        bytes: u64,
        exact: bool,
    ) -> Result<(), PutError> {
        if self.budget.limit_bytes().is_none() {
            return Ok(());
        }
        let covered = reservation.as_ref().map_or(0, Reservation::bytes);
        if bytes <= covered {
            return Ok(());
        }
        let missing = bytes - covered;
        let more = match exact {
            true => self.reserve_waiting(missing)?,
            // The last step up to the limit is a small one.
            false => match self.try_reserve(missing.max(STEP_BYTES)) {
                Ok(Some(more)) => more,
                _ => self.reserve_waiting(missing)?,
            },
        };
        match reservation {
            Some(reservation) => reservation.join(more),
            None => *reservation = Some(more),
        }
        Ok(())
    }

    fn reserve_waiting(&self, bytes: u64) -> Result<Reservation, PutError> {
        for _ in 0..TRIES {
            if let Some(reservation) = self.try_reserve(bytes)? {
                return Ok(reservation);
            }
            let (message, made) = ask(bytes);
            let sent = self.upkeep.send_blocking(message);
            sent.map_err(|_| PutError::Closed)?;
            if !made.wait().map_err(|_| PutError::Closed)? {
                break;
            }
        }
        self.try_reserve(bytes)?.ok_or(self.refusal(bytes))
    }

    fn try_reserve(&self, bytes: u64) -> Result<Option<Reservation>, PutError> {
        if self.budget.limit_bytes().is_some_and(|limit| bytes > limit) {
            return Err(self.refusal(bytes));
        }
        let reservation = self.budget.try_reserve(bytes);
        if self.budget.is_high() && !self.budget.asked.swap(true, Relaxed) {
            // A mailbox that is full of the same wish needs no other.
            let _ = self.upkeep.tell(UpkeepMsg::LowerWater);
        }
        Ok(reservation)
    }

    fn refusal(&self, needed_bytes: u64) -> PutError {
        PutError::OverBudget {
            needed_bytes,
            limit_bytes: self.budget.limit_bytes().unwrap_or(u64::MAX),
        }
    }
}

fn ask(bytes: u64) -> (UpkeepMsg, Ask<bool>) {
    let (reply, made) = Reply::pair();
    (UpkeepMsg::MakeRoom(bytes, reply), made)
}
