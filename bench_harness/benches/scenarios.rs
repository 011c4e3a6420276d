//! Criterion over the scenarios of this crate, for `cargo bench`.

fn main() {}
