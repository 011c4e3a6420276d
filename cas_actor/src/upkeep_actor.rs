//! The actor that keeps a store within its budget, and drops interrupted uploads in time.
//!
//! Owns: when eviction starts by itself, and what it spares.
//! Does not know: how the least recently used are found (`evict`).
//! Invariants: it alone evicts, so two evictions never free for the same want; what is leased is
//! evicted for no put, only by a `gc` that says so; a pass that could free nothing is not repeated
//! for every put that waits.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use actor_rt::{Actor, Context, Failure, Reply, System};

use crate::budget::Budget;
use crate::error::ShardError;
use crate::evict::{Evictor, GcReport};
use crate::open::StoreConfig;
use crate::pack::seconds;
use crate::partial::Partials;
use crate::room::Room;

/// After a pass that freed less than was wanted, the next one waits at least this long,
const PAUSE: Duration = Duration::from_secs(1);
/// and so many times as long as the pass took.
const PAUSE_FACTOR: u32 = 10;
/// How often interrupted uploads are looked through.
const SWEEP_EVERY: Duration = Duration::from_secs(15 * 60);

/// What the upkeep can be asked.
#[derive(Debug)]
pub(crate) enum UpkeepMsg {
    /// Count what is there, once.
    Measure,
    /// Evict if the store is above its high water.
    LowerWater,
    /// Make room for so many bytes; says whether there is room.
    MakeRoom(u64, Reply<bool>),
    /// Evict something for a put of so many bytes, which found the disk full at that time; says whether
    /// anything has gone since.
    Relieve(u64, Instant, Reply<bool>),
    /// Drop interrupted uploads that nobody has gone on with.
    SweepPartials,
    /// Evict to so many bytes, sparing what was used within the duration.
    Gc(u64, Duration, Reply<Result<GcReport, ShardError>>),
}

/// Starts the upkeep of a store.
pub(crate) fn start(
    system: &System,
    config: &StoreConfig,
    evictor: Evictor,
    partials: &Arc<Partials>,
) -> Arc<Room> {
    let counters = evictor.shards.iter();
    let counters = counters.map(|shard| Arc::clone(&shard.counters));
    let budget = Budget::new(config.max_bytes, counters.collect());
    let (lease, for_upkeep) = (config.lease, Arc::clone(&budget));
    let partials = Arc::clone(partials);
    let upkeep = system
        .actor(move || {
            let (budget, partials) = (Arc::clone(&for_upkeep), Arc::clone(&partials));
            Upkeep::new(evictor.clone(), budget, partials, lease)
        })
        .name(format!("store {} upkeep", config.root.display()))
        .mailbox(config.mailbox)
        .spawn_dedicated();
    if config.max_bytes.is_some() {
        // Before anything that is asked of it; closed already, there is nothing to measure.
        let _ = upkeep.tell(UpkeepMsg::Measure);
    }
    Arc::new(Room::new(budget, upkeep))
}

/// The upkeep of one store, on a thread of its own.
pub(crate) struct Upkeep {
    evictor: Evictor,
    budget: Arc<Budget>,
    partials: Arc<Partials>,
    lease: Duration,
    /// No automatic pass before this.
    pause_until: Option<Instant>,
    /// When a full disk was last relieved.
    relieved: Option<Instant>,
}

impl Upkeep {
    pub(crate) fn new(
        evictor: Evictor,
        budget: Arc<Budget>,
        partials: Arc<Partials>,
        lease: Duration,
    ) -> Self {
        Self {
            evictor,
            budget,
            partials,
            lease,
            pause_until: None,
            relieved: None,
        }
    }

    /// Evicts to the low water, with room for `more` bytes.
    fn lower(&mut self, more: u64) {
        if self.pause_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.budget.asked.store(false, Relaxed);
        let started = Instant::now();
        let target_bytes = self.budget.low_bytes(more);
        let (report, done) = self.evictor.evict_to(target_bytes, before(self.lease));
        let took = started.elapsed();
        match &done {
            Ok(()) => {}
            Err(ShardError::Closed) => return,
            Err(error) => tracing::warn!(%error, "cannot evict all that should go"),
        }
        // Without a success, nothing may have been counted.
        let is_counted = done.is_ok() || report.freed_bytes > 0;
        let enough = is_counted && report.left_bytes() <= target_bytes;
        self.pause_until = (!enough).then(|| started + PAUSE.max(took * PAUSE_FACTOR));
        tracing::info!(?report, ?took, enough, "evicted");
    }

    /// Evicts from a full disk, unless that was done since a put found it full.
    fn relieve(&mut self, bytes: u64, found_full: Instant) -> bool {
        if self.relieved.is_some_and(|last| found_full < last) {
            return true;
        }
        let started = Instant::now();
        if self.pause_until.is_some_and(|until| started < until) {
            return false;
        }
        let (report, done) = self.evictor.evict_some(bytes, before(self.lease));
        // A shard that failed takes nothing back from what the others have freed.
        let has_freed = report.freed_bytes > 0;
        tracing::warn!(?report, ?done, "the disk is full");
        match has_freed {
            true => self.relieved = Some(Instant::now()),
            false => self.pause_until = Some(started + PAUSE.max(started.elapsed() * PAUSE_FACTOR)),
        }
        has_freed
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.budget.try_reserve(bytes).is_some()
    }

    fn measure(&mut self) {
        match self.evictor.measure() {
            Ok(_) if self.budget.is_high() => self.lower(0),
            Ok(_) | Err(ShardError::Closed) => {}
            Err(error) => tracing::warn!(%error, "cannot measure the store"),
        }
    }
}

/// The second before which a use is older than `age`.
fn before(age: Duration) -> u32 {
    let age = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
    seconds(SystemTime::now()).saturating_sub(age)
}

impl Actor for Upkeep {
    type Msg = UpkeepMsg;

    fn started(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
        ctx.after(SWEEP_EVERY, UpkeepMsg::SweepPartials);
        Ok(())
    }

    fn handle(&mut self, msg: UpkeepMsg, ctx: &mut Context<'_, Self>) {
        match msg {
            UpkeepMsg::SweepPartials => {
                self.partials.sweep(SystemTime::now());
                ctx.after(SWEEP_EVERY, UpkeepMsg::SweepPartials);
            }
            UpkeepMsg::Measure => self.measure(),
            UpkeepMsg::LowerWater => {
                self.budget.asked.store(false, Relaxed);
                if self.budget.is_high() {
                    self.lower(0);
                }
            }
            UpkeepMsg::MakeRoom(bytes, reply) => {
                if !self.has_room(bytes) {
                    self.lower(bytes);
                }
                reply.send(self.has_room(bytes));
            }
            UpkeepMsg::Relieve(bytes, found_full, reply) => {
                reply.send(self.relieve(bytes, found_full));
            }
            UpkeepMsg::Gc(max_bytes, spare, reply) => {
                let (report, done) = self.evictor.evict_to(max_bytes, before(spare));
                reply.send(done.map(|()| report));
            }
        }
    }
}
