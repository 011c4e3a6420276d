//! What a source file must and must not hold.
//!
//! Owns the limits on length and the places where `unsafe` is allowed. Looks at lines, not at
//! syntax: good enough for rules that a person keeps anyway, and it needs no parser.

use std::path::Path;

use super::Finding;

/// Lines of a file before it becomes two rooms.
const LONGEST_FILE: usize = 500;

/// Lines of a file that holds tests only: many small parts that nobody reads at once.
const LONGEST_TEST_FILE: usize = 600;

/// Where `unsafe` may stand: small modules with a safe face.
const UNSAFE_ALLOWED: &[&str] = &[
    // Slots that are written and read by turns, by protocol.
    "actor_rt/src/ring/",
    "actor_rt/src/mailbox/",
    "actor_rt/src/prefetch.rs",
    "actor_rt/src/slab/",
    "actor_rt/src/payload/",
    "actor_rt/src/ask/",
    // Cells of actors: counted by hand, typed again at their edges.
    "actor_rt/src/cell/",
    "actor_rt/src/actor_ref.rs",
    "actor_rt/src/builder.rs",
    "actor_rt/src/family.rs",
    "actor_rt/src/group_restart.rs",
    "actor_rt/src/shell.rs",
    "actor_rt/src/awaiting.rs",
    "actor_rt/src/dedicated.rs",
    "actor_rt/src/meter.rs",
    // Run queues.
    "actor_rt/src/sched/here.rs",
    "actor_rt/src/sched/mod.rs",
    "actor_rt/src/sched/models.rs",
    "actor_rt/src/sched/queue.rs",
    "actor_rt/src/sched/reference.rs",
    "actor_rt/src/sched/worker.rs",
    // Allocators that count, to prove that messages allocate nothing, that nothing stays, and how little is held.
    "actor_rt/tests/allocations.rs",
    "actor_rt/tests/memory.rs",
    "cas_actor/tests/checkpoint_memory.rs",
    "bench_harness/src/alloc_count.rs",
    // Settings of the process's allocator.
    "zako_actors/src/heap.rs",
    // Memory-mapped files.
    "cas_actor/src/mapped.rs",
];

/// Checks one Rust file.
pub fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !text.starts_with("//!") && !text.starts_with("#![doc = include_str!") {
        let message = "begins without `//!` lines that say what the file owns";
        findings.push(Finding::new(path, 1, message));
    }
    let count = text.lines().count();
    let limit = match path {
        path if is_test(path) => LONGEST_TEST_FILE,
        _ => LONGEST_FILE,
    };
    if count > limit {
        let message = format!("{count} lines; {limit} are the limit: perhaps two rooms");
        findings.push(Finding::new(path, 0, message));
    }
    let mut may_be_unsafe = UNSAFE_ALLOWED.iter().any(|place| path.starts_with(place));
    for (index, line) in text.lines().enumerate() {
        let mut find = |message: &str| findings.push(Finding::new(path, index + 1, message));
        for (leftover, why) in LEFTOVERS {
            // The list itself is the one place where these words stand.
            if line.contains(leftover) && path != "xtask/src/tidy/source.rs" {
                find(why);
            }
        }
        let code = line.split("//").next().unwrap_or_default();
        if is_test(path) && code.contains("thread::sleep(") {
            find("sleeps in a test: wait for what is meant instead");
        }
        // Once per file is enough.
        if !may_be_unsafe && is_unsafe(code) {
            may_be_unsafe = true;
            find("`unsafe` outside the modules that may hold it (see tidy/source.rs)");
        }
    }
    findings
}

const LEFTOVERS: [(&str, &str); 8] = [
    ("todo!(", "unfinished code"),
    ("unimplemented!(", "unfinished code"),
    ("dbg!(", "a debug print"),
    ("#[ignore", "a test that does not run"),
    ("TODO", "a note to self: do it, or say it in PLAN.md"),
    ("FIXME", "a note to self: do it, or say it in PLAN.md"),
    ("XXX", "a note to self: do it, or say it in PLAN.md"),
    ("HACK", "a note to self: do it, or say it in PLAN.md"),
];

/// Whether a file holds tests only.
pub fn is_test(path: &str) -> bool {
    path.split('/').any(|part| part == "tests") || path.ends_with("tests.rs")
}

/// `unsafe` as a keyword that opens something, not as part of a lint's name or a sentence.
fn is_unsafe(code: &str) -> bool {
    const OPENS: [&str; 5] = ["{", "fn ", "impl ", "impl<", "extern "];
    code.match_indices("unsafe ").any(|(at, word)| {
        let before = code[..at].chars().next_back();
        let rest = &code[at + word.len()..];
        !before.is_some_and(|c| c.is_alphanumeric() || "_\"'`".contains(c))
            && OPENS.iter().any(|opener| rest.starts_with(opener))
    })
}

/// The directories above the checkout that would give its machine away, longest first.
pub fn private_places(root: &Path) -> Vec<String> {
    const SHARED_BY_MANY_MACHINES: [&str; 8] = [
        "/", "/tmp", "/var", "/opt", "/usr", "/srv", "/mnt", "/builds",
    ];
    let mut places: Vec<String> = root
        .ancestors()
        .map(|place| place.to_string_lossy().into_owned())
        .filter(|place| !SHARED_BY_MANY_MACHINES.contains(&place.as_str()))
        .collect();
    let homes = ["/ro", "/ho", "/Us"].iter().zip(["ot", "me", "ers"]);
    places.extend(homes.map(|(start, end)| format!("{start}{end}")));
    places
}

/// Checks that a file holds no absolute path of somebody's machine.
pub fn mentions_places(path: &str, text: &str, places: &[String]) -> Vec<Finding> {
    let mentions = |line: &str| {
        places.iter().any(|place| {
            line.match_indices(place.as_str()).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                let after = line[at + place.len()..].chars().next();
                // `https://example.org/home/x` and `node_modules/root/` are no absolute paths.
                !before.is_some_and(|c| c.is_alphanumeric() || "_-./~*}".contains(c))
                    && after == Some('/')
            })
        })
    };
    text.lines()
        .enumerate()
        .filter(|(_, line)| mentions(line))
        .map(|(index, _)| Finding::new(path, index + 1, "an absolute path of one machine"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, text: &str) -> Vec<String> {
        check(path, text).into_iter().map(|f| f.message).collect()
    }

    #[test]
    fn a_plain_file_is_fine() {
        assert!(check("a/src/lib.rs", "//! A room.\nfn f() {}\n").is_empty());
    }

    #[test]
    fn a_file_says_what_it_owns() {
        assert!(messages("a.rs", "fn f() {}\n")[0].contains("`//!`"));
        let readme = "#![doc = include_str!(\"../README.md\")]\n";
        assert!(check("a.rs", readme).is_empty());
    }

    #[test]
    fn a_long_file_is_told_with_its_length() {
        let text = format!("//! Long.\n{}", "fn f() {}\n".repeat(LONGEST_FILE));
        assert_eq!(
            messages("a.rs", &text),
            ["501 lines; 500 are the limit: perhaps two rooms"]
        );
    }

    #[test]
    fn leftovers_are_found_with_their_line() {
        for (leftover, why) in LEFTOVERS {
            let findings = check("a.rs", &format!("//! A.\n{leftover}\n"));
            assert_eq!(findings, [Finding::new("a.rs", 2, why)]);
        }
    }

    #[test]
    fn unsafe_code_is_found_and_talk_about_it_is_not() {
        for rest in ["{ f() }", "fn f()", "impl Send for A {}", "extern \"C\" {"] {
            let code = format!("unsafe {rest}");
            assert_eq!(messages("a/src/x.rs", &format!("//! A.\n{code}")).len(), 1);
        }
        for code in ["#![forbid(unsafe_code)]", "// unsafe {", "\"unsafe\""] {
            assert!(check("a/src/x.rs", &format!("//! A.\n{code}")).is_empty());
        }
        assert!(check("actor_rt/src/ring/spsc.rs", "//! A.\nunsafe { f() }").is_empty());
    }

    #[test]
    fn tests_do_not_sleep() {
        let text = "//! A.\nstd::thread::sleep(d);";
        assert_eq!(messages("tests/tests/a.rs", text).len(), 1);
        assert!(check("actor_rt/src/a.rs", text).is_empty());
    }

    #[test]
    fn paths_of_this_machine_are_found() {
        let places = private_places(Path::new("/mnt/disk/checkout"));
        let found = |line: &str| mentions_places("a", line, &places).len();
        assert_eq!(found("see /mnt/disk/other"), 1);
        assert_eq!(found("export X=\"/mnt/disk/checkout/y\""), 1);
        assert_eq!(found("/mnt/diskette/x"), 0);
        assert_eq!(found("https://example.org/mnt/disk/x"), 0);
        assert_eq!(found("/tmp/x /usr/include/y"), 0);
    }
}
