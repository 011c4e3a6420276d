//! What of permissions counts, and that of whoever builds nothing else does.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::Command;

use zako_tests::{Outcome, Project, may_run, zako};

const NOBODY: u32 = 65_534;

/// Calls zako in the workspace as a shell does that has this umask.
fn with_umask(project: &Project, umask: &str, arguments: &str) -> Outcome {
    let script = format!("umask {umask}; exec \"$ZAKO\" {arguments}");
    Outcome::of(&mut project.shell(&script)).succeeds()
}

fn mode(project: &Project, path: &str) -> u32 {
    let found = fs::symlink_metadata(project.root().join(path));
    found.unwrap().mode() & 0o7777
}

#[test]
fn the_umask_of_whoever_builds_is_no_part_of_a_result() {
    let project = Project::with_build(
        r#"
import { target, transpile } from "zako:build";
export default {
  step: target({
    cmd: ["sh", "-ec", "umask > seen; ls -l in.txt | cut -c1-10 >> seen; ls -ld . $HOME $TMPDIR | cut -c1-10 >> seen; mkdir -p d; echo x > d/x"],
    srcs: ["in.txt"], outs: ["seen", "d/"],
  }),
  js: transpile({ srcs: ["a.ts"], out: "." }),
};
"#,
    );
    project.write("a.ts", "export const a: number = 1;\n");
    project.write("package.json", r#"{ "name": "w", "workspaces": ["p"] }"#);
    project.write(
        "p/package.json",
        r#"{ "name": "p", "scripts": { "build": "umask > mask.txt; echo x > made.txt" } }"#,
    );
    project.write(
        "zako.toml",
        &format!(
            "{}[tasks.build]\noutputs = [\"m*.txt\"]\n",
            project.read("zako.toml")
        ),
    );
    // What a shell of this umask leaves, and may see.
    let left = |umask: &str| {
        let files = ["seen", "d/x", "p/mask.txt", "p/made.txt", "a.js"];
        for path in files {
            // Not there the first time.
            let _ = fs::remove_file(project.root().join(path));
        }
        let _ = fs::remove_dir_all(project.cache());
        // What somebody has checked out under that umask.
        let all = 0o666 & !u32::from_str_radix(umask, 8).unwrap();
        project.write("in.txt", "in\n");
        let input = project.root().join("in.txt");
        fs::set_permissions(&input, fs::Permissions::from_mode(all)).unwrap();
        with_umask(&project, umask, "build //...");
        let again = with_umask(&project, umask, "build //...").text();
        assert!(again.contains("up to date"), "{again}");
        let modes = files.map(|path| mode(&project, path));
        (project.read("seen"), project.read("p/mask.txt"), modes)
    };
    let usual = left("022");
    assert!(
        usual.0.starts_with("0022\n-rw-r--r--\ndrwxr-xr-x\n"),
        "{usual:?}"
    );
    assert_eq!(usual.2, [0o644; 5]);
    for umask in ["077", "002", "000"] {
        assert_eq!(left(umask), usual, "{umask}");
    }
    // What nobody shares stays as hidden as whoever builds wants it.
    left("077");
    assert_eq!(mode(&project, ".zako"), 0o700);
}

#[test]
fn of_permissions_only_that_of_running_it_is_kept() {
    let project = Project::with_build(
        r#"
import { target } from "zako:build";
export default {
  all: target({
    cmd: ["sh", "-ec", "for f in secret locked open tool; do echo $f > $f; done; chmod 600 secret; chmod 444 locked; chmod 666 open; chmod 4755 tool; echo ran >> $RAN"],
    outs: ["secret", "locked", "open", "tool"],
  }),
};
"#,
    );
    let files = ["secret", "locked", "open", "tool"];
    let modes = || files.map(|path| mode(&project, path));
    project.build();
    let ran = modes();
    assert_eq!(ran, [0o644, 0o644, 0o644, 0o755]);
    for file in files {
        fs::remove_file(project.root().join(file)).unwrap();
    }
    project.build();
    assert_eq!(modes(), ran, "restored");
    assert_eq!(project.ran().len(), 1);
}

#[test]
fn directories_that_a_step_leaves_read_only_are_taken_and_removed() {
    let project = Project::with_build(
        r#"
import { target } from "zako:build";
export default {
  tree: target({
    cmd: ["sh", "-ec", "mkdir -p d/deep left/deep; echo x > d/deep/x; echo y > left/deep/y; chmod -R a-w d left"],
    outs: ["d/"],
  }),
};
"#,
    );
    let mut command = project.command(&["build"]);
    if fs::metadata(project.root()).unwrap().uid() == 0 {
        // Permissions do not bind root: be somebody else, with a binary that they can reach.
        let binary = project.outside().join("zako");
        fs::copy(zako(), &binary).unwrap();
        for path in ["", "BUILD.ts", "zako.toml"] {
            chown(project.root().join(path), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        fs::set_permissions(project.outside(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut probe = Command::new("true");
        if !may_run("another user", probe.uid(NOBODY).status().is_ok()) {
            return;
        }
        command = Command::new(binary);
        command
            .arg("build")
            .current_dir(project.root())
            .uid(NOBODY)
            .gid(NOBODY);
    }
    let said = Outcome::of(&mut command).succeeds();
    assert!(!said.text().contains("cannot remove"), "{}", said.text());
    assert_eq!(project.read("d/deep/x"), "x\n");
    let left = fs::read_dir(project.cache().join("scratch")).unwrap();
    assert_eq!(left.count(), 0);
}
