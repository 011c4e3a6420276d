//! How fast it is on this machine: the shapes that actor systems are usually compared by.
//!
//! `[WORKERS=n] cargo run --release --example speed [name…]`. The comparison with other systems lives in
//! `bench_harness`; this is for looking and profiling.

use actor_rt::{Actor, ActorRef, AsyncActor, AsyncContext, Context, Failure, Reply, System};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn report(name: &str, count: u64, began: Instant) {
    let took = began.elapsed();
    let rate = count as f64 / took.as_secs_f64() / 1e6;
    println!("{name:<24} {rate:>9.2} M/s   {took:?}");
}

/// Adds what it gets and reports after `left` messages.
struct Sink {
    left: u64,
    sum: u64,
    done: Sender<u64>,
}

impl Actor for Sink {
    type Msg = u64;
    fn handle(&mut self, n: u64, _ctx: &mut Context<'_, Self>) {
        self.sum += n;
        self.left -= 1;
        if self.left == 0 {
            let _ = self.done.send(self.sum);
        }
    }
}

/// Sends in chunks and yields in between; what does not fit is kept.
struct Source {
    sink: ActorRef<u64>,
    next: u64,
    end: u64,
}

impl Actor for Source {
    type Msg = ();
    fn handle(&mut self, (): (), ctx: &mut Context<'_, Self>) {
        for _ in 0..1000 {
            if self.next == self.end {
                return;
            }
            if self.sink.tell(self.next).is_err() {
                break;
            }
            self.next += 1;
        }
        let _ = ctx.me().tell(());
    }
}

fn tell(system: &System, sources: u64, name: &str) -> Outcome {
    let each = 10_000_000 / sources;
    let (done, finished) = channel();
    let sink = system.spawn(move || Sink {
        left: each * sources,
        sum: 0,
        done: done.clone(),
    });
    let began = Instant::now();
    for source in 0..sources {
        let sink = sink.clone();
        let next = source * each;
        let source = system.spawn(move || Source {
            sink: sink.clone(),
            next,
            end: next + each,
        });
        source.tell(())?;
    }
    let sum = finished.recv()?;
    report(name, each * sources, began);
    assert_eq!(sum, (0..each * sources).sum());
    Ok(())
}

fn tell_from_thread(system: &System) -> Outcome {
    let count = 10_000_000;
    let (done, finished) = channel();
    let sink = system.spawn(move || Sink {
        left: count,
        sum: 0,
        done: done.clone(),
    });
    let began = Instant::now();
    for n in 0..count {
        sink.send_blocking(n)?;
    }
    finished.recv()?;
    report("tell from a thread", count, began);
    Ok(())
}

fn tell_batch(system: &System) -> Outcome {
    let count = 20_000_000_u64;
    let (done, finished) = channel();
    let sink = system.spawn(move || Sink {
        left: count,
        sum: 0,
        done: done.clone(),
    });
    let began = Instant::now();
    let mut next = 0;
    let mut batch = Vec::new();
    while next < count || !batch.is_empty() {
        while batch.len() < 64 && next < count {
            batch.push(next);
            next += 1;
        }
        if sink.tell_batch(&mut batch)? == 0 {
            std::thread::yield_now();
        }
    }
    finished.recv()?;
    report("tell_batch 64 (thread)", count, began);
    Ok(())
}

struct Player {
    peer: Option<ActorRef<Ball>>,
    done: Option<Sender<()>>,
}

enum Ball {
    Meet(ActorRef<Ball>),
    Ball(u64),
}

impl Actor for Player {
    type Msg = Ball;
    fn handle(&mut self, msg: Ball, _ctx: &mut Context<'_, Self>) {
        match msg {
            Ball::Meet(peer) => self.peer = Some(peer),
            Ball::Ball(0) => {
                if let Some(done) = &self.done {
                    let _ = done.send(());
                }
            }
            Ball::Ball(left) => {
                if let Some(peer) = &self.peer {
                    let _ = peer.tell(Ball::Ball(left - 1));
                }
            }
        }
    }
}

fn ping_pong(system: &System) -> Outcome {
    let rounds = 5_000_000;
    let (done, finished) = channel();
    let ping = system.spawn(move || Player {
        peer: None,
        done: Some(done.clone()),
    });
    let pong = system.spawn(|| Player {
        peer: None,
        done: None,
    });
    ping.tell(Ball::Meet(pong.clone()))?;
    pong.tell(Ball::Meet(ping.clone()))?;
    let began = Instant::now();
    ping.tell(Ball::Ball(rounds * 2))?;
    finished.recv()?;
    report("ping-pong round trips", rounds, began);
    Ok(())
}

fn thread_ring(system: &System) -> Outcome {
    let hops = 10_000_000;
    let (done, finished) = channel();
    let players: Vec<_> = (0..500)
        .map(|_| {
            let done = done.clone();
            system.spawn(move || Player {
                peer: None,
                done: Some(done.clone()),
            })
        })
        .collect();
    for (index, player) in players.iter().enumerate() {
        player.tell(Ball::Meet(players[(index + 1) % players.len()].clone()))?;
    }
    let began = Instant::now();
    players[0].tell(Ball::Ball(hops))?;
    finished.recv()?;
    report("thread ring hops", hops, began);
    Ok(())
}

struct Answerer;

impl Actor for Answerer {
    type Msg = (u64, Reply<u64>);
    fn handle(&mut self, (n, reply): Self::Msg, _ctx: &mut Context<'_, Self>) {
        reply.send(n + 1);
    }
}

struct Asker {
    target: ActorRef<(u64, Reply<u64>)>,
}

impl AsyncActor for Asker {
    type Msg = (u64, Reply<u64>);
    async fn handle(&mut self, (count, reply): Self::Msg, _ctx: &mut AsyncContext<Self>) {
        let mut n = 0;
        while n < count {
            match self.target.ask(|reply| (n, reply)).await {
                Ok(next) => n = next,
                Err(_) => return,
            }
        }
        reply.send(n);
    }
}

fn ask(system: &System) -> Outcome {
    let count = 3_000_000;
    let target = system.spawn(|| Answerer);
    let asker = system.spawn_async(move || Asker {
        target: target.clone(),
    });
    let began = Instant::now();
    let asked = asker.ask(|reply| (count, reply)).wait()?;
    report("ask between actors", asked, began);
    Ok(())
}

fn ask_outside(system: &System) -> Outcome {
    let target = system.spawn(|| Answerer);
    let count = 100_000;
    let began = Instant::now();
    for n in 0..count {
        target.ask(|reply| (n, reply)).wait()?;
    }
    report("ask from outside", count, began);
    Ok(())
}

struct Idle(#[expect(dead_code, reason = "state that takes space")] u64);

impl Actor for Idle {
    type Msg = u64;
    fn handle(&mut self, _msg: u64, _ctx: &mut Context<'_, Self>) {}
}

fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0_u64) * 4096
}

fn spawn(system: &System) -> Outcome {
    let count = 1_000_000;
    let before = resident_bytes();
    let began = Instant::now();
    let mut all = Vec::with_capacity(count as usize);
    for n in 0..count {
        all.push(system.spawn(move || Idle(n)));
    }
    report("spawn (outside)", count, began);
    while system.stats().live > 0 && all.iter().any(|actor| actor.handled() > 0) {
        std::thread::yield_now();
    }
    let bytes = resident_bytes().saturating_sub(before) / count;
    println!("{:<24} {bytes:>9} bytes each", "idle actors");
    let began = Instant::now();
    for actor in &all {
        actor.stop();
    }
    for actor in &all {
        actor.join();
    }
    report("stop and join", count, began);
    Ok(())
}

struct Node {
    parent: ActorRef<u64>,
    size: u64,
    first: u64,
    sum: u64,
    left: u32,
}

impl Actor for Node {
    type Msg = u64;
    fn started(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
        if self.size == 1 {
            self.parent.tell(self.first)?;
            ctx.stop();
            return Ok(());
        }
        let size = self.size / 10;
        for child in 0..10 {
            let (parent, first) = (ctx.me(), self.first + child * size);
            ctx.spawn(move || Node {
                parent: parent.clone(),
                size,
                first,
                sum: 0,
                left: 10,
            });
        }
        Ok(())
    }
    fn handle(&mut self, n: u64, ctx: &mut Context<'_, Self>) {
        self.sum += n;
        self.left -= 1;
        if self.left == 0 {
            let _ = self.parent.tell(self.sum);
            ctx.stop();
        }
    }
}

fn skynet(system: &System) -> Outcome {
    let (done, finished) = channel();
    let sink = system.spawn(move || Sink {
        left: 1,
        sum: 0,
        done: done.clone(),
    });
    let began = Instant::now();
    system.spawn(move || Node {
        parent: sink.clone(),
        size: 1_000_000,
        first: 0,
        sum: 0,
        left: 10,
    });
    let sum = finished.recv()?;
    assert_eq!(sum, 499_999_500_000);
    report("skynet leaves", 1_000_000, began);
    Ok(())
}

fn main() -> Outcome {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let workers = std::env::var("WORKERS")
        .ok()
        .and_then(|text| text.parse().ok());
    let system = match workers {
        Some(count) => System::builder().workers(count).build()?,
        None => System::new()?,
    };
    type Scenario = fn(&System) -> Outcome;
    let scenarios: [(&str, Scenario); 11] = [
        ("tell1", |system| tell(system, 1, "tell, 1 sender")),
        ("tell4", |system| tell(system, 4, "tell, 4 senders")),
        ("thread", tell_from_thread),
        ("batch", tell_batch),
        ("pingpong", ping_pong),
        ("ring", thread_ring),
        ("ask", ask),
        ("outside", ask_outside),
        ("spawn", spawn),
        ("skynet", skynet),
        ("skynet2", skynet),
    ];
    for (name, scenario) in scenarios {
        if wanted.is_empty() || wanted.iter().any(|wish| wish == name) {
            scenario(&system)?;
        }
    }
    system.shutdown(Duration::from_secs(30))?;
    Ok(())
}
