//! Numbers on their way to one other actor, which may have a full mailbox.
#![forbid(unsafe_code)]

use std::collections::VecDeque;

use crate::actor::{Msg, Ops};

/// What did not fit into the other's mailbox yet, in order.
#[derive(Default)]
pub struct Outbox(VecDeque<u64>);

impl Outbox {
    /// Puts a number behind those that wait.
    pub fn push(&mut self, number: u64) {
        self.0.push_back(number);
    }

    /// Passes on what fits; comes back for the rest by a `Go` to itself.
    pub fn flush<R>(&mut self, to: &R, ops: &mut dyn Ops<R>) {
        while let Some(number) = self.0.pop_front() {
            if ops.tell(to, Msg::Item(number)).is_err() {
                self.0.push_front(number);
                let me = ops.me();
                // A full mailbox of one's own has messages in it, and each of them flushes too.
                let _ = ops.tell(&me, Msg::Go);
                return;
            }
        }
    }
}
