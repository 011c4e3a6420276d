//! Recovery reads any bytes as a segment without a panic, and stays within them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    assert!(cas_actor::fuzzing::scan_segment(bytes) <= bytes.len());
});
