//! actor_rt
