//! What commands can reach under `--sandbox`.

use std::fs;

use zako_tests::{Project, is_installed};

/// `peeps` reads a file of the workspace and one outside by absolute paths.
fn project() -> Project {
    let project = Project::new();
    project.write("declared.txt", "declared\n");
    project.write("secret.txt", "secret\n");
    fs::write(project.outside().join("outside.txt"), "outside\n").unwrap();
    project
}

fn build_file(project: &Project, script: &str, more: &str) {
    let root = project.root().display().to_string();
    let outside = project.outside().display().to_string();
    let script = script.replace("$ROOT", &root).replace("$OUTSIDE", &outside);
    project.write(
        "BUILD.ts",
        &format!(
            "import {{ target }} from \"zako:build\";\nexport default {{\n  peeps: target({{ cmd: [\"sh\", \"-ec\", {script:?}], \
             srcs: [\"declared.txt\"], outs: [\"out.txt\"]{more} }}),\n}};\n"
        ),
    );
}

/// Whether this kernel can do it; says so when not.
fn can_confine(project: &Project) -> bool {
    let said = project.zako(&["doctor"]).succeeds().stdout;
    let line = said.lines().find(|line| line.contains("strict sandbox"));
    let can = line.is_some_and(|line| line.starts_with("ok"));
    if !can {
        println!("did not run: this kernel has nothing to confine with");
    }
    can
}

#[test]
fn a_strict_step_reads_and_writes_what_it_may_and_nothing_else() {
    let project = project();
    if !can_confine(&project) {
        return;
    }
    let strict = ["build", "--force", "--sandbox", "strict"];
    build_file(
        &project,
        "cat declared.txt > out.txt; echo x > $TMPDIR/t; echo x > /dev/null; ls / > /dev/null || true; \
         ( cat $ROOT/declared.txt || cat $ROOT/secret.txt || cat $OUTSIDE/outside.txt || touch $OUTSIDE/new ) 2> /dev/null \
         || echo confined >> out.txt",
        "",
    );
    project.zako(&strict).succeeds();
    assert_eq!(project.read("out.txt"), "declared\nconfined\n");
    assert!(!project.outside().join("new").exists());

    build_file(&project, "cat $ROOT/secret.txt > out.txt", "");
    project
        .zako(&strict)
        .fails_saying(&["//:peeps", "secret.txt: "]);
    // The same without: an absolute path reaches it.
    project.zako(&["build", "--force"]).succeeds();
    assert_eq!(project.read("out.txt"), "secret\n");
    // The manifest can ask for it.
    let manifest = project.read("zako.toml");
    project.write(
        "zako.toml",
        &format!("{manifest}[settings]\nsandbox = \"strict\"\n"),
    );
    project
        .zako(&["build", "--force"])
        .fails_saying(&["//:peeps", "secret.txt: "]);
    project
        .zako(&["build", "--force", "--sandbox", "off"])
        .succeeds();
}

#[test]
fn a_strict_step_has_no_network_unless_it_asks() {
    let project = project();
    if !can_confine(&project) || !is_installed("node") {
        return;
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!(
        "node -e 'require(\\\"net\\\").connect({port},\\\"127.0.0.1\\\").on(\\\"connect\\\",()=>process.exit(0)).on(\\\"error\\\",\
         e=>{{console.error(e.code);process.exit(3)}})'; echo reached > out.txt"
    )
    .replace("\\\"", "\"");
    let strict = ["build", "--force", "--sandbox", "strict"];
    build_file(&project, &script, "");
    project.zako(&strict).fails_saying(&["exit status 3"]);
    build_file(&project, &script, ", network: true");
    project.zako(&strict).succeeds();
    assert_eq!(project.read("out.txt"), "reached\n");
}

#[test]
fn warn_names_what_is_read_undeclared_and_the_line_to_add() {
    let project = project();
    if !is_installed("strace") {
        return;
    }
    build_file(
        &project,
        "cat declared.txt $ROOT/secret.txt > out.txt; test -r /etc/passwd",
        "",
    );
    let said = project
        .zako(&["build", "--sandbox", "warn"])
        .succeeds()
        .text();
    assert!(
        said.contains("warning: it reads secret.txt, which it does not declare; add \"secret.txt\" to its `srcs` (BUILD.ts:3:3)"),
        "{said}"
    );
    assert_eq!(said.matches("warning:").count(), 1, "{said}");
}
