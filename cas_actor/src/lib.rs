//! cas_actor
