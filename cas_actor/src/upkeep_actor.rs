//! The actor that keeps a store within its budget, has something to give up on a full disk, and drops
//! interrupted uploads in time.
//!
//! Owns: when eviction starts by itself, and what it spares.
//! Does not know: how the least recently used are found (`evict`).
//! Invariants: it alone evicts, so two evictions never free for the same want; what is leased is
//! evicted for no put, only by a `gc` that says so; a pass that could free nothing is not repeated
//! for every put that waits; who wants more than there is keeps nobody from getting less.
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
use crate::reserve::Reserve;
use crate::room::Room;

/// After a pass that freed less than was wanted, the next one waits at least this long,
const PAUSE: Duration = Duration::from_secs(1);
/// and so many times as long as the pass took.
const PAUSE_FACTOR: u32 = 10;
/// Each pass over a full disk that evicted and did not get the space waits twice as long as the one before,
/// so many times.
const DOUBLINGS: u32 = 12;
/// How often interrupted uploads are looked through, and a reserve is made that was given up.
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
    /// Make room on a full disk; says whether any was made since it was found full.
    Relieve(FullDisk, Reply<bool>),
    /// Drop interrupted uploads that nobody has gone on with, and keep the reserve.
    Sweep,
    /// Evict to so many bytes, sparing what was used within the duration.
    Gc(u64, Duration, Reply<Result<GcReport, ShardError>>),
}

/// What somebody lacks who found the disk full.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FullDisk {
    /// Bytes that are there and wait to be written.
    pub(crate) bytes: u64,
    /// Those, and what is said to come after them.
    pub(crate) to_come_bytes: u64,
    pub(crate) found: Instant,
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
    let (path, disk) = (evictor.layout.reserve(), Arc::clone(&evictor.disk));
    let reserve = Arc::new(Reserve::new(path, disk, Arc::clone(&budget)));
    let upkeep = system
        .actor(move || {
            let (budget, partials) = (Arc::clone(&for_upkeep), Arc::clone(&partials));
            Upkeep::new(evictor.clone(), budget, partials, &reserve, lease)
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
    reserve: Arc<Reserve>,
    lease: Duration,
    /// No automatic pass for so many bytes or more before this.
    pause: Option<(u64, Instant)>,
    /// Until when what nobody waits for is left as it is.
    rests_until: Option<Instant>,
    /// When a full disk was last relieved.
    relieved: Option<Instant>,
    /// How often in a row something was evicted from a full disk that did not come free.
    in_vain: u32,
}

impl Upkeep {
    pub(crate) fn new(
        evictor: Evictor,
        budget: Arc<Budget>,
        partials: Arc<Partials>,
        reserve: &Arc<Reserve>,
        lease: Duration,
    ) -> Self {
        Self {
            evictor,
            budget,
            partials,
            reserve: Arc::clone(reserve),
            lease,
            pause: None,
            rests_until: None,
            relieved: None,
            in_vain: 0,
        }
    }

    fn is_paused(&self, bytes: u64) -> bool {
        let pause = self.pause;
        pause.is_some_and(|(from_bytes, until)| bytes >= from_bytes && Instant::now() < until)
    }

    /// Evicts to the low water where nobody waits for it. What is dead and cannot be given back, as in segments
    /// that cannot be read, would have every put look through the whole store.
    fn lower_unasked(&mut self) {
        let rests = self.rests_until.is_some_and(|until| Instant::now() < until);
        if rests || !self.budget.is_high() {
            return;
        }
        let started = Instant::now();
        self.lower(0);
        let rest = PAUSE.max(started.elapsed() * PAUSE_FACTOR);
        self.rests_until = self.budget.is_high().then(|| started + rest);
    }

    /// Evicts to the low water, with room for `more` bytes.
    fn lower(&mut self, more: u64) {
        if self.is_paused(more) {
            return;
        }
        self.budget.asked.store(false, Relaxed);
        let started = Instant::now();
        let target_bytes = self.budget.low_bytes(more);
        let most_bytes = self.budget.most_bytes(more);
        let evictor = &self.evictor;
        let (report, done) = evictor.fit(target_bytes, most_bytes, before(self.lease));
        let took = started.elapsed();
        match &done {
            Ok(()) => {}
            Err(ShardError::Closed) => return,
            Err(error) => tracing::warn!(%error, "cannot evict all that should go"),
        }
        // Without a success, nothing may have been counted.
        let is_counted = done.is_ok() || report.freed_bytes > 0;
        let enough = is_counted && self.evictor.disk_bytes() <= target_bytes;
        self.pause = (!enough).then(|| (more, started + PAUSE.max(took * PAUSE_FACTOR)));
        tracing::info!(?report, ?took, enough, "evicted");
    }

    /// Makes room on a full disk, unless that was done since it was found full.
    fn relieve(&mut self, full: FullDisk) -> bool {
        if self.relieved.is_some_and(|last| full.found < last) {
            return true;
        }
        if self.is_paused(full.to_come_bytes) {
            return false;
        }
        let started = Instant::now();
        self.reserve.give_up();
        let (bytes, to_come) = (full.bytes, full.to_come_bytes);
        let (relief, done) = self.evictor.relieve(bytes, to_come, before(self.lease));
        let (released, evicted) = (relief.released_bytes, relief.evicted.evicted);
        match &done {
            Ok(()) => tracing::warn!(
                "the disk of the store is full: {bytes} bytes were missing; {evicted} results and blobs went, which freed {released} bytes"
            ),
            Err(error) => tracing::warn!(
                "the disk of the store is full: {bytes} bytes were missing, and nothing more can go: {error}"
            ),
        }
        let is_enough = relief.released_bytes >= bytes;
        self.in_vain = match relief.evicted.evicted {
            _ if is_enough => 0,
            0 => self.in_vain,
            _ => (self.in_vain + 1).min(DOUBLINGS),
        };
        if !is_enough {
            let pause = PAUSE.max(started.elapsed() * PAUSE_FACTOR) * (1 << self.in_vain);
            // What fits may be had at once.
            let from_bytes = relief.fitting_bytes.map_or(0, |most| most + 1);
            self.pause = Some((from_bytes, started + pause));
        }
        // A shard that failed takes nothing back from what the others have released.
        let has_released = relief.released_bytes > 0;
        if has_released {
            self.relieved = Some(Instant::now());
        }
        has_released
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.budget.try_reserve(bytes).is_some()
    }

    fn sweep(&self) {
        self.partials.sweep(SystemTime::now());
        self.reserve.keep(&self.evictor.shards);
    }

    fn measure(&mut self) {
        // Before anything is evicted on account of it.
        self.reserve.give_up_surplus();
        match self.evictor.measure() {
            Ok(_) if self.budget.is_high() => self.lower(0),
            Ok(_) => self.reserve.keep(&self.evictor.shards),
            Err(ShardError::Closed) => {}
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
        ctx.after(SWEEP_EVERY, UpkeepMsg::Sweep);
        Ok(())
    }

    fn handle(&mut self, msg: UpkeepMsg, ctx: &mut Context<'_, Self>) {
        match msg {
            UpkeepMsg::Sweep => {
                self.sweep();
                ctx.after(SWEEP_EVERY, UpkeepMsg::Sweep);
            }
            UpkeepMsg::Measure => self.measure(),
            UpkeepMsg::LowerWater => {
                self.budget.asked.store(false, Relaxed);
                self.lower_unasked();
            }
            UpkeepMsg::MakeRoom(bytes, reply) => {
                if !self.has_room(bytes) {
                    self.lower(bytes);
                }
                reply.send(self.has_room(bytes));
            }
            UpkeepMsg::Relieve(full, reply) => reply.send(self.relieve(full)),
            UpkeepMsg::Gc(max_bytes, spare, reply) => {
                let (report, done) = self.evictor.evict_to(max_bytes, before(spare));
                self.reserve.keep(&self.evictor.shards);
                reply.send(done.map(|()| report));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::RealFs;
    use crate::layout::Layout;
    use crate::stats::Counters;

    /// Every put had the whole store measured, where segments with much that is dead could not be read.
    #[test]
    fn what_cannot_be_given_back_is_not_looked_for_at_every_put() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path().into());
        let shard = Arc::new(Counters::default());
        shard.held.set_segments(1 << 30);
        let budget = Budget::new(None, vec![shard]);
        assert!(budget.is_high());
        let evictor = Evictor {
            shards: Vec::new().into(),
            layout: layout.clone(),
            disk: Arc::new(RealFs),
            closing: Arc::default(),
        };
        let partials = Partials::open(layout.clone(), StoreConfig::new("").partial).unwrap();
        let disk = Arc::clone(&evictor.disk);
        let reserve = Arc::new(Reserve::new(layout.reserve(), disk, Arc::clone(&budget)));
        let mut upkeep = Upkeep::new(evictor, budget, partials, &reserve, Duration::ZERO);
        upkeep.lower_unasked();
        let rests_until = upkeep.rests_until.expect("it has looked");
        upkeep.lower_unasked();
        assert_eq!(upkeep.rests_until, Some(rests_until), "it has not again");
        assert!(!upkeep.is_paused(1), "who waits for room is not refused");
    }
}
