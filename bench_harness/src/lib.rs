//! Measures the crates of this workspace, and their peers, so that nobody has to believe a number.
//!
//! Owns: scenarios, the rules of measuring, and what is made of the results (tables, JSON, a gate, a report).
//! Does not know: how the subjects work inside; it uses their public interfaces as a user would.
//!
//! The program's face is `src/main.rs`; everything it does can be called from here, which is how the small sizes of
//! every scenario run in the tests and how `cargo bench` stays a thin wrapper.

pub mod actor;
pub mod alloc_count;
pub mod elapsed;
pub mod gate;
pub mod latency;
pub mod machine;
pub mod measure;
pub mod options;
pub mod payload;
pub mod pin;
pub mod probe;
pub mod profile;
pub mod queue;
pub mod report;
pub mod scenario;
pub mod soak;
pub mod stress;
pub mod table;
pub mod threads;
pub mod usage;
