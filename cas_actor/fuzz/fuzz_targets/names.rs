//! Any text as a resource name, as the path of a request, and as a name of a blob has an answer.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| cas_actor::fuzzing::read_names(text));
