//! Packages from elsewhere: archives, npm and git; fetched once, locked, and not to be trusted.

use std::fs;
use std::process::Command;

use zako_tests::archive::{Entry, integrity, tar, tar_gz, zip};
use zako_tests::{Answer, Project, Web, is_installed, succeed};

const HEAD: &str = "group = \"test\"\nartifact = \"project\"\nversion = \"1.0.0\"\n";

/// What the package `lib` says of itself.
const BUILD: &str = "import { target } from \"zako:build\";\nexport default { up: target({ cmd: [\"sh\", \"-c\", \
     \"tr a-z A-Z < text.txt > up.txt\"], srcs: [\"text.txt\"], outs: [\"up.txt\"] }) };\n";

/// A workspace that declares these packages and copies `up.txt` of `lib`.
fn project(dependencies: &str) -> Project {
    let project = Project::new();
    declare(&project, dependencies);
    project.write(
        "BUILD.ts",
        "import { target } from \"zako:build\";\nexport default { copy: target({ cmd: [\"cp\", \
         \".zako/packages/lib/up.txt\", \"out.txt\"], deps: [\"@lib//:up\"], outs: [\"out.txt\"] }) };\n",
    );
    project
}

fn declare(project: &Project, dependencies: &str) {
    project.write(
        "zako.toml",
        &format!("{HEAD}[dependencies]\n{dependencies}\n"),
    );
}

fn library(text: &str) -> Vec<u8> {
    tar_gz(&[
        Entry::File("lib-1/BUILD.ts", BUILD),
        Entry::File("lib-1/text.txt", text),
    ])
}

/// Everything that zako made is gone but the lock file, and what lies in a cache elsewhere.
fn forget(project: &Project) {
    fs::remove_dir_all(project.root().join(".zako")).unwrap();
    let _ = fs::remove_file(project.root().join("out.txt"));
}

#[test]
fn an_archive_is_fetched_once_and_then_nobody_is_asked() {
    let web = Web::new();
    let archive = library("text");
    web.answer("/lib.tgz", Answer::Body(archive.clone()));
    web.answer("/moved.tgz", Answer::To("/lib.tgz".to_owned()));
    let digest = integrity("sha256", &archive);
    let project = project(&format!(
        "lib = {{ url = \"{}\", integrity = \"{digest}\" }}",
        web.url("/moved.tgz")
    ));
    let cache = project.outside().join("cache");
    let build = |arguments: &[&str]| {
        let mut command = project.command(&["build"]);
        command.args(arguments).env("ZAKO_CACHE_DIR", &cache);
        zako_tests::Outcome::of(&mut command)
    };
    build(&["--locked"]).fails_saying(&[
        "zako.toml:5:7",
        "zako.lock does not know this package",
        "without --locked",
    ]);
    assert_eq!(web.asked(), []);

    let said = build(&[]).succeeds();
    assert!(said.text().contains("fetching lib from"), "{}", said.text());
    assert_eq!(project.read("out.txt"), "TEXT");
    let asked: Vec<String> = web.asked().into_iter().map(|(path, _)| path).collect();
    assert_eq!(asked, ["/moved.tgz", "/lib.tgz"]);
    let lock = project.read("zako.lock");
    assert!(
        lock.contains("[package.\"lib\"]") && lock.contains("sha256-"),
        "{lock}"
    );

    // Nothing to do; then out of the store; and the lock file stays as it is.
    build(&["--locked"]).succeeds();
    forget(&project);
    build(&["--locked"]).succeeds();
    assert_eq!(project.read("out.txt"), "TEXT");
    assert_eq!(web.asked(), []);
    assert_eq!(project.read("zako.lock"), lock);

    // Editors know its targets by the name that build files use.
    project.zako(&["types"]).succeeds();
    let types = project.read(".zako/types/zako.d.ts");
    assert!(
        types.contains("\"@lib//:up\"") && !types.contains(".zako/packages"),
        "{types}"
    );
    build(&["@lib//:up"]).succeeds();

    // What is declared no more is there no more.
    declare(&project, "");
    project.write("BUILD.ts", "export default {};\n");
    build(&["--locked"]).fails_saying(&["knows packages that zako.toml does not declare", "lib"]);
    build(&[]).succeeds();
    assert!(!project.has(".zako/packages/lib"));
    assert!(!project.read("zako.lock").contains("lib"));
}

#[test]
fn what_is_not_what_it_was_is_refused_until_it_is_asked_for() {
    let web = Web::new();
    let (old, new) = (library("old"), library("new"));
    web.answer("/lib.tgz", Answer::Body(old.clone()));
    let entry = |digest: &str| {
        format!(
            "lib = {{ url = \"{}\", integrity = \"{digest}\" }}",
            web.url("/lib.tgz")
        )
    };
    let project = project(&entry(&integrity("sha512", &old)));
    project.build();
    let lock = project.read("zako.lock");

    web.answer("/lib.tgz", Answer::Body(new.clone()));
    project.build();
    forget(&project);
    project.zako(&["build"]).fails_saying(&[
        "zako.toml:5:7",
        "package `lib`",
        "has the digest sha512-",
        "but zako.toml says sha512-",
    ]);
    assert_eq!(project.read("zako.lock"), lock);
    assert!(!project.has(".zako/packages/lib"));

    // Without a digest in the manifest the lock file remembers it.
    fs::write(project.root().join("lib.tgz"), &old).unwrap();
    declare(&project, "lib = { url = \"file:lib.tgz\" }");
    project.build();
    fs::write(project.root().join("lib.tgz"), &new).unwrap();
    for is_laid_out in [true, false] {
        project.zako(&["build"]).fails_saying(&[
            "is not what it was",
            "zako.lock says sha256-",
            "zako build --update-lock",
        ]);
        if is_laid_out {
            assert_eq!(project.read("out.txt"), "OLD");
            forget(&project);
        }
    }
    project
        .zako(&["build", "--update-lock=other"])
        .fails_saying(&["no package `other` to fetch"]);
    project.zako(&["build", "--update-lock"]).succeeds();
    assert_eq!(project.read("out.txt"), "NEW");

    // One that was unpacked and damaged is not what the lock file says; nor is a lock file that was.
    fs::remove_file(project.root().join(".zako/packages/.known/lib")).unwrap();
    project.build();
    project.write(
        "zako.lock",
        &project.read("zako.lock").replace("blake3-", "blake4-"),
    );
    project.zako(&["build"]).fails_saying(&[
        "zako.lock:8:8",
        "expected blake3-HASH/SIZE",
        "take it from version control",
    ]);
}

#[test]
fn archives_of_strangers_stay_in_their_place() {
    let project = project("lib = { url = \"file:lib\" }");
    let secret = project.outside().join("secret");
    fs::write(&secret, "before").unwrap();
    let outside = secret.to_str().unwrap();
    for (entries, word) in [
        (
            vec![Entry::File("../secret", "x")],
            "`../secret` leaves the archive",
        ),
        (
            vec![Entry::File("a/../../secret", "x")],
            "leaves the archive",
        ),
        (vec![Entry::File(outside, "x")], "is absolute"),
        (
            vec![Entry::Link("a", "../../..")],
            "is a link that leaves the archive",
        ),
        (
            vec![Entry::Link("a", outside)],
            "is a link that leaves the archive",
        ),
        (
            vec![Entry::Link("a", "b"), Entry::Link("b", "a")],
            "turns in a circle",
        ),
        (
            vec![Entry::Link("a", ".."), Entry::File("a/secret", "x")],
            "leaves the archive",
        ),
        (
            vec![
                Entry::Link("a", "b"),
                Entry::File("b/x", "x"),
                Entry::File("a/x", "x"),
            ],
            "is a link and something else",
        ),
        // A directory that is a link one level up has another `..`.
        (
            vec![
                Entry::File("x/y/z", ""),
                Entry::Link("x/y/top", "../.."),
                Entry::Link("e", "x/y/top/../secret"),
            ],
            "is a link that leaves the archive",
        ),
        (vec![Entry::Same("a", "../secret")], "leaves the archive"),
        (
            vec![Entry::Same("a", "b")],
            "a file that did not come before it",
        ),
        (
            vec![Entry::File("a", "x"), Entry::File("a/b", "x")],
            "a directory and a file",
        ),
        (vec![Entry::File("a\\..\\b", "x")], "is no name of a file"),
    ] {
        fs::write(project.root().join("lib"), tar(&entries)).unwrap();
        project
            .zako(&["build"])
            .fails_saying(&["zako.toml:5:7", "package `lib`", word]);
        assert!(
            !project.has(".zako/packages/lib") && !project.has(".zako/packages/.new"),
            "{entries:?}"
        );
        assert!(!project.has("zako.lock"), "{entries:?}");
    }
    fs::write(project.root().join("lib"), zip(&[("../secret", "x")])).unwrap();
    project
        .zako(&["build"])
        .fails_saying(&["`../secret` leaves the archive"]);
    assert_eq!(fs::read_to_string(secret).unwrap(), "before");

    // Links that stay are kept, programs can be run, and a later file replaces an earlier one.
    let good = tar(&[
        Entry::File("top/BUILD.ts", &BUILD.replace("tr a-z", "./bin/run a-z")),
        Entry::Program("top/tool/run", "#!/bin/sh\nexec tr \"$@\"\n"),
        Entry::Link("top/bin", "tool"),
        Entry::File("top/text.txt", "one"),
        Entry::File("./top//text.txt", "two"),
        Entry::Same("top/copy.txt", "top/text.txt"),
    ]);
    fs::write(project.root().join("lib"), good).unwrap();
    let with_tool = project.zako(&["build"]);
    // The step declares neither link nor program.
    with_tool.fails_saying(&["@lib//:up", "not found"]);
    assert_eq!(project.read(".zako/packages/lib/copy.txt"), "two");
    assert_eq!(
        project.read(".zako/packages/lib/bin/run"),
        "#!/bin/sh\nexec tr \"$@\"\n"
    );
    succeed(
        Command::new(project.root().join(".zako/packages/lib/bin/run"))
            .args(["a", "b"])
            .stdin(std::process::Stdio::null()),
    );
}

#[test]
fn what_is_too_much_is_refused_while_it_comes() {
    let zeros = "0".repeat(3 << 20);
    let bomb = tar_gz(&[Entry::File("a", &zeros)]);
    assert!(bomb.len() < 20_000);
    let web = Web::new();
    web.answer("/bomb", Answer::Body(bomb.clone()));
    let project = project("");
    let limits = |entry: &str, limits: &str| {
        project.write(
            "zako.toml",
            &format!("{HEAD}[dependencies]\nlib = {entry}\n[settings.packages]\n{limits}\n"),
        );
        project.zako(&["build"])
    };
    fs::write(project.root().join("bomb"), &bomb).unwrap();
    limits("{ url = \"file:bomb\" }", "max-size = \"2m\"").fails_saying(&[
        "more than 2097152 bytes",
        "`max-size` in [settings.packages]",
    ]);
    fs::write(
        project.root().join("many"),
        zip(&[("a", ""), ("b", ""), ("c", "")]),
    )
    .unwrap();
    limits("{ url = \"file:many\" }", "max-files = 2")
        .fails_saying(&["more than 2 files", "`max-files`"]);
    let entry = format!(
        "{{ url = \"{}\", integrity = \"{}\" }}",
        web.url("/bomb"),
        integrity("sha256", &bomb)
    );
    limits(&entry, "max-download = \"1k\"")
        .fails_saying(&["is larger than 1024 bytes", "`max-download`"]);
    limits(&entry, "max-download = \"much\"")
        .fails_saying(&["zako.toml:7:16", "`much` is no size"]);
    assert!(!project.has(".zako/packages/lib"));
}

#[test]
fn servers_that_fail_are_asked_again_and_then_named() {
    let web = Web::new();
    let digest = integrity("sha256", b"x");
    let entry = |path: &str| {
        format!(
            "lib = {{ url = \"{}\", integrity = \"{digest}\" }}",
            web.url(path)
        )
    };
    web.answer("/down", Answer::Status(503));
    web.answer("/round", Answer::To("/round".to_owned()));
    web.answer("/away", Answer::To("ftp://example.org/x".to_owned()));
    web.answer("/torn", Answer::Torn(b"x".to_vec()));
    web.answer("/page", Answer::Body(b"<html>".to_vec()));
    for (path, times, words) in [
        ("/none", 1, ["was answered with 404", "package `lib`"]),
        ("/down", 3, ["was answered with 503", "package `lib`"]),
        ("/round", 11, ["which is not followed", "it goes on and on"]),
        ("/away", 1, ["ftp://example.org/x", "no address of HTTP"]),
        ("/torn", 3, ["broke off", "package `lib`"]),
        ("/page", 1, ["has the digest sha256-", "but zako.toml says"]),
    ] {
        let project = project(&entry(path));
        project.zako(&["build"]).fails_saying(&words);
        assert_eq!(web.asked().len(), times, "{path}");
    }
    let page = project("lib = { url = \"file:page\" }");
    page.write("page", "<!doctype html>");
    page.zako(&["build"]).fails_saying(&[
        "is a page of HTML or XML",
        ".tar, .tar.gz, .tar.zst or .zip",
    ]);
    let nobody = project(
        "lib = { url = \"http://127.0.0.1:1/x\", integrity = \"sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=\" }",
    );
    nobody
        .zako(&["build"])
        .fails_saying(&["http://127.0.0.1:1/x", "refused"]);
}

#[test]
fn a_package_of_npm_comes_from_the_registry_that_npmrc_names() {
    let web = Web::new();
    let archive = tar_gz(&[
        Entry::File("package/package.json", "{}"),
        Entry::File("package/text.txt", "text"),
    ]);
    let document = |digest: &str| {
        format!(
            "{{\"dist-tags\": {{\"latest\": \"2.0.0\"}}, \"versions\": {{\"1.0.0\": {{\"dist\": {{\"tarball\": \"{}\", \
             \"integrity\": \"{digest}\"}}}}}}}}",
            web.url("/npm/@a/b/-/b-1.0.0.tgz")
        )
    };
    let digest = integrity("sha512", &archive);
    web.answer("/npm/@a%2fb", Answer::Body(document(&digest).into_bytes()));
    web.answer("/npm/@a/b/-/b-1.0.0.tgz", Answer::Body(archive));
    let project = project("lib = { package = \"npm:@a/b@1.0.0\", build = \"lib.ts\" }");
    project.write("lib.ts", BUILD);
    project.write(
        ".npmrc",
        &format!(
            "@a:registry={}\n//{}/npm/:_authToken=${{TOKEN}}\n",
            web.url("/npm"),
            web.address()
        ),
    );
    let build = |arguments: &[&str]| {
        let mut command = project.command(&["build"]);
        zako_tests::Outcome::of(command.args(arguments).env("TOKEN", "t0ken"))
    };
    build(&[]).succeeds();
    assert_eq!(project.read("out.txt"), "TEXT");
    let asked = web.asked();
    assert_eq!(asked.len(), 2);
    assert!(
        asked
            .iter()
            .all(|(_, who)| who.as_deref() == Some("Bearer t0ken")),
        "{asked:?}"
    );
    assert!(!project.read("zako.lock").contains("t0ken"));

    // A mistake in the file that describes it is told where it was made.
    project.write("lib.ts", &BUILD.replace("text.txt\"]", "none.txt\"]"));
    build(&[]).fails_saying(&["lib.ts:2", "none.txt"]);
    project.write("lib.ts", BUILD);

    // The registry has something else by the same name.
    web.answer(
        "/npm/@a%2fb",
        Answer::Body(document(&integrity("sha512", b"other")).into_bytes()),
    );
    build(&[]).succeeds();
    forget(&project);
    build(&[]).fails_saying(&["npm:@a/b@1.0.0 is not what it was", "--update-lock"]);
    build(&["--update-lock=lib"]).fails_saying(&["was damaged or replaced on its way"]);
    declare(
        &project,
        "lib = { package = \"npm:@a/b@1.0.1\", build = \"lib.ts\" }",
    );
    build(&[]).fails_saying(&["has no version 1.0.1 of `@a/b`; the latest is 2.0.0"]);
    declare(
        &project,
        "lib = { package = \"npm:@a/b@1.0.1\", build = \"other.ts\" }",
    );
    build(&[]).fails_saying(&["has no version 1.0.1"]);
}

#[test]
fn a_state_of_a_git_repository_stays_that_state() {
    if !is_installed("git") {
        return;
    }
    let project = project("");
    let repo = project.outside().join("repo");
    fs::create_dir(&repo).unwrap();
    let git = |arguments: &[&str]| {
        let names = [
            "-c",
            "user.name=x",
            "-c",
            "user.email=x@example.org",
            "-c",
            "init.defaultBranch=main",
        ];
        succeed(
            Command::new("git")
                .current_dir(&repo)
                .args(names)
                .args(arguments),
        )
        .trim()
        .to_owned()
    };
    git(&["init", "--quiet"]);
    let commit = |text: &str| {
        fs::write(repo.join("BUILD.ts"), BUILD).unwrap();
        fs::write(repo.join("text.txt"), text).unwrap();
        let noise = (0..4096_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes());
        fs::write(repo.join("noise"), noise.collect::<Vec<u8>>()).unwrap();
        // What the repository says about its archives does not count.
        fs::write(
            repo.join(".gitattributes"),
            "BUILD.ts export-ignore\n*.txt export-subst eol=crlf\n",
        )
        .unwrap();
        git(&["add", "."]);
        git(&["commit", "--quiet", "-m", text]);
        git(&["rev-parse", "HEAD"])
    };
    let old = commit("old $Format:%H$\n");
    declare(
        &project,
        "lib = { repo = \"../repo\", checkout = \"main\" }",
    );
    project.build();
    assert_eq!(project.read("out.txt"), "OLD $FORMAT:%H$\n");
    assert!(
        project
            .read("zako.lock")
            .contains(&format!("commit = \"{old}\""))
    );

    // The branch goes on, the package does not, nor when it is fetched again.
    let new = commit("new\n");
    project.build();
    forget(&project);
    project.zako(&["build", "--locked"]).succeeds();
    assert_eq!(project.read("out.txt"), "OLD $FORMAT:%H$\n");
    project.zako(&["build", "--update-lock"]).succeeds();
    assert_eq!(project.read("out.txt"), "NEW\n");

    declare(
        &project,
        &format!("lib = {{ repo = \"../repo\", checkout = \"{old}\" }}"),
    );
    project.build();
    assert_eq!(project.read("out.txt"), "OLD $FORMAT:%H$\n");
    assert_ne!(old, new);
    // No more is fetched than an archive may be.
    forget(&project);
    let manifest = project.read("zako.toml");
    let limits = "[settings.packages]\nmax-download = \"1k\"\n";
    project.write("zako.toml", &format!("{manifest}{limits}"));
    project.zako(&["build"]).fails_saying(&[
        "git fetches more than 1024 bytes of ../repo",
        "`max-download` in [settings.packages]",
    ]);
    for (checkout, word) in [
        (
            "0123456789012345678901234567890123456789",
            "no commit, tag or branch",
        ),
        ("none", "`none`"),
    ] {
        declare(
            &project,
            &format!("lib = {{ repo = \"../repo\", checkout = \"{checkout}\" }}"),
        );
        project.zako(&["build"]).fails_saying(&[
            "zako.toml:5:7",
            "../repo has no commit, tag or branch",
            word,
        ]);
    }
    declare(
        &project,
        "lib = { repo = \"../nowhere\", checkout = \"main\" }",
    );
    project
        .zako(&["build"])
        .fails_saying(&["zako.toml:5:7", "../nowhere"]);
}

#[test]
fn a_package_without_a_build_file_is_a_group_of_files_and_rules_come_along() {
    let project = Project::new();
    declare(
        &project,
        "plain = { url = \"file:plain.zip\" }\nrules = { url = \"file:rules.tar\" }",
    );
    fs::write(
        project.root().join("plain.zip"),
        zip(&[("a/x.txt", "x"), ("a/y.txt", "y")]),
    )
    .unwrap();
    let rule = r#"
import { attr, rule } from "zako:rule";
export const join = rule({
  name: "join",
  attrs: { deps: attr.deps() },
  implementation(ctx) {
    const out = ctx.file("joined");
    const files = ctx.attrs.deps.flatMap((dep) => dep.files);
    ctx.run({ cmd: ["sh", "-c", 'cat "$@" > "$0"', out, ...files], outs: [out] });
    return { files: [out] };
  },
});
"#;
    fs::write(
        project.root().join("rules.tar"),
        tar(&[
            Entry::File("join.rule.ts", rule),
            Entry::File("sub/BUILD.ts", "export default {};\n"),
        ]),
    )
    .unwrap();
    project.write(
        "BUILD.ts",
        "import { join } from \"./.zako/packages/rules/join.rule.ts\";\nexport default { all: join({ deps: [\"@plain//:files\"] }) };\n",
    );
    // The import is there only after the package is.
    project.build();
    assert_eq!(project.read("joined"), "xy");
    project
        .zako(&["build", "@plain//:fils"])
        .fails_saying(&["fils"]);
}
