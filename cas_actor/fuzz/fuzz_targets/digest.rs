//! Any text is a digest with one spelling, or an error.
#![no_main]

use cas_actor::Digest;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
    }
});
