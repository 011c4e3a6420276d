//! Scenarios of the Savina suite (Imam and Sarkar, 2014), one file each. Its ping-pong, thread ring, big and counting
//! are `ping_pong`, `thread_ring`, `big` and the variant `actor to actor` of `tell`.
#![forbid(unsafe_code)]

pub mod chameneos;
pub mod dictionary;
pub mod fibonacci;
pub mod fork_join;
pub mod philosophers;
pub mod pinball;
pub mod sieve;
pub mod smokers;
pub mod trapezoid;
