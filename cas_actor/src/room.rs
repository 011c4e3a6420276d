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
use crate::upkeep_actor::{FullDisk, UpkeepMsg};

/// Others may take what eviction has freed for one who waits; so often it is tried again.
const TRIES: usize = 4;
/// An upload makes room for this much at a time, whatever it says is to come.
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

    /// Has room made on a full disk, in which a put of `bytes` found none just now; says whether it is
    /// worth trying again.
    pub(crate) async fn relieve(&self, bytes: u64) -> bool {
        let (message, relieved) = full_disk(bytes, bytes);
        self.upkeep.send(message).await.is_ok() && relieved.await.unwrap_or(false)
    }

    /// The same for threads that may wait, and a piece of what is still to come.
    pub(crate) fn relieve_waiting(&self, piece_bytes: u64, to_come_bytes: u64) -> bool {
        let to_come_bytes = to_come_bytes.max(piece_bytes);
        let bytes = piece_bytes.max(STEP_BYTES.min(to_come_bytes));
        let (message, relieved) = full_disk(bytes, to_come_bytes);
        self.upkeep.send_blocking(message).is_ok() && relieved.wait().unwrap_or(false)
    }

    /// Makes a reservation cover `bytes` that have come, and some of what is said to come after them, so
    /// that this is not called for every piece; for threads that may wait. What is only said to come
    /// evicts nothing.
    pub(crate) fn extend(
        &self,
        reservation: &mut Option<Reservation>,
        bytes: u64,
        said_bytes: Option<u64>,
    ) -> Result<(), PutError> {
        let Some(limit) = self.budget.limit_bytes() else {
            return Ok(());
        };
        if let Some(said) = said_bytes.filter(|said| *said > limit) {
            return Err(self.refusal(said));
        }
        let covered = reservation.as_ref().map_or(0, Reservation::bytes);
        if bytes <= covered {
            return Ok(());
        }
        let missing = bytes - covered;
        let left = said_bytes.map_or(u64::MAX, |said| said.saturating_sub(covered));
        // The last step up to the limit is a small one.
        let more = match self.try_reserve(missing.max(STEP_BYTES.min(left))) {
            Ok(Some(more)) => more,
            _ => self.reserve_waiting(missing)?,
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

    /// Reserves if there is room now.
    pub(crate) fn try_reserve(&self, bytes: u64) -> Result<Option<Reservation>, PutError> {
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

fn full_disk(bytes: u64, to_come_bytes: u64) -> (UpkeepMsg, Ask<bool>) {
    let (reply, relieved) = Reply::pair();
    let full = FullDisk {
        bytes,
        to_come_bytes,
        found: Instant::now(),
    };
    (UpkeepMsg::Relieve(full, reply), relieved)
}
