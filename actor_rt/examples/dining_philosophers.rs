//! Five philosophers, five forks, nobody starves: `cargo run --example dining_philosophers`.
//!
//! What to look at: asynchronous actors that await other actors, a reply that is kept until a fork is free, and
//! order as the cure for deadlock: everybody picks up the fork with the lower number first.

use actor_rt::{Actor, ActorRef, AsyncActor, AsyncContext, Context, Reply, System};
use std::collections::VecDeque;
use std::error::Error;
use std::time::Duration;

const SEATS: usize = 5;
const MEALS: u32 = 50;

enum Fork {
    /// Answered when the fork is the asker's.
    PickUp(Reply<()>),
    PutDown,
}

#[derive(Default)]
struct Place {
    taken: bool,
    waiting: VecDeque<Reply<()>>,
}

impl Actor for Place {
    type Msg = Fork;

    fn handle(&mut self, msg: Fork, _ctx: &mut Context<'_, Self>) {
        match msg {
            Fork::PickUp(reply) if self.taken => self.waiting.push_back(reply),
            Fork::PickUp(reply) => {
                self.taken = true;
                reply.send(());
            }
            Fork::PutDown => match self.waiting.pop_front() {
                Some(reply) => reply.send(()),
                None => self.taken = false,
            },
        }
    }
}

struct Philosopher {
    first: ActorRef<Fork>,
    second: ActorRef<Fork>,
}

impl AsyncActor for Philosopher {
    /// Dine, and say how many meals it were.
    type Msg = Reply<u32>;

    async fn handle(&mut self, done: Reply<u32>, _ctx: &mut AsyncContext<Self>) {
        let mut eaten = 0;
        for _ in 0..MEALS {
            let first = self.first.ask(Fork::PickUp).await;
            let second = self.second.ask(Fork::PickUp).await;
            if first.is_err() || second.is_err() {
                // A fork has left the table: the meal is over.
                break;
            }
            eaten += 1;
            tokio::task::yield_now().await;
            for fork in [&self.second, &self.first] {
                if fork.send(Fork::PutDown).await.is_err() {
                    return;
                }
            }
        }
        done.send(eaten);
    }
}

/// Runs it all and checks what comes out.
pub fn main() -> Result<(), Box<dyn Error>> {
    let system = System::new()?;
    let forks: Vec<_> = (0..SEATS).map(|_| system.spawn(Place::default)).collect();
    let dinners: Vec<_> = (0..SEATS)
        .map(|seat| {
            let (left, right) = (seat, (seat + 1) % SEATS);
            let first = forks[left.min(right)].clone();
            let second = forks[left.max(right)].clone();
            let philosopher = system.spawn_async(move || Philosopher {
                first: first.clone(),
                second: second.clone(),
            });
            philosopher.ask(|done| done)
        })
        .collect();
    for (seat, dinner) in dinners.into_iter().enumerate() {
        let eaten = dinner.timeout(Duration::from_secs(60)).wait()?;
        assert_eq!(eaten, MEALS);
        println!("philosopher {seat} has eaten {eaten} times");
    }
    system.shutdown(Duration::from_secs(5))?;
    Ok(())
}
