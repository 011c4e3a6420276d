//! Any bytes are the one encoding of an action entry, or an error; the same behind a right checksum.
#![no_main]

use bytes::Bytes;
use cas_actor::ActionEntry;

libfuzzer_sys::fuzz_target!(|stored: &[u8]| {
    let key = [7; 32];
    if let Ok(entry) = ActionEntry::decode(&key, &Bytes::copy_from_slice(stored)) {
        assert_eq!(entry.encode(&key), stored);
    }
    cas_actor::fuzzing::read_sealed_entry(stored);
});
