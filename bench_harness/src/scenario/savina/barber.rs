//! A sleeping barber: customers who come back while the waiting room is full.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::Arc;

use super::scramble;
use crate::actor::{Done, Kit, Msg, Ops, Play, Role, sent};
use crate::elapsed::timed;
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;
use crate::scenario::actors::{case, every_kit, wait, workers};
use crate::scenario::{Family, Scenario};

/// `barber`.
pub const SCENARIO: Scenario = Scenario {
    name: "barber",
    family: Family::Savina("Sleeping Barber"),
    about: "customers, a waiting room with 100 seats, and a barber",
    unit: Unit::MillionPerSecond("haircuts"),
    cases: |options| {
        let mut cases = Vec::new();
        every_kit!(options, cases, cut, options);
        cases
    },
};

const SEATS: usize = 100;
/// Rounds of work for a haircut.
const WORK: u32 = 64;

struct Room<R> {
    barber: R,
    customers: Arc<[R]>,
    waiting: VecDeque<u32>,
    asleep: bool,
}

impl<R> Room<R> {
    fn next(&mut self, ops: &mut dyn Ops<R>) {
        self.asleep = self.waiting.is_empty();
        if let Some(customer) = self.waiting.pop_front() {
            sent(ops.tell(&self.barber, Msg::Item(u64::from(customer))));
        }
    }
}

impl<R: Clone + Send + Sync> Play<R> for Room<R> {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        match msg {
            Msg::Wires(customers) => self.customers = customers,
            Msg::Ping(customer) if self.waiting.len() == SEATS => {
                // No seat is free: come again.
                sent(ops.tell(&self.customers[customer as usize], Msg::Go));
            }
            Msg::Ping(customer) => {
                self.waiting.push_back(customer);
                if self.asleep {
                    self.next(ops);
                }
            }
            // The barber is free.
            Msg::Go => self.next(ops),
            _ => {}
        }
    }
}

/// A haircut.
fn hair(customer: u64) -> u64 {
    (0..WORK).fold(customer + 1, |hair, _| scramble(hair))
}

struct Barber<R> {
    room: Option<R>,
    customers: Arc<[R]>,
}

impl<R> Barber<R> {
    /// Tells the room. All customers may be at its door at once, so it may have no place for the barber: then again.
    fn free(&self, ops: &mut dyn Ops<R>) {
        let room = self.room.as_ref().expect("wired");
        if ops.tell(room, Msg::Go).is_err() {
            let me = ops.me();
            sent(ops.tell(&me, Msg::Go));
        }
    }
}

impl<R: Clone + Send + Sync> Play<R> for Barber<R> {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        match msg {
            Msg::Wire(room) => self.room = Some(room),
            Msg::Wires(customers) => self.customers = customers,
            Msg::Item(customer) => {
                sent(ops.tell(
                    &self.customers[customer as usize],
                    Msg::Token(hair(customer)),
                ));
                self.free(ops);
            }
            Msg::Go => self.free(ops),
            _ => {}
        }
    }
}

struct Customer<R> {
    room: R,
    me: u32,
    done: Done,
}

impl<R: Send> Play<R> for Customer<R> {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        if let Msg::Token(cut) = msg {
            let _ = self.done.send(cut);
        } else if ops.tell(&self.room, Msg::Ping(self.me)).is_err() {
            let me = ops.me();
            sent(ops.tell(&me, Msg::Go));
        }
    }
}

fn cut<K: Kit>(options: &Options) -> Case {
    let customers = options.count(5_000, 200) as u32;
    case::<K>("100 seats", workers(options), move |kit, done, finished| {
        let barber = kit.spawn(Role::play(Barber::<K::Ref> {
            room: None,
            customers: Arc::new([]),
        }));
        let room = kit.spawn(Role::play(Room::<K::Ref> {
            barber: barber.clone(),
            customers: Arc::new([]),
            waiting: VecDeque::new(),
            asleep: true,
        }));
        let customer = |me| Customer {
            room: room.clone(),
            me,
            done: done.clone(),
        };
        let all: Arc<[K::Ref]> = (0..customers)
            .map(|me| kit.spawn(Role::play(customer(me))))
            .collect();
        kit.tell(&barber, Msg::Wire(room.clone()));
        kit.tell(&barber, Msg::Wires(Arc::clone(&all)));
        kit.tell(&room, Msg::Wires(Arc::clone(&all)));
        let (elapsed, hair) = timed(|| {
            all.iter().for_each(|customer| kit.tell(customer, Msg::Go));
            wait(finished, u64::from(customers))
        });
        Sample::rate(u64::from(customers), elapsed, hair)
    })
    .expecting(move || {
        (0..u64::from(customers))
            .map(hair)
            .fold(0, u64::wrapping_add)
    })
}
