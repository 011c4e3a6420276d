//! Transfers between a thousand accounts: debit, credit, confirmation, each a message.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::scramble;
use crate::actor::{Done, Kit, Msg, Ops, Play, Role, sent};
use crate::elapsed::timed;
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;
use crate::scenario::actors::{case, every_kit, wait, workers};
use crate::scenario::{Family, Scenario};

/// `bank`.
pub const SCENARIO: Scenario = Scenario {
    name: "bank",
    family: Family::Savina("Bank Transaction"),
    about: "transfers between 1000 accounts, 500 under way",
    unit: Unit::MillionPerSecond("transfers"),
    cases: |options| {
        let mut cases = Vec::new();
        every_kit!(options, cases, transfer, options);
        cases
    },
};

const ACCOUNTS: u64 = 1000;
/// Transfers under way: few enough for any mailbox.
const UNDER_WAY: u64 = 500;
const AMOUNT_BITS: u32 = 16;

const SEED: u64 = 0x9E37_79B9_7F4A_7C15;

/// From whom, to whom and how much, by a random number.
fn order(random: u64) -> (u64, u64, u64) {
    let from = random % ACCOUNTS;
    // Another account than the first.
    let to = (from + 1 + (random >> 20) % (ACCOUNTS - 1)) % ACCOUNTS;
    (from, to, random >> 40 & 0xFFF)
}

/// What an account tells in the end: a number that says whose balance it is.
fn statement(account: u64, balance: i64) -> u64 {
    balance.cast_unsigned().wrapping_mul(account + 1)
}

/// All statements after so many transfers, by a loop.
fn balances(transfers: u64) -> u64 {
    let mut balances = [0_i64; ACCOUNTS as usize];
    let mut random = SEED;
    for _ in 0..transfers {
        random = scramble(random);
        let (from, to, amount) = order(random);
        balances[from as usize] -= amount as i64;
        balances[to as usize] += amount as i64;
    }
    (0..)
        .zip(balances)
        .map(|(account, balance)| statement(account, balance))
        .fold(0, u64::wrapping_add)
}

/// Starts transfers; `Pong` says that one is over.
struct Teller<R> {
    accounts: Arc<[R]>,
    random: u64,
    left: u64,
    open: u64,
    done: Done,
}

impl<R> Teller<R> {
    fn start_one(&mut self, ops: &mut dyn Ops<R>) {
        self.random = scramble(self.random);
        let (from, to, amount) = order(self.random);
        self.left -= 1;
        self.open += 1;
        let order = to << AMOUNT_BITS | amount;
        sent(ops.tell(&self.accounts[from as usize], Msg::Item(order)));
    }
}

impl<R: Clone + Send + Sync> Play<R> for Teller<R> {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        match msg {
            Msg::Wires(accounts) => self.accounts = accounts,
            Msg::Go => {
                for _ in 0..UNDER_WAY.min(self.left) {
                    self.start_one(ops);
                }
            }
            Msg::Pong => {
                self.open -= 1;
                if self.left > 0 {
                    self.start_one(ops);
                } else if self.open == 0 {
                    let _ = self.done.send(0);
                }
            }
            _ => {}
        }
    }
}

struct Account<R> {
    teller: R,
    all: Arc<[R]>,
    me: u32,
    balance: i64,
    done: Done,
}

impl<R: Clone + Send + Sync> Play<R> for Account<R> {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        match msg {
            Msg::Wires(all) => self.all = all,
            Msg::Item(order) => {
                let (to, amount) = (order >> AMOUNT_BITS, order & ((1 << AMOUNT_BITS) - 1));
                self.balance -= amount as i64;
                let credit = u64::from(self.me) << AMOUNT_BITS | amount;
                sent(ops.tell(&self.all[to as usize], Msg::Token(credit)));
            }
            Msg::Token(credit) => {
                self.balance += (credit & ((1 << AMOUNT_BITS) - 1)) as i64;
                sent(ops.tell(&self.all[(credit >> AMOUNT_BITS) as usize], Msg::Pong));
            }
            Msg::Go => drop(self.done.send(statement(u64::from(self.me), self.balance))),
            // The other side has it.
            Msg::Pong => sent(ops.tell(&self.teller, Msg::Pong)),
            _ => {}
        }
    }
}

fn transfer<K: Kit>(options: &Options) -> Case {
    let transfers = options.count(500_000, 1000);
    case::<K>(
        "1000 accounts",
        workers(options),
        move |kit, done, finished| {
            let teller = kit.spawn(Role::play(Teller::<K::Ref> {
                accounts: Arc::new([]),
                random: SEED,
                left: transfers,
                open: 0,
                done: done.clone(),
            }));
            let account = |me| Account {
                teller: teller.clone(),
                all: Arc::new([]),
                me,
                balance: 0,
                done: done.clone(),
            };
            let all: Arc<[K::Ref]> = (0..ACCOUNTS as u32)
                .map(|me| kit.spawn(Role::play(account(me))))
                .collect();
            all.iter()
                .chain([&teller])
                .for_each(|actor| kit.tell(actor, Msg::Wires(Arc::clone(&all))));
            let (elapsed, _) = timed(|| {
                kit.tell(&teller, Msg::Go);
                wait(finished, 1)
            });
            // Every transfer was confirmed.
            all.iter().for_each(|account| kit.tell(account, Msg::Go));
            Sample::rate(transfers, elapsed, wait(finished, ACCOUNTS))
        },
    )
    .expecting(move || balances(transfers))
}
