//! `@FILE` on the command line: more arguments, one a line.
//!
//! Owns the expansion. Does not know what the arguments mean.
//! Invariants: `@pkg//path:name` is a label and `@~1` a commit, never a file; files that name each other are refused.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

/// Files within files.
const DEEPEST: usize = 8;

/// `arguments` with every `@FILE` replaced by that file's lines. Empty lines and lines that begin
/// with `#` are left out; nothing after `--` is touched.
///
/// # Errors
/// When a file cannot be read, or they name each other.
pub fn expand(arguments: impl IntoIterator<Item = OsString>) -> Result<Vec<OsString>, String> {
    let mut expanded = Vec::new();
    let mut rest = arguments.into_iter();
    for argument in rest.by_ref() {
        if argument == "--" {
            expanded.push(argument);
            break;
        }
        add(argument, &mut expanded, &mut Vec::new())?;
    }
    expanded.extend(rest);
    Ok(expanded)
}

fn add(
    argument: OsString,
    expanded: &mut Vec<OsString>,
    within: &mut Vec<PathBuf>,
) -> Result<(), String> {
    let file = argument
        .to_str()
        .and_then(|text| text.strip_prefix('@'))
        .filter(|name| !name.is_empty() && !name.contains("//"))
        // As git writes commits: `@{1 day ago}`, `@~2`.
        .filter(|name| !name.starts_with(['{', '~', '^']));
    let Some(file) = file else {
        expanded.push(argument);
        return Ok(());
    };
    let path = PathBuf::from(file);
    if within.contains(&path) || within.len() >= DEEPEST {
        return Err(format!("@{file} leads back to itself"));
    }
    let text = fs::read_to_string(&path)
        .map_err(|error| format!("cannot read the arguments in @{file}: {error}"))?;
    within.push(path);
    for line in text.lines().map(str::trim) {
        if !line.is_empty() && !line.starts_with('#') {
            add(line.into(), expanded, within)?;
        }
    }
    within.pop();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(arguments: &[&str]) -> Result<Vec<String>, String> {
        let all = expand(arguments.iter().map(OsString::from))?;
        Ok(all.into_iter().map(|a| a.into_string().unwrap()).collect())
    }

    #[test]
    fn files_are_lines_of_arguments_and_labels_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        fs::write(&one, format!("# all of it\n-j\n4\n\n@{}\n", two.display())).unwrap();
        fs::write(&two, "  //a:b \n").unwrap();
        let at = format!("@{}", one.display());
        assert_eq!(
            expanded(&["zako", "build", &at, "@rx//a:b", "@{1 day ago}", "--", &at]).unwrap(),
            [
                "zako",
                "build",
                "-j",
                "4",
                "//a:b",
                "@rx//a:b",
                "@{1 day ago}",
                "--",
                &at
            ]
        );
        fs::write(&two, &at).unwrap();
        assert!(
            expanded(&[&at])
                .unwrap_err()
                .contains("leads back to itself")
        );
        assert!(
            expanded(&["@/no/such"])
                .unwrap_err()
                .contains("cannot read")
        );
    }
}
