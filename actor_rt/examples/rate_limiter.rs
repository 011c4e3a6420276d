//! A token bucket in front of a service: `cargo run --example rate_limiter`.
//!
//! What to look at: a timer that fills the bucket (`ctx.every`), a bounded stash for those who wait, delegated
//! replies that are answered later, and virtual time: a minute of it takes no time at all here.

use actor_rt::testkit::Simulation;
use actor_rt::{Actor, Context, Failure, Reply, Stash};
use std::error::Error;
use std::time::Duration;

const PER_SECOND: u32 = 10;
const BURST: u32 = 20;
const MAY_WAIT: usize = 50;

#[derive(Debug, PartialEq, Eq)]
enum Permit {
    Granted,
    /// Too many wait already: come again later.
    Refused,
}

enum Msg {
    /// Asks for a permit; the answer may take a while.
    Acquire(Reply<Permit>),
    Refill,
}

struct Limiter {
    tokens: u32,
    waiting: Stash<Reply<Permit>>,
}

impl Limiter {
    fn new() -> Self {
        Self {
            tokens: BURST,
            waiting: Stash::new(MAY_WAIT),
        }
    }
}

impl Actor for Limiter {
    type Msg = Msg;

    fn started(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
        ctx.every(Duration::from_secs(1) / PER_SECOND, || Msg::Refill);
        Ok(())
    }

    fn handle(&mut self, msg: Msg, _ctx: &mut Context<'_, Self>) {
        match msg {
            Msg::Acquire(reply) if self.tokens > 0 => {
                self.tokens -= 1;
                reply.send(Permit::Granted);
            }
            Msg::Acquire(reply) => {
                if let Err(reply) = self.waiting.put(reply) {
                    reply.send(Permit::Refused);
                }
            }
            Msg::Refill => match self.waiting.take_first() {
                // The new token goes to whoever waits the longest and still wants it.
                Some(reply) => reply.send(Permit::Granted),
                None => self.tokens = (self.tokens + 1).min(BURST),
            },
        }
    }
}

/// Runs it all and checks what comes out.
pub fn main() -> Result<(), Box<dyn Error>> {
    let simulation = Simulation::new(1);
    let limiter = simulation.system().spawn(Limiter::new);

    // A hundred at once: the burst is granted, fifty wait, the rest is refused.
    let asked: Vec<_> = (0..100).map(|_| limiter.ask(Msg::Acquire)).collect();
    simulation.advance(Duration::from_secs(60));
    let mut granted = 0;
    for answer in asked {
        granted += u32::from(answer.wait()? == Permit::Granted);
    }
    assert_eq!(granted, BURST + 50);

    // Steady load at twice the rate: half of it gets through, once those who may wait do.
    let mut answers = Vec::new();
    for _ in 0..60 * PER_SECOND * 2 {
        answers.push(limiter.ask(Msg::Acquire));
        simulation.advance(Duration::from_secs(1) / (PER_SECOND * 2));
    }
    simulation.advance(Duration::from_secs(60));
    let mut granted = 0;
    for answer in answers {
        granted += u32::from(answer.wait()? == Permit::Granted);
    }
    let at_most = BURST + 60 * PER_SECOND + MAY_WAIT as u32 + 1;
    assert!((60 * PER_SECOND..=at_most).contains(&granted), "{granted}");
    println!("{granted} of 1200 requests in a minute were granted, {PER_SECOND} per second");
    Ok(())
}
