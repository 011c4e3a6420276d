//! Once warm, messages cost no allocation at all, and all their blocks come back: telling, batches, ping-pong, asking, awaiting,
//! payloads, arenas, timers, jobs of a pool.
//!
//! What grows on the heap grows with the most that waited at once, and stays: the lists of waiting senders, an arena of each
//! worker, the lane of an actor's own, the clock's inbox and wheel, a pool's backlog. So each is filled first as far as the rounds
//! that count can ever fill it, with whoever would empty it held back.

use actor_rt::{
    Actor, ActorRef, AsyncActor, AsyncContext, BytePool, CancelToken, Context, Placement, Pool,
    PoolConfig, PoolOutput, Pooled, Reply, System, Timer, Work,
};
use bytes::Bytes;
use std::alloc::{GlobalAlloc, Layout, System as SystemAllocator};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Waker};
use std::time::Duration;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: forwards to the system allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { SystemAllocator.alloc(layout) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { SystemAllocator.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Sum(u64);

/// Whoever gets it waits until the other end is dropped.
type Gate = Receiver<()>;

enum Msg {
    Add(u64),
    Total(Reply<u64>),
    Hold(Gate),
}

impl Actor for Sum {
    type Msg = Msg;
    fn handle(&mut self, msg: Msg, _ctx: &mut Context<'_, Self>) {
        match msg {
            Msg::Add(n) => self.0 += n,
            Msg::Total(reply) => reply.send(self.0),
            Msg::Hold(gate) => assert!(gate.recv().is_err(), "dropped"),
        }
    }
}

struct Asker(ActorRef<Msg>);

impl AsyncActor for Asker {
    type Msg = (u64, Reply<u64>);
    async fn handle(&mut self, (count, reply): Self::Msg, _ctx: &mut AsyncContext<Self>) {
        let mut answered = 0;
        for n in 0..count {
            self.0.send(Msg::Add(n)).await.expect("open");
            let question = self.0.ask(Msg::Total);
            let answer = match n % 2 {
                0 => question.await,
                _ => question.timeout(Duration::from_secs(600)).await,
            };
            answered += u64::from(answer.is_ok());
        }
        reply.send(answered);
    }
}

/// Reads payloads and leaves notes about them in its arena.
struct Reader(u64);

enum Carried {
    Medium(Pooled<[u64; 100]>),
    Text(Bytes),
    Sum(Reply<u64>),
    Hold(Gate),
}

impl Actor for Reader {
    type Msg = Carried;
    fn handle(&mut self, msg: Carried, ctx: &mut Context<'_, Self>) {
        let read = match msg {
            Carried::Medium(numbers) => ctx.arena().alloc_slice_copy(&numbers[..]).iter().sum(),
            Carried::Text(text) => {
                let upper = ctx.arena().alloc_slice_copy(&text);
                upper.make_ascii_uppercase();
                upper.iter().map(|&byte| u64::from(byte)).sum::<u64>()
            }
            Carried::Sum(reply) => return reply.send(self.0),
            Carried::Hold(gate) => return assert!(gate.recv().is_err(), "dropped"),
        };
        self.0 += read;
    }
}

/// Payloads of all classes, in waves smaller than the mailbox.
fn carry(reader: &ActorRef<Carried>, pool: &mut BytePool) {
    for _ in 0..20 {
        wave(reader, pool);
        reader.ask(Carried::Sum).wait().expect("an answer");
    }
}

fn wave(reader: &ActorRef<Carried>, pool: &mut BytePool) {
    for n in 0..100 {
        let medium = Carried::Medium(Pooled::new([n; 100]));
        reader.send_blocking(medium).expect("open");
        let line = pool.copy(b"all of this line and a part of it");
        let part = Carried::Text(line.slice(4..15));
        reader.send_blocking(Carried::Text(line)).expect("open");
        reader.send_blocking(part).expect("open");
    }
}

/// Waves that are read in a batch, the largest that there can be.
fn fill_arena(reader: &ActorRef<Carried>, pool: &mut BytePool) {
    for _ in 0..4 {
        let (release, gate) = channel();
        reader.send_blocking(Carried::Hold(gate)).expect("open");
        wave(reader, pool);
        drop(release);
        reader.ask(Carried::Sum).wait().expect("an answer");
    }
}

/// Senders that wait, more than there will be.
fn fill_waiting(sum: &ActorRef<Msg>) {
    let (release, gate) = channel();
    sum.send_blocking(Msg::Hold(gate)).expect("open");
    while sum.tell(Msg::Add(0)).is_ok() {}
    let mut task = TaskContext::from_waker(Waker::noop());
    let mut senders = [(); 4].map(|()| Box::pin(sum.send(Msg::Add(0))));
    for sender in &mut senders {
        assert!(sender.as_mut().poll(&mut task).is_pending());
    }
    drop(release);
    for sender in &mut senders {
        while sender.as_mut().poll(&mut task).is_pending() {
            std::thread::yield_now();
        }
    }
    sum.ask(Msg::Total).wait().expect("an answer");
}

/// Sets timers and answers once all of them have come.
struct Waiter {
    waits: u32,
    reply: Option<Reply<()>>,
    ticks: Option<Timer>,
}

enum Wait {
    For(u32, Reply<()>),
    Due,
    Fill(Reply<()>),
    Nothing,
}

/// Holds the clock's thread until the other end of the gate is dropped; returns when it is held.
fn hold_clock(ctx: &mut Context<'_, Waiter>, gate: Gate) -> Timer {
    let (tell, told) = channel();
    let timer = ctx.every(Duration::from_nanos(1), move || {
        tell.send(()).expect("the handler listens");
        let _ = gate.recv();
        Wait::Nothing
    });
    told.recv().expect("the clock comes to it");
    timer
}

/// More timers, and more of them due at once or taken back, than there will be.
fn fill_clock(ctx: &mut Context<'_, Waiter>) {
    // The clock takes its inbox as a whole and leaves another one.
    for _ in 0..2 {
        let (release, gate) = channel();
        let held = hold_clock(ctx, gate);
        for _ in 0..1000 {
            ctx.after(Duration::from_secs(3600), Wait::Nothing).cancel();
        }
        held.cancel();
        drop(release);
    }
    for _ in 0..300 {
        ctx.after(Duration::ZERO, Wait::Nothing);
    }
    // They have come when the clock comes to this one.
    let (release, gate) = channel();
    let held = hold_clock(ctx, gate);
    held.cancel();
    drop(release);
}

impl Actor for Waiter {
    type Msg = Wait;
    fn handle(&mut self, msg: Wait, ctx: &mut Context<'_, Self>) {
        match msg {
            Wait::For(count, reply) => {
                for number in 0..count {
                    ctx.after(Duration::from_micros(u64::from(number)), Wait::Due);
                }
                // Set and taken back, and one that comes again and again.
                ctx.after(Duration::from_secs(3600), Wait::Due).cancel();
                self.ticks = Some(ctx.every(Duration::from_micros(50), || Wait::Due));
                self.waits = count + 5;
                self.reply = Some(reply);
            }
            Wait::Fill(reply) => {
                fill_clock(ctx);
                reply.send(());
            }
            Wait::Nothing => {}
            Wait::Due => {
                self.waits = self.waits.saturating_sub(1);
                if self.waits == 0
                    && let Some(reply) = self.reply.take()
                {
                    self.ticks.take().expect("set with it").cancel();
                    reply.send(());
                }
            }
        }
    }
}

/// Doubles numbers; holds its thread at the largest one.
struct Doubler(Arc<Mutex<Gate>>);

impl Work for Doubler {
    type Job = u64;
    type Output = u64;
    fn run(&mut self, job: u64, _cancel: &CancelToken) -> u64 {
        if job == u64::MAX {
            let _ = self.0.lock().expect("not poisoned").recv();
            return 0;
        }
        2 * job
    }
}

/// Jobs in waves no larger than the backlog.
fn work(pool: &Pool<Doubler>, cancel: &CancelToken) {
    for _ in 0..50 {
        finish(submit(pool, cancel));
    }
}

fn submit(pool: &Pool<Doubler>, cancel: &CancelToken) -> [PoolOutput<u64>; 100] {
    std::array::from_fn(|job| pool.submit(job as u64, cancel))
}

fn finish(outputs: [PoolOutput<u64>; 100]) {
    for (job, output) in outputs.into_iter().enumerate() {
        assert_eq!(output.wait(), Ok(2 * job as u64));
    }
}

/// One round of everything.
fn round(sum: &ActorRef<Msg>, asker: &ActorRef<(u64, Reply<u64>)>, batch: &mut Vec<Msg>) {
    for n in 0..5_000 {
        sum.send_blocking(Msg::Add(n)).expect("open");
    }
    for _ in 0..20 {
        batch.extend((0..40).map(Msg::Add));
        while !batch.is_empty() {
            sum.tell_batch(batch).expect("open");
            std::thread::yield_now();
        }
    }
    assert_eq!(asker.ask(|reply| (5_000, reply)).wait(), Ok(5_000));
    sum.ask(Msg::Total).wait().expect("an answer");
}

#[test]
fn steady_state_messaging_allocates_nothing() {
    let system = System::builder().workers(2).build().expect("threads");
    let sum = system.spawn(|| Sum(0));
    let target = sum.clone();
    let asker = system.spawn_async(move || Asker(target.clone()));
    let mut batch = Vec::with_capacity(64);
    fill_waiting(&sum);
    steady("11,000 messages", 50, || round(&sum, &asker, &mut batch));

    let mut bytes = BytePool::new(16 * 1024, 4);
    // Each worker has an arena.
    for worker in 0..2 {
        let reader = system.actor(|| Reader(0)).mailbox(512);
        let reader = reader.on(Placement::Core(worker)).spawn();
        fill_arena(&reader, &mut bytes);
        steady("6,000 payloads", 25, || carry(&reader, &mut bytes));
    }

    // Repeated messages wait in its lane as far as its mailbox is long.
    let waiter = system.actor(|| Waiter {
        waits: 0,
        reply: None,
        ticks: None,
    });
    let waiter = waiter.mailbox(64).spawn();
    waiter.ask(Wait::Fill).wait().expect("filled");
    // So many that those which were taken back leave the clock meanwhile.
    steady("200 timers", 1200, || {
        let all = waiter.ask(|reply| Wait::For(200, reply));
        all.wait().expect("all timers are due");
    });

    let (release, gate) = channel();
    let gate = Arc::new(Mutex::new(gate));
    let two = PoolConfig {
        min: 2,
        max: 2,
        ..PoolConfig::default()
    };
    let pool = Pool::new(two, move || Doubler(Arc::clone(&gate)));
    pool.start(&system).expect("the first start");
    let cancel = CancelToken::new();
    let held = [(); 2].map(|()| pool.submit(u64::MAX, &cancel));
    let outputs = submit(&pool, &cancel);
    drop(release);
    for output in held {
        assert_eq!(output.wait(), Ok(0));
    }
    finish(outputs);
    steady("5,000 jobs", 50, || work(&pool, &cancel));
    system
        .shutdown(Duration::from_secs(60))
        .expect("everything ends");
}

/// What may be on its way between threads when nobody waits for anything any more: far less than one block for each message
/// of the rounds.
const ON_ITS_WAY_BYTES: u64 = 64 * 1024;

/// Asserts that of so many rounds none of the second half allocates, and that all blocks of the slabs that they took come back.
fn steady(what: &str, rounds: u32, mut round: impl FnMut()) {
    (0..rounds / 2).for_each(|_| round());
    let in_use = System::memory().in_use_bytes;
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    (0..rounds / 2).for_each(|_| round());
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert_eq!(allocations, 0, "in {} rounds of {what}", rounds / 2);
    let kept = System::memory().in_use_bytes.saturating_sub(in_use);
    assert!(kept < ON_ITS_WAY_BYTES, "{kept} bytes did not come back");
}
