//! Turns the published protocol files, and our own, into Rust, without `protoc`.
//!
//! Owns: which files those are. The result is included by `src/front/grpc/api.rs`.

use std::path::Path;

const PROTO: &str = "proto";
const FILES: [&str; 3] = [
    "build/bazel/remote/execution/v2/remote_execution.proto",
    "google/bytestream/bytestream.proto",
    "zako/v1/transport.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed={PROTO}");
    let out = std::env::var("OUT_DIR")?;
    let mut compiler = protox::Compiler::new([PROTO])?;
    compiler.include_imports(true).open_files(FILES)?;
    // For the reflection service.
    let descriptors = compiler.encode_file_descriptor_set();
    std::fs::write(Path::new(&out).join("api.bin"), descriptors)?;
    tonic_prost_build::configure()
        .build_transport(false)
        .include_file("api.rs")
        // Blobs are not copied out of the message that brought them.
        .bytes(".")
        // Their code blocks are no Rust.
        .disable_comments(["."])
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
