//! The Rust form of the published protocol files; see `build.rs`.
//!
//! Owns: short names for what is used of them.
#![allow(
    missing_docs,
    dead_code,
    unused_qualifications,
    clippy::all,
    clippy::too_many_lines,
    reason = "the generated code is not ours"
)]

mod generated {
    include!(concat!(env!("OUT_DIR"), "/api.rs"));
}

pub(crate) use generated::build::bazel::remote::execution::v2 as re;
pub(crate) use generated::build::bazel::semver::SemVer;
pub(crate) use generated::google::bytestream;
pub(crate) use generated::google::rpc;
pub(crate) use generated::zako::v1 as zako;

/// All of them, as the reflection service tells them.
pub(crate) const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/api.bin"));
