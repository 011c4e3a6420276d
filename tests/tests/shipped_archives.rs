//! Archives and copies by the rules that ship: whatever names the files have, and wherever they lie.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use zako_tests::{Outcome, Project, is_installed};

/// Names that a program could take for something else: options, patterns, two lines, a list of names.
const NAMES: [&str; 9] = [
    "a.txt",
    "--exclude=*.txt",
    "--checkpoint=1",
    "--checkpoint-action=exec=touch pwned",
    "-x.txt",
    "*[",
    "two\nlines",
    " spaces ",
    "@list",
];

/// A workspace with files of these names in `in`, and these targets.
fn named(targets: &str) -> Project {
    let project = Project::with_build(&format!(
        "import {{ glob }} from \"zako:build\";\nimport {{ archive, copy, shell }} from \"zako:rules\";\nexport default {{\n{targets}\n}};\n"
    ));
    for name in NAMES {
        project.write(&format!("in/{name}"), name);
    }
    project
}

/// What lies in `dir`, from there.
fn names_in(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

/// What the tar archive `name` of the project holds at its top.
fn unpacked(project: &Project, name: &str) -> BTreeSet<String> {
    let dir = project.outside().join("unpacked");
    fs::create_dir(&dir).unwrap();
    let mut tar = Command::new("tar");
    tar.arg("-xf").arg(project.root().join(name));
    Outcome::of(tar.current_dir(&dir)).succeeds();
    let names = names_in(&dir);
    fs::remove_dir_all(dir).unwrap();
    names
}

/// How many entries the zip archive at `path` says that it has.
fn entries_of_zip(bytes: &[u8]) -> u16 {
    let end = bytes.windows(4).rposition(|four| four == b"PK\x05\x06");
    let count = end.unwrap() + 10;
    u16::from_le_bytes([bytes[count], bytes[count + 1]])
}

#[test]
fn names_of_files_are_no_options_patterns_or_lines_to_archives() {
    let project = named(
        "  tar: archive({ srcs: glob(\"in/*\"), root: \"in\", out: \"x.tar\" }),\n  tgz: archive({ srcs: glob(\"in/*\"), root: \"in\", out: \"x.tgz\" }),",
    );
    project
        .zako(&["build", "--check-determinism", "2"])
        .succeeds();
    let all: BTreeSet<String> = NAMES.map(str::to_owned).into();
    for archive in ["x.tar", "x.tgz"] {
        assert_eq!(unpacked(&project, archive), all, "{archive}");
    }
}

#[test]
fn every_file_is_in_a_zip_archive_whatever_its_name() {
    if !is_installed("zip") {
        return;
    }
    let project = named("  zip: archive({ srcs: glob(\"in/*\"), root: \"in\", out: \"x.zip\" }),");
    project
        .zako(&["build", "--check-determinism", "2"])
        .succeeds();
    let bytes = fs::read(project.root().join("x.zip")).unwrap();
    assert_eq!(usize::from(entries_of_zip(&bytes)), NAMES.len());
    for name in NAMES {
        let mut pieces = bytes.windows(name.len());
        assert!(pieces.any(|piece| piece == name.as_bytes()), "{name:?}");
    }
}

#[test]
fn a_zip_archive_says_that_names_are_utf_8() {
    // What `zip` needs for it; elsewhere the rule says so.
    if !is_installed("zip") || !Path::new("/usr/lib/locale/C.utf8").exists() {
        return;
    }
    let project = Project::with_build(
        "import { archive } from \"zako:rules\";\nexport default { zip: archive({ srcs: [\"a.txt\", \"ünï.txt\"], out: \"x.zip\" }) };\n",
    );
    project.write("a.txt", "a");
    project.write("ünï.txt", "u");
    project
        .zako(&["build", "--check-determinism", "2"])
        .succeeds();
    let bytes = fs::read(project.root().join("x.zip")).unwrap();
    // Bit 11 of the flags, six bytes from the beginning of an entry.
    let entries = bytes
        .windows(8)
        .filter(|entry| entry.starts_with(b"PK\x03\x04"));
    let is_utf8: Vec<bool> = entries.map(|entry| entry[7] & 8 != 0).collect();
    assert_eq!(is_utf8, [false, true]);
}

#[test]
fn a_list_of_names_that_is_cut_short_makes_no_archive() {
    let project = named("  tar: archive({ srcs: glob(\"in/*\"), root: \"in\", out: \"x.tar\" }),");
    let dir = project.outside().join("programs");
    fs::create_dir(&dir).unwrap();
    let sed = dir.join("sed");
    fs::write(&sed, "#!/bin/sh\nprintf 'a.txt\\0'\nexit 3\n").unwrap();
    fs::set_permissions(&sed, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", dir.display(), std::env::var("PATH").unwrap());
    let mut command = project.command(&["build"]);
    Outcome::of(command.env("PATH", path)).fails_saying(&["exit status 3"]);
    assert!(!project.has("x.tar"));
}

#[test]
fn names_that_no_command_has_room_for_are_a_mistake_that_says_what_to_do() {
    let project = named(
        "  copy: copy({ srcs: glob(\"many/**\"), root: \"many\", to: \"out\" }),\n  tar: archive({ srcs: glob(\"many/**\"), out: \"x.tar\" }),",
    );
    let deep = vec!["d".repeat(240); 11].join("/");
    for number in 0..800 {
        project.write(&format!("many/{deep}/{number}"), "");
    }
    for target in ["//:copy", "//:tar"] {
        project
            .zako(&["build", target])
            .fails_saying(&["than a command may be", "split the target"]);
    }
}

#[test]
fn names_of_files_are_no_options_to_copies() {
    let project = named("  copy: copy({ srcs: [\"-n\", \"--help\"], to: \"-out\" }),");
    project.write("-n", "one");
    project.write("--help", "two");
    project.build();
    assert_eq!(project.read("-out/-n"), "one");
    assert_eq!(project.read("-out/--help"), "two");
}

#[test]
fn a_directory_that_is_the_root_is_archived_and_copied_by_what_it_holds() {
    let project = named(
        "  c: copy({ srcs: [\"in/a.txt\", \"in/-x.txt\"], root: \"in\", to: \"out\" }),\n\
         \x20 tar: archive({ srcs: [\":c\"], root: \"out\", out: \"x.tar\" }),\n\
         \x20 again: copy({ srcs: [\":c\"], root: \"out\", to: \"again\" }),\n\
         \x20 none: shell({ script: 'mkdir -p \"$OUT\"', outs: [\"none/\"] }),\n\
         \x20 empty: archive({ srcs: [\":none\"], root: \"none\", out: \"empty.tar\" }),",
    );
    project
        .zako(&["build", "//:tar", "//:again", "//:none"])
        .succeeds();
    let two = BTreeSet::from(["-x.txt".to_owned(), "a.txt".to_owned()]);
    assert_eq!(unpacked(&project, "x.tar"), two);
    assert_eq!(names_in(&project.root().join("again")), two);
    project
        .zako(&["build", "//:empty"])
        .fails_saying(&["there is nothing to put into the archive"]);
}

#[test]
fn links_that_a_step_left_are_in_a_zip_archive_too() {
    if !is_installed("zip") {
        return;
    }
    let project = named(
        "  tree: shell({ script: 'mkdir -p \"$OUT\" && echo a > \"$OUT/a\" && ln -s a \"$OUT/l\"', outs: [\"tree/\"] }),\n\
         \x20 zip: archive({ srcs: [\":tree\"], out: \"x.zip\" }),",
    );
    project.build();
    let bytes = fs::read(project.root().join("x.zip")).unwrap();
    assert_eq!(entries_of_zip(&bytes), 2);
}

#[test]
fn names_of_any_length_are_archived_so_that_packages_of_them_can_be_read() {
    let (long, dir) = ("n".repeat(150), "d".repeat(120));
    let deep = format!("{dir}/{dir}/{dir}/deep.txt");
    let project = named(
        "  tar: archive({ srcs: glob(\"long/**\"), root: \"long\", out: \"x.tar\" }),\n  tgz: archive({ srcs: glob(\"long/**\"), root: \"long\", out: \"x.tar.gz\" }),",
    );
    project.write(&format!("long/{long}"), "long");
    project.write(&format!("long/{deep}"), "deep");
    project
        .zako(&["build", "--check-determinism", "2"])
        .succeeds();
    let reader = Project::with_build("export default {};\n");
    let manifest = reader.read("zako.toml");
    reader.write(
        "zako.toml",
        &format!("{manifest}[dependencies]\ntar = {{ url = \"file:third/x.tar\" }}\ntgz = {{ url = \"file:third/x.tar.gz\" }}\n"),
    );
    fs::create_dir(reader.root().join("third")).unwrap();
    for name in ["x.tar", "x.tar.gz"] {
        let to = reader.root().join("third").join(name);
        fs::copy(project.root().join(name), to).unwrap();
    }
    reader
        .zako(&["build", "@tar//:files", "@tgz//:files"])
        .succeeds();
    for package in ["tar", "tgz"] {
        let read = |path: &str| reader.read(&format!(".zako/packages/{package}/{path}"));
        assert_eq!([read(&long), read(&deep)], ["long", "deep"], "{package}");
    }
}
