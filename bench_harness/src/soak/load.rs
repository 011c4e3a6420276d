//! What a soak does in each round: a bit of everything, and faults that could lose something.
#![forbid(unsafe_code)]

use std::any::type_name;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use actor_rt::{
    Actor, ActorRef, Ask, AskError, BytePool, CancelToken, Context, DeadLetter, Overflow, Pool,
    PoolConfig, PoolError, Pooled, Reply, Restart, System, Topic, Work,
};
use bytes::Bytes;

use super::ledger::{Ledger, Slip};
use super::{PATIENCE, Tally};
use crate::payload::{Payload as _, Words, total};

/// A message and what it says.
pub(super) struct Msg {
    slip: Slip,
    what: What,
}

enum What {
    Add(u64, Reply<u64>),
    /// Panic.
    Fail,
    Pooled(Pooled<Words<128>>),
    Bytes(Bytes),
    /// Do nothing until the other end is dropped.
    Hold(Receiver<()>),
    /// Nothing.
    Nudge,
    /// Start a child and tell who it is.
    Raise(Reply<ActorRef<Msg>>),
    /// Set so many timers.
    Timers(u64),
}

/// Does whatever a message says.
pub(super) struct Worker(u64);

impl Actor for Worker {
    type Msg = Msg;

    fn handle(&mut self, mut msg: Msg, ctx: &mut Context<'_, Self>) {
        msg.slip.handled();
        let ledger = msg.slip.ledger();
        match msg.what {
            What::Add(number, reply) => {
                self.0 = self.0.wrapping_add(number);
                reply.send(number);
            }
            What::Fail => {
                msg.slip.failed();
                panic!("injected fault");
            }
            What::Pooled(words) => drop(ledger.sum.fetch_add(words.sum(), Ordering::AcqRel)),
            What::Bytes(bytes) => {
                let sum: u64 = bytes.iter().map(|byte| u64::from(*byte)).sum();
                ledger.sum.fetch_add(sum, Ordering::AcqRel);
            }
            // It ends when the sender is gone.
            What::Hold(released) => drop(released.recv()),
            What::Nudge => {}
            What::Raise(reply) => reply.send(ctx.spawn(|| Worker(0))),
            What::Timers(count) => (0..count).for_each(|_| {
                let due = Msg::new(ledger, What::Nudge);
                ctx.after(Duration::from_millis(1), due);
            }),
        }
    }
}

impl Msg {
    fn new(ledger: &Arc<Ledger>, what: What) -> Self {
        Self {
            slip: Slip::new(ledger),
            what,
        }
    }
}

/// What is published.
#[derive(Clone)]
struct News(Slip);

/// Whether a dead letter was a message of the soak's; those between the runtime's own actors, a pool's say, have no slip.
pub(super) fn has_slip(letter: &DeadLetter) -> bool {
    [type_name::<Msg>(), type_name::<News>()].contains(&letter.message_type)
}

struct Reader;

impl Actor for Reader {
    type Msg = News;

    fn handle(&mut self, mut news: News, _ctx: &mut Context<'_, Self>) {
        news.0.handled();
    }
}

struct Squarer;

impl Work for Squarer {
    type Job = u64;
    type Output = u64;

    fn run(&mut self, job: u64, _cancel: &CancelToken) -> u64 {
        assert_ne!(job, POISON, "injected fault");
        job * job
    }
}

/// The job that panics.
const POISON: u64 = 13;
const WORKERS: usize = 64;
/// Places of a worker's mailbox: more than a round needs.
const PLACES: usize = 64;
/// Questions that are under way at a time for one worker.
const QUESTIONS: u64 = 16;
const READERS: usize = 8;
const TIMERS: u64 = 8;
const JOBS: u64 = 32;
/// Places of the mailboxes that are flooded, and messages that they are flooded with.
const NARROW: usize = 8;
const FLOOD: usize = 64;
/// Bytes that are sent as a view.
const LINE: [u8; 200] = [7; 200];

/// Everything that lives for as long as a soak.
pub(super) struct Load {
    ledger: Arc<Ledger>,
    workers: Vec<ActorRef<Msg>>,
    /// One for each way to treat what does not fit.
    narrow: Vec<ActorRef<Msg>>,
    topic: Topic<News>,
    pool: Pool<Squarer>,
    bytes: BytePool,
    /// What the payloads add up to, by a formula.
    sum: u64,
}

impl Load {
    pub fn start(system: &System, ledger: &Arc<Ledger>) -> anyhow::Result<Self> {
        // At once, and with a record of the last restart only.
        let always = Restart::on_failure()
            .at_most(1000, Duration::from_millis(1))
            .backoff(Duration::ZERO, Duration::ZERO);
        let worker = |_| {
            let worker = system.actor(|| Worker(0)).mailbox(PLACES);
            worker.restart(always.clone()).spawn()
        };
        let workers: Vec<_> = (0..WORKERS).map(worker).collect();
        let narrow = |policy| {
            let actor = system.actor(|| Worker(0)).mailbox(NARROW);
            actor.overflow(policy).spawn()
        };
        let fallback = Overflow::fallback(&workers[0]);
        let policies = [Overflow::Fail, Overflow::DropNewest, Overflow::DropOldest];
        let narrow = policies.into_iter().chain([fallback]).map(narrow).collect();
        let topic = Topic::new();
        for _ in 0..READERS {
            topic.subscribe(system.spawn(|| Reader).recipient());
        }
        let config = PoolConfig {
            min: 2,
            max: 2,
            ..PoolConfig::default()
        };
        let pool = Pool::new(config, || Squarer);
        pool.start(system)?;
        let load = Self {
            ledger: Arc::clone(ledger),
            workers,
            narrow,
            topic,
            pool,
            bytes: BytePool::new(4096, 64),
            sum: 0,
        };
        load.fill()?;
        Ok(load)
    }

    /// Has every worker use every place of its mailbox and restart once: what an actor needs for that it takes when it
    /// needs it first, which might be at any time.
    fn fill(&self) -> anyhow::Result<()> {
        for worker in &self.workers {
            let nudge = |_| Msg::new(&self.ledger, What::Nudge);
            let mut all: Vec<Msg> = (0..PLACES).map(nudge).collect();
            let sent = worker.tell_batch(&mut all)?;
            anyhow::ensure!(sent == PLACES, "a new mailbox has room for {sent} only");
            self.ledger.rest(PATIENCE);
            self.tell(worker, What::Fail);
        }
        Ok(())
    }

    fn tell(&self, to: &ActorRef<Msg>, what: What) -> bool {
        let told = to.tell(Msg::new(&self.ledger, what));
        told.map_err(|error| error.into_message().slip.refused())
            .is_ok()
    }

    fn ask(&self, to: &ActorRef<Msg>, number: u64) -> Ask<u64> {
        to.ask(|reply| Msg::new(&self.ledger, What::Add(number, reply)))
            .timeout(PATIENCE)
    }

    pub fn round(&mut self, system: &System, tally: &mut Tally) {
        tally.rounds += 1;
        for index in 0..self.workers.len() {
            self.converse(index, tally);
        }
        self.guests(system, tally);
        self.orphans(system, tally);
        self.floods(tally);
        self.jobs(tally);
        let published = self.topic.publish(&News(Slip::draft(&self.ledger)));
        tally.expect(
            "a publication reaches everybody",
            published.delivered == READERS,
        );
        self.tell(&self.workers[1], What::Timers(TIMERS));
        let missing = self.ledger.rest(PATIENCE);
        tally.expect("it is known what became of every message", missing == 0);
        let sum = self.ledger.sum.load(Ordering::Acquire);
        tally.expect("payloads arrive as they were sent", sum == self.sum);
    }

    /// Questions and payloads for a worker; one worker in each round fails in the midst of them.
    fn converse(&mut self, index: usize, tally: &mut Tally) {
        let worker = &self.workers[index].clone();
        let began = Instant::now();
        let ask = |number| (number, self.ask(worker, number));
        let before: Vec<_> = (0..QUESTIONS / 2).map(ask).collect();
        self.payloads(worker);
        if index as u64 == tally.rounds % WORKERS as u64 && self.tell(worker, What::Fail) {
            tally.faults += 1;
        }
        self.payloads(worker);
        let ask = |number| (number, self.ask(worker, number));
        // Behind the fault: what waits is kept over a restart.
        let behind: Vec<_> = (QUESTIONS / 2..QUESTIONS).map(ask).collect();
        for (number, answer) in before.into_iter().chain(behind) {
            tally.note(began, answer.wait(), number);
        }
    }

    /// A pooled message and a view of a pool's bytes.
    fn payloads(&mut self, worker: &ActorRef<Msg>) {
        let seq = self.sum & 0xFF;
        let line = self.bytes.copy(&LINE);
        if self.tell(worker, What::Pooled(Pooled::new(Words::new(seq)))) {
            // Every word is that much more than in the item number zero.
            self.sum = self.sum.wrapping_add(total(1, 128) + 128 * seq);
        }
        if self.tell(worker, What::Bytes(line)) {
            self.sum = self
                .sum
                .wrapping_add(LINE.iter().map(|byte| u64::from(*byte)).sum());
        }
    }

    /// Actors that come, answer and go.
    fn guests(&self, system: &System, tally: &mut Tally) {
        for _ in 0..16 {
            let guest = system.spawn(|| Worker(0));
            let began = Instant::now();
            tally.note(began, self.ask(&guest, 7).wait(), 7);
            guest.stop();
            // Gone for good before memory is looked at.
            guest.join();
            tally.short_lived += 1;
        }
    }

    /// A child that is killed with messages waiting for it, and then its parent.
    fn orphans(&self, system: &System, tally: &mut Tally) {
        let parent = system.spawn(|| Worker(0));
        let child = parent.ask(|reply| Msg::new(&self.ledger, What::Raise(reply)));
        let Ok(child) = child.timeout(PATIENCE).wait() else {
            tally.expect("a child is started", false);
            return;
        };
        let (release, held) = channel();
        self.tell(&child, What::Hold(held));
        for _ in 0..QUESTIONS {
            self.tell(&child, What::Nudge);
        }
        child.kill();
        drop(release);
        child.join();
        tally.kills += 1;
        parent.kill();
        parent.join();
        tally.short_lived += 2;
    }

    /// More than a mailbox holds, for each way to treat what does not fit.
    fn floods(&self, tally: &mut Tally) {
        for actor in &self.narrow {
            let (release, held) = channel();
            self.tell(actor, What::Hold(held));
            let before = self.ledger.messages();
            for _ in 0..FLOOD {
                self.tell(actor, What::Nudge);
            }
            let after = self.ledger.messages();
            drop(release);
            let did_not_fit = after.refused + after.dropped - before.refused - before.dropped;
            tally.overflows += did_not_fit;
            let missing = self.ledger.rest(PATIENCE);
            tally.expect("a flooded mailbox empties", missing == 0);
        }
    }

    /// Jobs of which one panics.
    fn jobs(&self, tally: &mut Tally) {
        let never = CancelToken::new();
        let submit = |job| (job, self.pool.submit(job, &never));
        let outputs: Vec<_> = (0..JOBS).map(submit).collect();
        for (job, output) in outputs {
            let right = match output.wait() {
                Ok(square) => square == job * job,
                Err(PoolError::Panicked(_)) => job == POISON,
                Err(_) => false,
            };
            tally.jobs += 1;
            tally.expect("a job has its output", right);
        }
        tally.faults += 1;
    }

    pub fn end(self) {
        self.pool.stop();
        self.pool.join();
    }
}

impl Tally {
    /// Takes note of how a question that began then has ended.
    pub fn note(&mut self, began: Instant, answer: Result<u64, AskError>, expected: u64) {
        self.asked += 1;
        match answer {
            Ok(answer) if answer == expected => {}
            Ok(_) => self.error("the answer to another question came".to_owned()),
            Err(error) => {
                self.unanswered += 1;
                self.reason(error.to_string());
            }
        }
        let took = began.elapsed();
        self.late += u64::from(took > super::LATE);
        self.slowest = self.slowest.max(took);
    }

    pub fn expect(&mut self, what: &str, so: bool) {
        if !so {
            self.error(format!("not so: {what}"));
        }
    }

    fn error(&mut self, reason: String) {
        self.errors += 1;
        self.reason(reason);
    }

    fn reason(&mut self, reason: String) {
        *self.reasons.entry(reason).or_default() += 1;
    }
}
