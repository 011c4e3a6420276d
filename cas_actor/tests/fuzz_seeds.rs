//! What fuzzing starts from, and whatever it has found: every file of `fuzz/seeds/TARGET` goes through its
//! target.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use cas_actor::fuzzing::TARGETS;

#[test]
fn every_seed_goes_through_its_target() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    for (name, target) in TARGETS {
        let files =
            fs::read_dir(seeds.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        assert!(!files.is_empty(), "{name} has no seed");
        for file in files {
            println!("{}", file.display());
            target(&fs::read(file).unwrap());
        }
    }
}

#[test]
fn every_target_has_a_fuzzer_and_no_directory_is_forgotten() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let names = |directory: &str| -> BTreeSet<String> {
        let files = fs::read_dir(fuzz.join(directory)).unwrap();
        let stem = |file: fs::DirEntry| file.path().file_stem().unwrap().display().to_string();
        files.map(|file| stem(file.unwrap())).collect()
    };
    let targets = TARGETS.map(|(name, _)| name.to_owned()).into();
    assert_eq!(names("fuzz_targets"), targets);
    assert_eq!(names("seeds"), targets);
}
