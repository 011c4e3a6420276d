//! Mixed load for minutes, with faults injected: does memory grow, does anything get lost?
//!
//! Owns: the verdict. What is done is in `load`, what becomes of messages in `ledger`, what memory does in `growth`.
#![forbid(unsafe_code)]

mod growth;
mod ledger;
mod load;
mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actor_rt::System;

use crate::alloc_count::Watch;
use crate::machine::resident_bytes;

pub use growth::Growth;
pub use ledger::Messages;
pub use verdict::{Ruling, Verdict, render};

use growth::Sample;
use ledger::Ledger;
use load::Load;

/// How long an answer may take. Far longer than any machine stands still: an answer that is late is not lost.
const PATIENCE: Duration = Duration::from_secs(60);
/// Answers that take longer are told apart: something stood still, the machine or an actor.
const LATE: Duration = Duration::from_secs(1);
/// Rounds before memory is looked at: every worker has failed once by then.
const WARM_UP: u64 = 64;
/// Samples that are kept; when there are more, every other one is left out from then on.
const MOST_SAMPLES: usize = 4096;

/// Runs for so long.
///
/// # Errors
/// When the system cannot start or end.
pub fn run(length: Duration) -> anyhow::Result<Verdict> {
    run_with(length, 0, |_| ())
}

/// Runs for so long and for so many rounds, with something else to do after each round: a leak that a test wants to be found,
/// say.
///
/// # Errors
/// When the system cannot start or end.
pub fn run_with(
    length: Duration,
    rounds: u64,
    also: impl FnMut(&System),
) -> anyhow::Result<Verdict> {
    // Injected panics are the point: they need no message each.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let outcome = soak(length, rounds, also);
    std::panic::set_hook(hook);
    outcome
}

/// What memory did.
struct Memory {
    in_use: Option<Growth>,
    resident: Option<Growth>,
    /// After warm-up and at the end.
    taken_kib: [[u64; 2]; 2],
}

/// What was done and seen.
#[derive(Default)]
struct Tally {
    rounds: u64,
    asked: u64,
    jobs: u64,
    /// What must not be, whatever the load.
    errors: u64,
    /// Questions without an answer.
    unanswered: u64,
    /// Of both.
    reasons: BTreeMap<String, u64>,
    late: u64,
    slowest: Duration,
    faults: u64,
    kills: u64,
    overflows: u64,
    short_lived: u64,
}

/// Resident memory, and what the slabs have taken from the system, in KiB.
fn taken_kib() -> [u64; 2] {
    [resident_bytes().0, System::memory().reserved_bytes].map(|bytes| bytes / 1024)
}

fn soak(length: Duration, rounds: u64, mut also: impl FnMut(&System)) -> anyhow::Result<Verdict> {
    let ledger = Arc::new(Ledger::default());
    let told = Arc::clone(&ledger);
    let system = System::builder()
        .on_dead_letter(move |letter| {
            if load::has_slip(letter) {
                told.dead_letters.fetch_add(1, Ordering::AcqRel);
            }
        })
        .build()?;
    // Every page of them is touched before memory is looked at.
    let never = Sample {
        second: f64::NAN,
        ..Sample::default()
    };
    let mut samples = vec![never; MOST_SAMPLES];
    samples.clear();
    let watch = Watch::begin();
    let mut load = Load::start(&system, &ledger)?;
    let mut tally = Tally::default();
    let began = Instant::now();
    let (mut every, mut first_taken) = (1, None);
    while began.elapsed() < length || tally.rounds < rounds {
        load.round(&system, &mut tally);
        also(&system);
        if began.elapsed() < length / 4 || tally.rounds < WARM_UP || tally.rounds % every != 0 {
            continue;
        }
        first_taken.get_or_insert_with(taken_kib);
        if samples.len() == MOST_SAMPLES {
            every *= 2;
            let mut index = 0;
            samples.retain(|_| {
                index += 1;
                index % 2 == 0
            });
        }
        let slabs = System::memory().in_use_bytes.cast_signed();
        samples.extend(watch.live_bytes().map(|heap| Sample {
            second: began.elapsed().as_secs_f64(),
            in_use_bytes: heap + slabs,
            resident_bytes: resident_bytes().0.cast_signed(),
        }));
    }
    let seconds = began.elapsed().as_secs_f64();
    let taken = [first_taken.unwrap_or_else(taken_kib), taken_kib()];
    load.end();
    system.shutdown(Duration::from_secs(60))?;
    let memory = Memory {
        in_use: Growth::of(&samples, |it| it.in_use_bytes),
        resident: Growth::of(&samples, |it| it.resident_bytes),
        taken_kib: taken,
    };
    Ok(tally.conclude(seconds, ledger.messages(), memory))
}
