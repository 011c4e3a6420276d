//! Fuzzing of digests: see `cas_actor::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cas_actor::fuzzing::digest(bytes));
