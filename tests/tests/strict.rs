//! `--sandbox strict`: nothing else is written, nobody else is signalled, nothing is left running; by each of the
//! kernel's ways, as whoever runs the tests and, when that is root, as somebody without rights.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use zako_tests::{Outcome, Project, Running, is_installed, may_run, until_so};

/// Namespaces, without those of processes, and neither.
const WAYS: [&str; 3] = ["", "mounts", "landlock"];
/// Somebody who owns nothing, where the tests are root's.
const NOBODY: u32 = 65534;

/// Who builds, and how steps are held.
#[derive(Clone, Copy, Debug)]
struct Case {
    way: &'static str,
    user: Option<u32>,
}

/// All that this kernel can do; it is said which it cannot.
fn cases() -> Vec<Case> {
    let is_root = fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
    let users: &[Option<u32>] = if is_root {
        &[None, Some(NOBODY)]
    } else {
        &[None]
    };
    let of = |way| users.iter().map(move |user| Case { way, user: *user });
    let all = WAYS.into_iter().flat_map(of);
    let (can, cannot): (Vec<Case>, Vec<Case>) = all.partition(|case| case.is_possible());
    for case in cannot {
        may_run(case.needs(), false);
    }
    can
}

impl Case {
    fn command(self, project: &Project, arguments: &[&str]) -> Command {
        let mut command = project.command(arguments);
        command.env("ZAKO_SANDBOX_BY", self.way);
        if let Some(user) = self.user {
            own(project.outside(), user);
            command.uid(user).gid(user);
        }
        command
    }

    fn zako(self, project: &Project, arguments: &[&str]) -> Outcome {
        Outcome::of(&mut self.command(project, arguments))
    }

    /// Whether this kernel can do it, by what others than zako find.
    fn is_possible(self) -> bool {
        let namespaces = match self.way {
            "" => "-Urmpf --mount-proc true",
            "mounts" => "-Urm true",
            _ => {
                let said = self.zako(&Project::new(), &["doctor"]).stdout;
                return said.contains("Landlock: files");
            }
        };
        let mut command = Command::new("unshare");
        command.args(namespaces.split(' ')).current_dir("/");
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        is_installed("unshare") && Outcome::of(&mut command).status.success()
    }

    /// What it is made of.
    fn needs(self) -> &'static str {
        match self.way {
            "" => "process namespaces",
            "mounts" => "user namespaces",
            _ => "Landlock",
        }
    }

    fn has_own_processes(self) -> bool {
        self.way.is_empty()
    }

    fn has_own_mounts(self) -> bool {
        self.way != "landlock"
    }
}

fn own(path: &Path, user: u32) {
    chown(path, Some(user), Some(user)).unwrap();
    let is_directory = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    if is_directory {
        let entries = fs::read_dir(path).unwrap();
        entries.for_each(|entry| own(&entry.unwrap().path(), user));
    }
}

/// A workspace whose step `s` is this shell script.
fn project(script: &str, more: &str) -> Project {
    let project = Project::new();
    project.write(
        "BUILD.ts",
        &format!(
            "import {{ target }} from \"zako:build\";\nexport default {{ s: target({{ cmd: [\"sh\", \"-c\", {script:?}], \
             outs: [\"out\"]{more} }}) }};\n"
        ),
    );
    project
}

const STRICT: [&str; 3] = ["build", "--sandbox", "strict"];

/// A number of seconds that no other process of this machine sleeps.
fn unique() -> String {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    format!("1{:08}{number:04}", std::process::id())
}

/// Whether a process runs that has `argument` among its own.
fn runs(argument: &str) -> bool {
    let entries = fs::read_dir("/proc").unwrap();
    entries.flatten().any(|entry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.starts_with(b"sleep\0")
            && line
                .split(|byte| *byte == 0)
                .any(|word| word == argument.as_bytes())
    })
}

#[test]
fn doctor_and_a_build_say_what_holds_steps() {
    for case in cases() {
        let words = match case.way {
            "" => "user namespaces with mounts and processes of their own",
            "mounts" => "no process namespaces here",
            _ => "UDP",
        };
        let project = project("echo > out", "");
        let doctor = case.zako(&project, &["doctor"]).succeeds().stdout;
        let build = case.zako(&project, &STRICT).succeeds().stderr;
        for said in [doctor, build] {
            assert!(said.contains(words), "{case:?}: {said}");
        }
    }
}

#[test]
fn shared_memory_and_temporary_files_of_others_are_neither_seen_nor_written() {
    for case in cases().into_iter().filter(|case| case.has_own_mounts()) {
        let name = format!("zako-test-{}-{}", std::process::id(), case.way);
        let script = format!(
            "ls /dev/shm /tmp > out; echo x > /dev/shm/{name} && echo x > /tmp/{name} && cat /dev/shm/{name} /tmp/{name} >> out"
        );
        let project = project(&script, "");
        let theirs = Path::new("/dev/shm").join(format!("{name}-theirs"));
        fs::write(&theirs, "").unwrap();
        case.zako(&project, &STRICT).succeeds();
        fs::remove_file(theirs).unwrap();
        let out = project.read("out");
        assert!(
            out.ends_with("x\nx\n") && !out.contains("theirs"),
            "{case:?}: {out}"
        );
        for dir in ["/dev/shm", "/tmp"] {
            assert!(!Path::new(dir).join(&name).exists(), "{case:?}: {dir}");
        }
    }
}

#[test]
fn control_groups_devices_and_settings_of_the_kernel_are_not_written() {
    for case in cases() {
        let project = project(
            "for f in /sys/fs/cgroup /sys/fs/cgroup/*/ /sys/kernel /proc/sys/kernel /dev /dev/pts /etc /usr /; do \
               mkdir $f/zako-test 2> /dev/null && echo $f; (: > $f/zako-test) 2> /dev/null && echo $f; done > out; \
             for f in /proc/sys/vm/swappiness /dev/[hsv]d[a-z] /dev/mem; do (: >> $f) 2> /dev/null && test -e $f && echo $f; done >> out; \
             true",
            "",
        );
        case.zako(&project, &STRICT).succeeds();
        assert_eq!(project.read("out"), "", "{case:?}");
    }
}

#[test]
fn what_is_written_beside_the_scratch_directory_is_refused_not_lost() {
    for case in cases() {
        let script =
            "(: > $ROOT/x) 2> /dev/null || (: > $ROOT/../x) 2> /dev/null || echo refused > out";
        let project = project("", "");
        let script = script.replace("$ROOT", &project.root().display().to_string());
        let text = project
            .read("BUILD.ts")
            .replace("\"\"", &format!("{script:?}"));
        project.write("BUILD.ts", &text);
        case.zako(&project, &STRICT).succeeds();
        assert_eq!(project.read("out"), "refused\n", "{case:?}");
    }
}

#[test]
fn what_is_mounted_below_a_system_directory_is_read_only_too() {
    for case in cases().into_iter().filter(|case| case.has_own_mounts()) {
        let project = project(
            "cat /opt/sub/deep/it > out; (: > /opt/sub/x) 2> /dev/null || (: > /opt/sub/deep/x) 2> /dev/null || \
             (: > '/opt/s p/x') 2> /dev/null || echo refused >> out",
            "",
        );
        // Mounts of its own, so that nobody else's /opt changes.
        let mounts = "mount -t tmpfs none /opt && mkdir /opt/sub '/opt/s p' && mount -t tmpfs -o nosuid,noexec none /opt/sub && \
                      mkdir /opt/sub/deep && mount -t tmpfs none /opt/sub/deep && echo it > /opt/sub/deep/it && \
                      mount -t tmpfs -o strictatime none '/opt/s p' && exec \"$0\" \"$@\"";
        let zako = case.command(&project, &STRICT);
        let mut command = Command::new("unshare");
        command
            .args(["-Urm", "sh", "-c", mounts])
            .arg(zako.get_program());
        command.args(zako.get_args()).current_dir(project.root());
        for (name, value) in zako.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(user) = case.user {
            command.uid(user).gid(user);
        }
        Outcome::of(&mut command).succeeds();
        assert_eq!(project.read("out"), "it\nrefused\n", "{case:?}");
    }
}

#[test]
fn other_processes_are_neither_seen_nor_signalled() {
    for case in cases().into_iter().filter(|case| case.has_own_processes()) {
        let me = std::process::id();
        let project = project(
            &format!(
                "kill -0 {me} 2> /dev/null && echo signalled > out; set -- /proc/[0-9]*; echo $# >> out; kill -0 $$ && echo $$ >> out"
            ),
            "",
        );
        case.zako(&project, &STRICT).succeeds();
        // The first process and the shell.
        assert_eq!(project.read("out"), "2\n2\n", "{case:?}");
    }
}

#[test]
fn the_end_of_a_command_is_told_as_it_was() {
    for case in cases() {
        for (script, told) in [
            ("exit 3", "exit status 3"),
            ("exit 137", "exit status 137"),
            ("kill -TERM $$", "killed by signal 15 (SIGTERM)"),
            ("kill -PIPE $$", "killed by signal 13 (SIGPIPE)"),
            ("kill -USR1 $$", "killed by signal 10 (SIGUSR1)"),
            ("kill -KILL 0", "killed by signal 9 (SIGKILL)"),
            ("kill -SEGV $$", "killed by signal 11 (SIGSEGV)"),
        ] {
            let project = project(
                &format!("ulimit -c 0; echo said; echo too >&2; {script}"),
                "",
            );
            case.zako(&project, &STRICT)
                .fails_saying(&[told, "said", "too"]);
        }
        let project = project("x", "");
        let text = project
            .read("BUILD.ts")
            .replace("\"sh\", \"-c\", \"x\"", "\"./none\"");
        project.write("BUILD.ts", &text);
        case.zako(&project, &STRICT).fails_saying(&["none"]);
    }
}

#[test]
fn what_left_its_group_and_wiped_its_environment_ends_with_its_step() {
    for case in cases().into_iter().filter(|case| case.has_own_processes()) {
        let mark = unique();
        let project = project(
            &format!(
                "setsid env -i sh -c 'echo > ready; exec sleep {mark}' & while [ ! -e ready ]; do :; done; echo > out"
            ),
            "",
        );
        case.zako(&project, &STRICT).succeeds();
        assert!(!runs(&mark), "{case:?}");
    }
}

#[test]
fn a_step_is_asked_to_end_before_it_is_killed() {
    for case in cases() {
        let project = project(
            "trap 'echo asked; exit 0' TERM; while :; do :; done",
            ", timeout: 1",
        );
        case.zako(&project, &STRICT)
            .fails_saying(&["asked", "its timeout"]);
    }
}

#[test]
fn nothing_is_left_when_zako_is_interrupted_or_killed() {
    for case in cases() {
        for signal in ["INT", "TERM", "KILL"] {
            let mark = unique();
            let script = format!("(trap '' TERM; sleep {mark}; :) & wait");
            let project = project(&script, "");
            let running = Running::start(&mut case.command(&project, &STRICT));
            until_so("the step does not start", || runs(&mark));
            running.signal(signal);
            assert!(!running.wait().status.success());
            if signal == "KILL" {
                // It is the guard that ends it, a moment later.
                until_so("it outlives zako", || !runs(&mark));
            }
            assert!(!runs(&mark), "{case:?} {signal}");
        }
    }
}

/// Packages of npm: `app` needs `core`, which is built, and `ui`, which is not; `other` is nobody's business.
fn packages(app_build: &str, settings: &str) -> Project {
    let project = Project::new();
    let manifest = project.read("zako.toml");
    project.write("zako.toml", &format!("{manifest}[settings]\n{settings}\n"));
    project.write(
        "package.json",
        r#"{"name": "acme", "workspaces": ["packages/*"]}"#,
    );
    project.write(".gitignore", "dist\nnode_modules\n");
    let package = |name: &str, more: &str| {
        let path = format!("packages/{name}/package.json");
        project.write(&path, &format!(r#"{{"name": "{name}", {more}}}"#));
        project.write(&format!("packages/{name}/src/s.txt"), name);
        project.write(&format!("packages/{name}/s.txt"), name);
    };
    package(
        "core",
        r#""scripts": {"build": "mkdir -p dist; cp src/s.txt dist"}"#,
    );
    package("ui", r#""scripts": {}"#);
    package("other", r#""scripts": {}"#);
    package(
        "app",
        &format!(
            r#""dependencies": {{"core": "*", "ui": "*"}}, "scripts": {{"build": {app_build:?}}}"#
        ),
    );
    project.write(
        "package-lock.json",
        r#"{"lockfileVersion": 3, "packages": {"": {}, "packages/app": {}, "packages/core": {}}}"#,
    );
    project.write("packages/core/tsconfig.json", "{}");
    project.write("node_modules/installed/index.js", "installed");
    project.write("packages/core/node_modules/deep/index.js", "deep");
    project.write("shared.txt", "shared");
    project.write("packages/base.txt", "base");
    project.write(".git/HEAD", "head");
    project
}

#[test]
fn a_script_of_a_package_reads_what_it_depends_on_and_writes_in_its_package() {
    let reads = [
        "src/s.txt",
        "../core/dist/s.txt",
        "../core/package.json",
        "../core/tsconfig.json",
        "../core/node_modules/deep/index.js",
        "../ui/src/s.txt",
        "../ui/s.txt",
        "../../node_modules/installed/index.js",
        "../../package-lock.json",
        "../base.txt",
    ];
    let hidden = [
        "../core/src/s.txt",
        "../core/s.txt",
        "../other/src/s.txt",
        "../other/package.json",
        "../../shared.txt",
        "../../.git/HEAD",
        "../../zako.toml",
        "../../../outside.txt",
    ];
    let unwritten = ["../core/dist", "../ui/src", "../..", "../../node_modules"];
    for case in cases() {
        let script = format!(
            "mkdir -p dist; for f in {}; do cat $f || exit 3; done; for f in {}; do cat $f 2> dist/said && exit 4; done; \
             for d in {}; do (: > $d/made) 2> dist/said && exit 5; done; echo > made; echo > $TMPDIR/made; echo done > dist/out",
            reads.join(" "),
            hidden.join(" "),
            unwritten.join(" "),
        );
        let project = packages(&script, "script-inputs = [\"packages/base.txt\"]");
        fs::write(project.outside().join("outside.txt"), "").unwrap();
        case.zako(&project, &STRICT).succeeds();
        assert_eq!(project.read("packages/app/dist/out"), "done\n", "{case:?}");
        assert!(project.has("packages/app/made"));

        // What it may not read it may be given, by a line that its failure names.
        let script = "mkdir -p dist; cat ../../shared.txt > dist/out";
        let project = packages(script, "");
        case.zako(&project, &STRICT)
            .fails_saying(&["//packages/app:build", "`script-inputs` in [settings]"]);
        let project = packages(script, "script-inputs = [\"shared.txt\"]");
        case.zako(&project, &STRICT).succeeds();
        assert_eq!(project.read("packages/app/dist/out"), "shared", "{case:?}");
    }
}

#[test]
fn a_yarn_that_looks_at_the_whole_project_finds_it() {
    let reads = "../../.yarnrc.yml ../../yarn.lock ../../.yarn/releases/yarn.cjs ../other/package.json ../../package.json";
    for case in cases() {
        let script = format!(
            "mkdir -p dist; for f in {reads}; do cat $f || exit 3; done; cat ../other/s.txt && exit 4; echo done > dist/out"
        );
        let project = packages(&script, "");
        project.write(".yarnrc.yml", "nodeLinker: node-modules\n");
        project.write("yarn.lock", "__metadata:\n  version: 8\n");
        project.write(".yarn/releases/yarn.cjs", "");
        case.zako(&project, &STRICT).succeeds();
        assert_eq!(project.read("packages/app/dist/out"), "done\n", "{case:?}");
    }
}

#[test]
fn a_script_of_the_root_sees_what_other_packages_are_made_of_and_nothing_that_is_zakos() {
    for case in cases() {
        let project = packages("mkdir -p dist; echo app > dist/out", "");
        let script = "mkdir -p dist && cat shared.txt packages/core/src/s.txt packages/core/package.json && echo new >> shared.txt && \
                      for f in packages/app/dist/out .git/HEAD .zako/CACHEDIR.TAG; do cat $f 2> dist/said && exit 4; done; \
                      (: > packages/core/made) 2> dist/said && exit 5; (: > .zako/made) 2> dist/said && exit 5; echo done > dist/out";
        project.write(
            "package.json",
            &format!(
                r#"{{"name": "acme", "workspaces": ["packages/*"], "scripts": {{"build": {script:?}}}}}"#
            ),
        );
        case.zako(&project, &["build", "--sandbox", "strict", "//:build"])
            .succeeds();
        assert_eq!(project.read("dist/out"), "done\n", "{case:?}");
        assert_eq!(project.read("shared.txt"), "sharednew\n");
        for kept in [".git/HEAD", "packages/core/src/s.txt"] {
            assert!(project.has(kept), "{case:?}: {kept}");
        }
    }
}

#[test]
fn what_has_no_network_talks_to_itself_on_localhost() {
    if !is_installed("node") {
        return;
    }
    // A device that is up has an address that can be bound to, and one that is down none.
    let script = "node -e \"const { createServer, connect } = require('net'); const server = createServer((them) => them.end('heard')); \
                  server.listen(0, '127.0.0.1', () => connect(server.address().port, '127.0.0.1').on('data', (text) => { \
                  require('fs').writeFileSync('out', text); process.exit(); }).on('error', (error) => { throw error; }))\"";
    for case in cases() {
        let project = project(script, "");
        let built = case.zako(&project, &STRICT);
        if case.has_own_mounts() {
            built.succeeds();
            assert_eq!(project.read("out"), "heard", "{case:?}");
        } else {
            // Landlock closes TCP by ports, wherever they are.
            built.fails_saying(&["EACCES"]);
        }
    }
}

#[test]
fn a_script_reaches_the_network_only_where_the_manifest_opens_it() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let script =
        format!("mkdir -p dist; bash -c ': < /dev/tcp/127.0.0.1/{port}'; echo $? > dist/out");
    let reached = |case: Case, settings: &str| {
        let project = packages(&script, settings);
        case.zako(&project, &STRICT).succeeds();
        project.read("packages/app/dist/out") == "0\n"
    };
    for case in cases() {
        assert!(!reached(case, ""), "{case:?}");
        assert!(!reached(case, "script-network = [\"core#build\"]"));
        for named in ["build", "app#build"] {
            let line = format!("script-network = [\"{named}\"]");
            assert!(reached(case, &line), "{case:?}: {named}");
        }
    }
    let project = packages("true", "script-network = [\"app#biuld\"]");
    project
        .zako(&["build"])
        .fails_saying(&["`script-network`", "did you mean `app#build`"]);
}

#[test]
fn the_environment_says_how_strict_a_build_is_unless_a_flag_does() {
    let project = Project::new();
    let secret = project.outside().join("secret");
    fs::write(&secret, "x").unwrap();
    project.write(
        "BUILD.ts",
        &format!(
            "import {{ target }} from \"zako:build\";\nexport default {{ t: target({{ cmd: [\"cp\", \"{}\", \"out\"], outs: [\"out\"] }}) }};\n",
            secret.display()
        ),
    );
    let build = |arguments: &[&str]| {
        let mut command = project.command(arguments);
        Outcome::of(command.env("ZAKO_SANDBOX", "strict"))
    };
    build(&["build"]).fails_saying(&["//:t", "secret"]);
    build(&["build", "--sandbox", "off"]).succeeds();
}
