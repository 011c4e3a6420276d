//! Opening and searching any bytes as an index does not panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: (&[u8], [u8; 32])| {
    let (bytes, hash) = input;
    cas_actor::fuzzing::search_index(bytes, &hash);
});
