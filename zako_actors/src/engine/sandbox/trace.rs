//! What `warn` saw: the lines of strace.
//!
//! Owns their reading. Does not know who started it, nor what is declared.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// Files of the workspace at `root`, outside `scratch`, that the trace of a command begun in `cwd` shows
/// as opened or executed, those left out that it made itself before.
pub fn undeclared(trace: &str, root: &Path, scratch: &Path, cwd: &Path) -> BTreeSet<String> {
    let mut made = BTreeSet::new();
    let mut read = BTreeSet::new();
    for line in trace.lines() {
        let is = |calls: &[&str]| calls.iter().any(|call| line.contains(call));
        if line.contains(" = -1 ") || line.contains("O_DIRECTORY") {
            continue;
        }
        let renames = is(&["rename(", "renameat(", "renameat2("]);
        if !renames && !is(&["open(", "openat(", "openat2(", "execve("]) {
            continue;
        }
        let mut quoted = line.split('"');
        let Some(path) = quoted.nth(if renames { 3 } else { 1 }) else {
            continue;
        };
        let base = base(line, path).unwrap_or(cwd);
        let path = normal(&base.join(path));
        if renames || is(&["O_CREAT", "O_WRONLY"]) {
            made.insert(path);
        } else if !path.starts_with(scratch) && !made.contains(&path) && path.is_file() {
            let below = path.strip_prefix(root).ok().and_then(Path::to_str);
            read.extend(below.map(str::to_owned));
        }
    }
    read
}

/// The directory that `path` is meant from, which strace writes before it: `AT_FDCWD</a/b>, "path"`.
fn base<'a>(line: &'a str, path: &str) -> Option<&'a Path> {
    let at = line.find(&format!("\"{path}\""))?;
    let before = line[..at].strip_suffix(">, ")?;
    Some(Path::new(before.rsplit_once('<')?.1))
}

/// `path` without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(normal.pop()),
            part => normal.push(part),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_tells_what_was_read_undeclared() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for name in ["secret.h", "other.h", "made.h", "moved.h", "sub/deep.h"] {
            std::fs::create_dir_all(root.join("sub")).unwrap();
            std::fs::write(root.join(name), "").unwrap();
        }
        let scratch = root.join(".zako/scratch/1");
        let cwd = scratch.join("work");
        let trace = format!(
            "12 openat(AT_FDCWD, \"{0}/secret.h\", O_RDONLY) = 3\n12 openat(AT_FDCWD, \"{0}/none.h\", O_RDONLY) = -1 ENOENT\n\
             12 openat(AT_FDCWD, \"../../../../other.h\", O_RDONLY) = 3\n12 openat(AT_FDCWD, \"a.c\", O_RDONLY) = 3\n\
             12 openat(AT_FDCWD, \"/usr/include/stdio.h\", O_RDONLY) = 3\n\
             13 openat(AT_FDCWD<{0}/sub>, \"deep.h\", O_RDONLY) = 3<{0}/sub/deep.h>\n\
             13 openat(AT_FDCWD<{0}>, \"made.h\", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 3<{0}/made.h>\n\
             13 openat(AT_FDCWD<{0}>, \"made.h\", O_RDONLY) = 3<{0}/made.h>\n\
             13 renameat2(AT_FDCWD<{0}>, \"x\", AT_FDCWD<{0}>, \"moved.h\", 0) = 0\n\
             13 openat(AT_FDCWD<{0}>, \"moved.h\", O_RDONLY) = 3<{0}/moved.h>\n",
            root.display()
        );
        let found = undeclared(&trace, root, &scratch, &cwd);
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            ["other.h", "secret.h", "sub/deep.h"]
        );
    }
}
