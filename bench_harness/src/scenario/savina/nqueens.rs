//! Queens on a board, first rows by messages, the rest by recursion.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::actor::{Done, Kit, Msg, Ops, Play, Role, sent};
use crate::elapsed::timed;
use crate::measure::{Case, Sample, Unit};
use crate::options::{Options, Scale};
use crate::scenario::actors::{case, every_ordered_kit, wait, workers};
use crate::scenario::{Family, Scenario};

/// `nqueens`.
pub const SCENARIO: Scenario = Scenario {
    name: "nqueens",
    family: Family::Savina("N-Queens"),
    about: "all ways to place queens, boards shared out among 20 workers",
    unit: Unit::Milliseconds,
    cases: |options| {
        let mut cases = Vec::new();
        every_ordered_kit!(options, cases, place, options);
        cases
    },
};

const WORKERS: usize = 20;
/// Rows that are placed by messages.
const SHARED_ROWS: u32 = 2;
const MASK: u64 = 0xFFFF;

/// Rows placed, and the columns and diagonals that are taken, as seen from the next row.
#[derive(Clone, Copy)]
struct Board {
    row: u32,
    columns: u64,
    left: u64,
    right: u64,
}

impl Board {
    fn pack(self) -> u64 {
        u64::from(self.row) << 48 | self.columns << 32 | self.left << 16 | self.right
    }

    fn unpack(packed: u64) -> Self {
        Self {
            row: (packed >> 48) as u32,
            columns: packed >> 32 & MASK,
            left: packed >> 16 & MASK,
            right: packed & MASK,
        }
    }

    /// The boards with one more queen.
    fn further(self, size: u32) -> impl Iterator<Item = Self> {
        let taken = self.columns | self.left | self.right;
        (0..size)
            .map(|column| 1_u64 << column)
            .filter(move |place| taken & place == 0)
            .map(move |place| Self {
                row: self.row + 1,
                columns: self.columns | place,
                left: (self.left | place) << 1 & MASK,
                right: (self.right | place) >> 1,
            })
    }

    fn solutions(self, size: u32) -> u64 {
        if self.row == size {
            return 1;
        }
        self.further(size).map(|board| board.solutions(size)).sum()
    }
}

/// Hands boards to workers in turn and adds up what they find.
struct Master<R> {
    workers: Arc<[R]>,
    next: usize,
    open: u64,
    found: u64,
    done: Done,
}

impl<R: Clone + Send + Sync> Play<R> for Master<R> {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        match msg {
            Msg::Wires(workers) => self.workers = workers,
            Msg::Item(board) => {
                self.open += 1;
                self.next = (self.next + 1) % WORKERS;
                sent(ops.tell(&self.workers[self.next], Msg::Item(board)));
            }
            Msg::Token(found) => {
                self.found += found;
                self.open -= 1;
                if self.open == 0 {
                    let _ = self.done.send(self.found);
                }
            }
            _ => {}
        }
    }
}

struct Worker<R> {
    master: R,
    size: u32,
}

impl<R: Send> Play<R> for Worker<R> {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        let Msg::Item(packed) = msg else { return };
        let board = Board::unpack(packed);
        let mut found = 0;
        if board.row < SHARED_ROWS {
            for further in board.further(self.size) {
                sent(ops.tell(&self.master, Msg::Item(further.pack())));
            }
        } else {
            found = board.solutions(self.size);
        }
        // Behind the boards, so that the master is never without open ones before the end.
        sent(ops.tell(&self.master, Msg::Token(found)));
    }
}

/// As published (OEIS A000170).
fn known_solutions(size: u32) -> u64 {
    [1, 1, 0, 0, 2, 10, 4, 40, 92, 352, 724, 2680][size as usize]
}

fn place<K: Kit>(options: &Options) -> Case {
    let size: u32 = match options.scale {
        Scale::Full => 11,
        Scale::Quick => 10,
        Scale::Tiny => 6,
    };
    case::<K>(
        format!("{size} queens"),
        workers(options),
        move |kit, done, finished| {
            let master = kit.spawn(Role::play(Master::<K::Ref> {
                workers: Arc::new([]),
                next: 0,
                open: 0,
                found: 0,
                done,
            }));
            let worker = || Worker {
                master: master.clone(),
                size,
            };
            let all: Arc<[K::Ref]> = (0..WORKERS)
                .map(|_| kit.spawn(Role::play(worker())))
                .collect();
            kit.tell(&master, Msg::Wires(all));
            let (elapsed, found) = timed(|| {
                kit.tell(&master, Msg::Item(0));
                wait(finished, 1)
            });
            Sample::time(elapsed, found)
        },
    )
    .expecting(move || known_solutions(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_numbers_of_solutions_are_found() {
        for size in [4, 6, 8] {
            assert_eq!(Board::unpack(0).solutions(size), known_solutions(size));
        }
        let board = Board::unpack(0).further(8).nth(3).unwrap();
        assert_eq!(Board::unpack(board.pack()).solutions(8), board.solutions(8));
    }
}
