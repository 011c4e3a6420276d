//! What `warn` saw: the lines of strace.
//!
//! Owns their reading. Does not know who started it, nor what is declared.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::programs::normal;

/// Calls that open or execute a file.
const OPENS: [&str; 4] = ["open(", "openat(", "openat2(", "execve("];
/// Calls that only ask for one, as programs do before they open it.
const ASKS: [&str; 6] = [
    "stat(",
    "statat(",
    "statx(",
    "access(",
    "faccessat(",
    "faccessat2(",
];

/// Files of the workspace at `root`, outside `scratch`, that the trace of a command begun in `cwd` shows
/// as opened or executed, those left out that it made itself before. With those that it looked for below `top`, the mirror of the
/// workspace in there, and did not find, though the workspace has them.
pub fn undeclared(
    trace: &str,
    root: &Path,
    (scratch, top): (&Path, &Path),
    cwd: &Path,
) -> BTreeSet<String> {
    let mut made = BTreeSet::new();
    let mut read = BTreeSet::new();
    for line in trace.lines() {
        let is = |calls: &[&str]| calls.iter().any(|call| line.contains(call));
        let missed = top != root && line.contains(" = -1 ENOENT");
        if (line.contains(" = -1 ") && !missed) || line.contains("O_DIRECTORY") {
            continue;
        }
        let renames = !missed && is(&["rename(", "renameat(", "renameat2("]);
        let wants = is(&OPENS) || (missed && is(&ASKS));
        if !renames && !wants {
            continue;
        }
        let Some((begin, path)) = quoted(line).nth(usize::from(renames)) else {
            continue;
        };
        let base = base(&line[..begin]).unwrap_or_else(|| cwd.to_owned());
        let path = normal(&base.join(path));
        if missed {
            let below = path.strip_prefix(top).ok();
            let below = below.filter(|below| root.join(below).is_file());
            read.extend(below.and_then(Path::to_str).map(str::to_owned));
        } else if renames || is(&["O_CREAT", "O_WRONLY"]) {
            made.insert(path);
        } else if !path.starts_with(scratch) && !made.contains(&path) && path.is_file() {
            let below = path.strip_prefix(root).ok().and_then(Path::to_str);
            read.extend(below.map(str::to_owned));
        }
    }
    read
}

/// The paths in quotation marks, each with where it begins.
fn quoted(line: &str) -> impl Iterator<Item = (usize, PathBuf)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let begin = at + line[at..].find('"')?;
        let (path, length) = written(&line[begin + 1..], b'"');
        at = (begin + 1 + length + 1).min(line.len());
        Some((begin, path))
    })
}

/// The directory that a path is meant from, which strace writes `before` it: `AT_FDCWD</a/b>, `.
fn base(before: &str) -> Option<PathBuf> {
    let at = before.strip_suffix(">, ")?.rfind('<')?;
    Some(written(&before[at + 1..], b'>').0)
}

/// The path that `text` begins with, up to `end`, and its length there: what is no plain ASCII is written as in C.
fn written(text: &str, end: u8) -> (PathBuf, usize) {
    let bytes = text.as_bytes();
    let (mut path, mut at) = (Vec::new(), 0);
    while let Some(&byte) = bytes.get(at).filter(|byte| **byte != end) {
        at += 1;
        if byte != b'\\' {
            path.push(byte);
            continue;
        }
        let digits = bytes[at..].iter().take(3);
        let digits = digits
            .take_while(|byte| matches!(byte, b'0'..=b'7'))
            .count();
        if let Ok(code) = u8::from_str_radix(&text[at..at + digits], 8) {
            path.push(code);
            at += digits;
        } else if let Some(&letter) = bytes.get(at) {
            path.push(match letter {
                b'n' => b'\n',
                b't' => b'\t',
                b'v' => 0x0b,
                b'f' => 0x0c,
                b'r' => b'\r',
                other => other,
            });
            at += 1;
        }
    }
    (OsString::from_vec(path).into(), at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_tells_what_was_read_undeclared() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for name in [
            "secret.h",
            "other.h",
            "made.h",
            "moved.h",
            "hidden.h",
            "sub/deep.h",
            "sub/größe \"1\".h",
        ] {
            std::fs::create_dir_all(root.join("sub")).unwrap();
            std::fs::write(root.join(name), "").unwrap();
        }
        let scratch = root.join(".zako/scratch/1");
        let cwd = scratch.join("work");
        let trace = format!(
            "12 openat(AT_FDCWD, \"{0}/secret.h\", O_RDONLY) = 3\n12 openat(AT_FDCWD, \"{0}/none.h\", O_RDONLY) = -1 ENOENT\n\
             12 openat(AT_FDCWD, \"../../../../other.h\", O_RDONLY) = 3\n12 openat(AT_FDCWD, \"a.c\", O_RDONLY) = 3\n\
             12 openat(AT_FDCWD, \"/usr/include/stdio.h\", O_RDONLY) = 3\n\
             12 newfstatat(AT_FDCWD, \"hidden.h\", 0x7ff0, 0) = -1 ENOENT (No such file or directory)\n\
             12 openat(AT_FDCWD, \"sub\", O_RDONLY) = -1 ENOENT (No such file or directory)\n\
             12 rename(\"moved.h\", \"other.h\") = -1 ENOENT (No such file or directory)\n\
             13 openat(AT_FDCWD<{0}/sub>, \"deep.h\", O_RDONLY) = 3<{0}/sub/deep.h>\n\
             13 openat(AT_FDCWD<{0}/sub>, \"gr\\303\\266\\303\\237e \\\"1\\\".h\", O_RDONLY) = 3\n\
             13 openat(AT_FDCWD<{0}>, \"made.h\", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 3<{0}/made.h>\n\
             13 openat(AT_FDCWD<{0}>, \"made.h\", O_RDONLY) = 3<{0}/made.h>\n\
             13 renameat2(AT_FDCWD<{0}>, \"x\", AT_FDCWD<{0}>, \"moved.h\", 0) = 0\n\
             13 openat(AT_FDCWD<{0}>, \"moved.h\", O_RDONLY) = 3<{0}/moved.h>\n",
            root.display()
        );
        let found = undeclared(&trace, root, (&scratch, &cwd), &cwd);
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            [
                "hidden.h",
                "other.h",
                "secret.h",
                "sub/deep.h",
                "sub/größe \"1\".h"
            ]
        );
        // Whoever runs in the workspace itself misses nothing that is there.
        let script = undeclared(&trace, root, (&scratch, root), root);
        assert!(!script.contains("hidden.h"), "{script:?}");
    }

    #[test]
    fn paths_are_read_as_they_are_written() {
        let read = |text: &str| {
            let (path, length) = written(text, b'"');
            (path.into_os_string().into_vec(), length)
        };
        assert_eq!(read("a b\" c"), (b"a b".to_vec(), 3));
        assert_eq!(read(r#"\t\\\7\0018\""#), (b"\t\\\x07\x018\"".to_vec(), 13));
        assert_eq!(read(r"\377 \"), (b"\xff ".to_vec(), 6));
    }
}
