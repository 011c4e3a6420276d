//! Scenarios of the Savina suite (Imam and Sarkar, 2014), one file each; its ping-pong, thread ring and big stand one
//! floor above. Sizes are chosen so that a run takes a fraction of a second; where the suite sends without bound,
//! senders here try again when a mailbox is full.
#![forbid(unsafe_code)]

pub mod bank;
pub mod barber;
pub mod bounded_buffer;
pub mod chameneos;
mod clients;
pub mod counting;
pub mod dictionary;
pub mod fibonacci;
pub mod fork_join;
pub mod logistic_map;
pub mod nqueens;
mod outbox;
pub mod philosophers;
pub mod radix_sort;
pub mod sieve;
pub mod smokers;
pub mod sorted_list;
pub mod trapezoid;

/// A little work that cannot be left out, and the next number of a generator.
fn scramble(state: u64) -> u64 {
    let state = state ^ (state << 13);
    let state = state ^ (state >> 7);
    state ^ (state << 17)
}
