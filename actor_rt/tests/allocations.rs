//! Once warm, messages cost no allocation: telling, batches, ping-pong, asking, awaiting.

use actor_rt::{Actor, ActorRef, AsyncActor, AsyncContext, Context, Reply, System};
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
            answered += u64::from(self.0.ask(Msg::Total).await.is_ok());
        }
        reply.send(answered);
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
    let mut fewest = u64::MAX;
    // Blocks wander between the threads' magazines at first: warm up, then look for a clean round.
    for _ in 0..50 {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        round(&sum, &asker, &mut batch);
        let during = ALLOCATIONS.load(Ordering::Relaxed) - before;
        fewest = fewest.min(during);
    }
    assert_eq!(
        fewest, 0,
        "the cleanest of 50 rounds of 11,000 messages allocated"
    );
    system
        .shutdown(Duration::from_secs(60))
        .expect("everything ends");
}
