//! zako_actors

pub mod diagnostic;
pub mod transpile;
