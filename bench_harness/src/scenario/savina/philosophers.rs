//! Dining philosophers with a waiter who says yes or no.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::actor::{Done, Kit, Msg, Ops, Play, Role, sent};
use crate::elapsed::timed;
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;
use crate::scenario::actors::{case, every_kit, wait, workers};
use crate::scenario::{Family, Scenario};

/// `philosophers`.
pub const SCENARIO: Scenario = Scenario {
    name: "philosophers",
    family: Family::Savina("Dining Philosophers"),
    about: "20 dining philosophers and a waiter",
    unit: Unit::MillionPerSecond("meals"),
    cases: |options| {
        let mut cases = Vec::new();
        every_kit!(options, cases, dine, options);
        cases
    },
};

const SEATS: u32 = 20;
/// The waiter's no.
const DENIED: u64 = 0;

struct Waiter<R> {
    guests: Arc<[R]>,
    taken: [bool; SEATS as usize],
}

impl<R: Clone + Send + Sync> Play<R> for Waiter<R> {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        let forks = |seat: u32| [seat as usize, (seat as usize + 1) % SEATS as usize];
        match msg {
            Msg::Wires(guests) => self.guests = guests,
            Msg::Ping(seat) => {
                let free = forks(seat).iter().all(|fork| !self.taken[*fork]);
                if free {
                    forks(seat).iter().for_each(|fork| self.taken[*fork] = true);
                }
                let answer = if free { Msg::Pong } else { Msg::Token(DENIED) };
                sent(ops.tell(&self.guests[seat as usize], answer));
            }
            // Done eating.
            Msg::Item(seat) => forks(seat as u32)
                .iter()
                .for_each(|fork| self.taken[*fork] = false),
            _ => {}
        }
    }
}

struct Philosopher<R> {
    waiter: R,
    seat: u32,
    left: u64,
    eaten: u64,
    done: Done,
}

impl<R: Clone + Send> Play<R> for Philosopher<R> {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        if let Msg::Pong = msg {
            self.left -= 1;
            self.eaten += 1;
            sent(ops.tell(&self.waiter, Msg::Item(u64::from(self.seat))));
            if self.left == 0 {
                let _ = self.done.send(self.eaten);
                return;
            }
        }
        sent(ops.tell(&self.waiter, Msg::Ping(self.seat)));
    }
}

fn dine<K: Kit>(options: &Options) -> Case {
    let meals = options.count(20_000, 20);
    case::<K>("20 seats", workers(options), move |kit, done, finished| {
        let waiter = kit.spawn(Role::play(Waiter::<K::Ref> {
            guests: Arc::new([]),
            taken: Default::default(),
        }));
        let guest = |seat| {
            kit.spawn(Role::play(Philosopher {
                waiter: waiter.clone(),
                seat,
                left: meals,
                eaten: 0,
                done: done.clone(),
            }))
        };
        let guests: Arc<[K::Ref]> = (0..SEATS).map(guest).collect();
        kit.tell(&waiter, Msg::Wires(Arc::clone(&guests)));
        let (elapsed, sum) = timed(|| {
            guests.iter().for_each(|guest| kit.tell(guest, Msg::Go));
            wait(finished, u64::from(SEATS))
        });
        Sample::rate(meals * u64::from(SEATS), elapsed, sum)
    })
    .expecting(move || u64::from(SEATS) * meals)
}
