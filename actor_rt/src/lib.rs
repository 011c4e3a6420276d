//! actor_rt
pub mod ring;
mod sync;
