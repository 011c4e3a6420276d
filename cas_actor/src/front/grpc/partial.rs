//! Uploads that were interrupted, kept for a while so that they can be resumed.
//!
//! Owns: how many and for how long.
//! Does not know: how an upload works.
//! Invariants: one upload per resource name, and only the one who took it writes to it; at most
//! [`MOST`]: one more pushes out the one that was interrupted first.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::front::intake::Intake;

const MOST: usize = 128;
const KEPT_FOR: Duration = Duration::from_secs(15 * 60);

/// Interrupted uploads by resource name.
#[derive(Default)]
pub(super) struct Partials {
    by_name: Mutex<HashMap<String, (Instant, Intake)>>,
}

impl Partials {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Instant, Intake)>> {
        let locked = self.by_name.lock();
        locked.unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an upload that was interrupted.
    pub(super) fn keep(&self, name: &str, intake: Intake) {
        let now = Instant::now();
        let mut by_name = self.lock();
        by_name.retain(|_, (since, _)| now.saturating_duration_since(*since) < KEPT_FOR);
        if by_name.len() >= MOST {
            let oldest = by_name.iter().min_by_key(|(_, (since, _))| *since);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                by_name.remove(&oldest);
            }
        }
        by_name.insert(name.to_owned(), (now, intake));
    }

    /// Takes an upload to go on with it.
    pub(super) fn take(&self, name: &str) -> Option<Intake> {
        self.lock().remove(name).map(|(_, intake)| intake)
    }

    /// How many bytes of an upload have come.
    pub(super) fn taken_bytes(&self, name: &str) -> Option<u64> {
        let by_name = self.lock();
        by_name.get(name).map(|(_, intake)| intake.taken_bytes())
    }
}
