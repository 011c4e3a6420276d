//! What the actors of the scenarios do, the same for every library.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::mpsc::Sender;

use super::{Msg, Ops};

/// Where an actor reports that its scenario is over, with a checksum.
pub type Done = Sender<u64>;

/// Messages that a source sends before it lets others run.
const CHUNK: u64 = 256;

/// An actor of a scenario that brings its own.
pub trait Play<R>: Send {
    /// Handles one message.
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>);
}

/// An actor's state.
pub enum Role<R> {
    /// Whatever the scenario says.
    Play(Box<dyn Play<R>>),
    /// Does nothing but tell its number when it is asked.
    Idle {
        /// Among its like.
        number: u64,
    },
    /// Sums items until it has seen `left`.
    Sink {
        /// Items to come.
        left: u64,
        /// Of the items seen.
        sum: u64,
        /// Told the sum.
        done: Done,
    },
    /// Sends the items `next..end` to the sink it is wired to.
    Source {
        /// The sink.
        sink: Option<R>,
        /// Next item.
        next: u64,
        /// End of items.
        end: u64,
    },
    /// Plays ping-pong with the actor it is wired to, by items that say how many round trips are to come.
    Pinger {
        /// The other.
        peer: Option<R>,
        /// Of the items seen.
        sum: u64,
        /// Told the sum; the other player has none and sends back what it gets.
        done: Option<Done>,
    },
    /// Passes a token on.
    Ring {
        /// The next in the ring.
        next: Option<R>,
        /// Sum of the tokens seen; told when asked by `Go`.
        seen: u64,
        /// Told when the token is used up.
        done: Done,
    },
    /// Pings random others of a crowd and answers their pings.
    Crowd {
        /// All of them.
        all: Arc<[R]>,
        /// Its own place.
        index: u32,
        /// Pings to come.
        left: u64,
        /// State of a xorshift generator.
        random: u32,
        /// Of the pings that came: each counts as the place of its sender, from one on. Told when asked by a token.
        sum: u64,
        /// Told once all pings were answered.
        done: Done,
    },
    /// A node of the skynet tree: ten children each, down to leaves that report their number.
    Sky {
        /// Where the sum goes; the root reports to `done`.
        parent: Option<R>,
        /// Number of the first leaf below.
        first: u64,
        /// Leaves below.
        leaves: u64,
        /// Children that have not reported.
        pending: u32,
        /// Of the reports.
        sum: u64,
        /// Told the sum by the root.
        done: Option<Done>,
    },
}

impl<R: Clone> Role<R> {
    /// An actor that a scenario brings.
    pub fn play(play: impl Play<R> + 'static) -> Self {
        Self::Play(Box::new(play))
    }

    /// A sink for so many items.
    pub fn sink(left: u64, done: Done) -> Self {
        Self::Sink { left, sum: 0, done }
    }

    /// A node of skynet.
    pub fn sky(parent: Option<R>, first: u64, leaves: u64, done: Option<Done>) -> Self {
        Self::Sky {
            parent,
            first,
            leaves,
            pending: 0,
            sum: 0,
            done,
        }
    }

    /// Handles one message.
    #[inline]
    pub fn on(&mut self, msg: Msg<R>, ops: &mut impl Ops<R>) {
        match (self, msg) {
            (Self::Play(play), msg) => play.on(msg, ops),
            (Self::Idle { number }, Msg::Report(done)) => drop(done.send(*number)),
            (Self::Sink { left, sum, done }, Msg::Item(item)) => {
                *sum = sum.wrapping_add(item);
                *left -= 1;
                if *left == 0 {
                    let _ = done.send(*sum);
                }
            }
            (Self::Pinger { peer, sum, done }, Msg::Item(left)) => {
                *sum = sum.wrapping_add(left);
                let next = match done {
                    Some(done) if left == 0 => {
                        let _ = done.send(*sum);
                        return;
                    }
                    Some(_) => left - 1,
                    None => left,
                };
                sent(ops.tell(peer.as_ref().expect("wired"), Msg::Item(next)));
            }
            (Self::Ring { next, seen, done }, Msg::Token(hops)) => {
                *seen += hops;
                match hops {
                    0 => drop(done.send(0)),
                    _ => sent(ops.tell(next.as_ref().expect("wired"), Msg::Token(hops - 1))),
                }
            }
            (Self::Ring { seen, done, .. }, Msg::Go) => drop(done.send(*seen)),
            (role @ Self::Crowd { .. }, msg) => role.crowd(msg, ops),
            (role @ Self::Sky { .. }, msg) => role.sky_on(msg, ops),
            (role @ Self::Source { .. }, Msg::Go) => role.pour(ops),
            (
                Self::Source { sink: peer, .. }
                | Self::Pinger { peer, .. }
                | Self::Ring { next: peer, .. },
                Msg::Wire(to),
            ) => {
                *peer = Some(to);
            }
            _ => {}
        }
    }

    /// Sends a chunk of items, or as many as fit, then goes to the back of the queue.
    fn pour(&mut self, ops: &mut impl Ops<R>) {
        let Self::Source {
            sink: Some(sink),
            next,
            end,
        } = self
        else {
            return;
        };
        let stop = (*next + CHUNK).min(*end);
        while *next < stop && ops.tell(sink, Msg::Item(*next)).is_ok() {
            *next += 1;
        }
        if *next < *end {
            let me = ops.me();
            sent(ops.tell(&me, Msg::Go));
        }
    }

    fn crowd(&mut self, msg: Msg<R>, ops: &mut impl Ops<R>) {
        let Self::Crowd {
            all,
            index,
            left,
            random,
            sum,
            done,
        } = self
        else {
            return;
        };
        match msg {
            Msg::Wires(wires) => *all = wires,
            Msg::Ping(from) => {
                *sum += u64::from(from) + 1;
                sent(ops.tell(&all[from as usize], Msg::Pong));
            }
            Msg::Token(_) => drop(done.send(*sum)),
            Msg::Go | Msg::Pong if *left == 0 => drop(done.send(0)),
            Msg::Go | Msg::Pong => {
                *left -= 1;
                *random ^= *random << 13;
                *random ^= *random >> 17;
                *random ^= *random << 5;
                let to = *random as usize % all.len();
                sent(ops.tell(&all[to], Msg::Ping(*index)));
            }
            _ => {}
        }
    }

    fn sky_on(&mut self, msg: Msg<R>, ops: &mut impl Ops<R>) {
        let Self::Sky {
            parent,
            first,
            leaves,
            pending,
            sum,
            done,
        } = self
        else {
            return;
        };
        match msg {
            Msg::Go if *leaves == 1 => {
                sent(ops.tell(
                    parent.as_ref().expect("a leaf has a parent"),
                    Msg::Item(*first),
                ));
                ops.stop();
            }
            Msg::Go => {
                let me = ops.me();
                let below = *leaves / 10;
                *pending = 10;
                for child in 0..10 {
                    let child = ops.spawn(Self::sky(
                        Some(me.clone()),
                        *first + child * below,
                        below,
                        None,
                    ));
                    sent(ops.tell(&child, Msg::Go));
                }
            }
            Msg::Item(item) => {
                *sum = sum.wrapping_add(item);
                *pending -= 1;
                if *pending == 0 {
                    match (parent, done) {
                        (Some(parent), _) => sent(ops.tell(parent, Msg::Item(*sum))),
                        (None, Some(done)) => drop(done.send(*sum)),
                        (None, None) => {}
                    }
                    ops.stop();
                }
            }
            _ => {}
        }
    }
}

/// In these scenarios few messages are under way at a time: they fit into any mailbox.
pub fn sent<R>(told: Result<(), Msg<R>>) {
    assert!(
        told.is_ok(),
        "a mailbox was full or closed where the scenario has few messages under way"
    );
}
