//! Once warm, messages cost no allocation, and all their blocks come back: telling, batches, ping-pong, asking, awaiting,
//! payloads, arenas, timers, jobs of a pool.

use actor_rt::{
    Actor, ActorRef, AsyncActor, AsyncContext, BytePool, CancelToken, Context, Pool, PoolConfig,
    Pooled, Reply, System, Timer, Work,
};
use bytes::Bytes;
use std::alloc::{GlobalAlloc, Layout, System as SystemAllocator};
use std::sync::atomic::{AtomicU64, Ordering};
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

enum Msg {
    Add(u64),
    Total(Reply<u64>),
}

impl Actor for Sum {
    type Msg = Msg;
    fn handle(&mut self, msg: Msg, _ctx: &mut Context<'_, Self>) {
        match msg {
            Msg::Add(n) => self.0 += n,
            Msg::Total(reply) => reply.send(self.0),
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
        };
        self.0 += read;
    }
}

/// Payloads of all classes, in waves no larger than the mailbox.
fn carry(reader: &ActorRef<Carried>, pool: &mut BytePool) {
    for _ in 0..20 {
        for n in 0..100 {
            let medium = Carried::Medium(Pooled::new([n; 100]));
            reader.send_blocking(medium).expect("open");
            let line = pool.copy(b"all of this line and a part of it");
            let part = Carried::Text(line.slice(4..15));
            reader.send_blocking(Carried::Text(line)).expect("open");
            reader.send_blocking(part).expect("open");
        }
        reader.ask(Carried::Sum).wait().expect("an answer");
    }
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

struct Doubler;

impl Work for Doubler {
    type Job = u64;
    type Output = u64;
    fn run(&mut self, job: u64, _cancel: &CancelToken) -> u64 {
        2 * job
    }
}

/// Jobs in waves no larger than the backlog.
fn work(pool: &Pool<Doubler>, cancel: &CancelToken) {
    for _ in 0..50 {
        let outputs = std::array::from_fn::<_, 100, _>(|job| pool.submit(job as u64, cancel));
        for (job, output) in outputs.into_iter().enumerate() {
            assert_eq!(output.wait(), Ok(2 * job as u64));
        }
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
    let median = usual(50, || round(&sum, &asker, &mut batch));
    assert_eq!(
        median, 0,
        "the usual one of 50 rounds of 11,000 messages allocated"
    );
    let reader = system.actor(|| Reader(0)).mailbox(512).spawn();
    let mut pool = BytePool::new(16 * 1024, 4);
    let median = usual(50, || carry(&reader, &mut pool));
    assert_eq!(
        median, 0,
        "the usual one of 50 rounds of 6,000 payloads allocated"
    );
    let waiter = system.spawn(|| Waiter {
        waits: 0,
        reply: None,
        ticks: None,
    });
    let median = usual(50, || {
        let all = waiter.ask(|reply| Wait::For(200, reply));
        all.wait().expect("all timers are due");
    });
    assert_eq!(
        median, 0,
        "the usual one of 50 rounds of 200 timers allocated"
    );
    let pool = Pool::new(
        PoolConfig {
            min: 2,
            max: 2,
            ..PoolConfig::default()
        },
        || Doubler,
    );
    pool.start(&system).expect("the first start");
    let cancel = CancelToken::new();
    let median = usual(50, || work(&pool, &cancel));
    assert_eq!(
        median, 0,
        "the usual one of 50 rounds of 5,000 jobs allocated"
    );
    system
        .shutdown(Duration::from_secs(60))
        .expect("everything ends");
}

/// What may be on its way between threads when nobody waits for anything any more: far less than one block for each message
/// of the rounds.
const ON_ITS_WAY_BYTES: u64 = 64 * 1024;

/// The allocations of the usual round, the median of the second half: blocks wander between the threads' magazines at first,
/// and now and then one round more finds one empty. All blocks of the slabs that the second half took have come back.
fn usual(rounds: u32, mut round: impl FnMut()) -> u64 {
    let mut half = 0;
    let counted = (0..rounds).map(|number| {
        if number == rounds / 2 {
            half = System::memory().in_use_bytes;
        }
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        round();
        ALLOCATIONS.load(Ordering::Relaxed) - before
    });
    let mut counted: Vec<_> = counted.skip(rounds as usize / 2).collect();
    counted.sort_unstable();
    let median = counted[counted.len() / 2];
    let kept = System::memory().in_use_bytes.saturating_sub(half);
    assert!(kept < ON_ITS_WAY_BYTES, "{kept} bytes did not come back");
    median
}
