//! Worker processes: started once, asked often, replaced when they die, gone with the build.

use std::fs;

use zako_tests::{Project, is_alive, is_installed};

/// Upper-cases files by Bazel's worker protocol. It writes its process id to `$RAN.pids`, dies where a file
/// says so, and counts what it served, as a compiler keeps its caches.
const WORKER: &str = r#"
const fs = require("fs");
const path = require("path");
fs.appendFileSync("$RAN.pids", `${process.pid}\n`);
const die = (word) => { console.error(word); process.exit(1); };
let served = 0;
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  served += 1;
  const request = JSON.parse(line);
  const [source, out] = request.arguments;
  if (!request.inputs.some((one) => one.path === source)) die(line);
  const text = fs.readFileSync(source, "utf8");
  if (text.includes("die") && !fs.existsSync("$RAN.died")) {
    fs.writeFileSync("$RAN.died", "");
    die("not yet");
  }
  if (text.includes("never")) die("I will never do this");
  let answer = { output: `${out} was number ${served}\n` };
  if (text.includes("refuse")) {
    answer = { exitCode: 3, output: `line 1: ${text.trim()}` };
  } else {
    fs.mkdirSync(path.dirname(out), { recursive: true });
    fs.writeFileSync(out, text.toUpperCase());
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
});
"#;

/// Each name becomes a target of one package, with a file of this text.
fn project(files: &[(&str, &str)]) -> Option<Project> {
    if !is_installed("node") {
        println!("did not run: there is no node");
        return None;
    }
    let project = Project::new();
    project.write("tools/upper.js", WORKER);
    project.write(
        "tools/BUILD.ts",
        "import { target } from \"zako:build\";\nexport default { upper: target({ cmd: [\"cp\", \"upper.js\", \"worker.js\"], \
         srcs: [\"upper.js\"], outs: [\"worker.js\"] }) };\n",
    );
    let mut targets = String::new();
    for (name, text) in files {
        project.write(&format!("texts/{name}.txt"), text);
        targets += &format!(
            "  {name}: target({{ cmd: [\"node\", \"tools/worker.js\"], worker: [\"texts/{name}.txt\", \"texts/out/{name}\"], \
             srcs: [\"{name}.txt\"], deps: [\"//tools:upper\"], outs: [\"out/{name}\"] }}),\n"
        );
    }
    project.write(
        "texts/BUILD.ts",
        &format!("import {{ target }} from \"zako:build\";\nexport default {{\n{targets}}};\n"),
    );
    Some(project)
}

/// Process ids of the workers that were started since the last call.
fn pids(project: &Project) -> Vec<String> {
    let path = project.outside().join("ran.pids");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let _ = fs::remove_file(path);
    text.lines().map(str::to_owned).collect()
}

#[test]
fn one_process_serves_all_steps_and_ends_with_the_build() {
    let texts: Vec<(String, String)> = (0..12)
        .map(|n| (format!("t{n}"), format!("text {n}\n")))
        .collect();
    let texts: Vec<(&str, &str)> = texts.iter().map(|(a, b)| (&**a, &**b)).collect();
    let Some(project) = project(&texts) else {
        return;
    };
    let said = project.zako(&["build", "-j", "1"]).succeeds();
    for (name, text) in &texts {
        assert_eq!(
            project.read(&format!("texts/out/{name}")),
            text.to_uppercase()
        );
    }
    assert!(said.text().contains("was number 12"), "{}", said.text());
    let started = pids(&project);
    assert_eq!(started.len(), 1);
    assert!(!is_alive(&started[0]));

    // What was cached is restored without a process, and one edit asks for one step.
    project.zako(&["clean"]).succeeds();
    project.build();
    assert_eq!(pids(&project), Vec::<String>::new());
    project.write("texts/t3.txt", "new\n");
    assert!(project.build().text().contains("was number 1\n"));
    assert_eq!(project.read("texts/out/t3"), "NEW\n");
    // Two runs by two processes leave the same.
    project
        .zako(&["build", "--check-determinism", "2", "//texts:t3"])
        .succeeds();
}

#[test]
fn a_worker_that_dies_is_replaced_once_then_says_why() {
    let Some(project) = project(&[("a", "die\n")]) else {
        return;
    };
    project.build();
    assert_eq!(project.read("texts/out/a"), "DIE\n");
    assert_eq!(pids(&project).len(), 2);

    project.write("texts/a.txt", "never\n");
    project.zako(&["build"]).fails_saying(&[
        "//texts:a failed: its worker ended before it answered (exit status 1), and so did another one",
        "I will never do this",
    ]);
    assert_eq!(pids(&project).len(), 2);

    project.write("texts/a.txt", "refuse\n");
    project
        .zako(&["build"])
        .fails_saying(&["its worker answered with exit code 3", "line 1: refuse"]);
    assert_eq!(
        pids(&project).len(),
        1,
        "a failed request is no reason for another worker"
    );
}

#[test]
fn the_sandbox_holds_a_worker_too() {
    let Some(project) = project(&[("a", "text\n")]) else {
        return;
    };
    let said = project.zako(&["doctor"]).succeeds().stdout;
    if !said
        .lines()
        .any(|line| line.contains("strict sandbox") && line.starts_with("ok"))
    {
        println!("did not run: this kernel has nothing to confine with");
        return;
    }
    // It writes its process id outside, which it may not do now.
    project
        .zako(&["build", "--sandbox", "strict"])
        .fails_saying(&["ran.pids"]);
}

#[test]
fn arguments_may_come_from_a_file() {
    let Some(project) = project(&[("a", "text\n")]) else {
        return;
    };
    project.write("texts/arguments", "texts/a.txt\ntexts/out/a\n");
    let build = |cmd: &str, more: &str| {
        project.write(
            "texts/BUILD.ts",
            &format!(
                "import {{ target }} from \"zako:build\";\nexport default {{ a: target({{ cmd: [\"node\", \"tools/worker.js\"{cmd}], \
                 srcs: [\"a.txt\", \"arguments\"], deps: [\"//tools:upper\"], outs: [\"out/a\"], {more} }}) }};\n"
            ),
        );
        project.zako(&["build"])
    };
    build(", \"@texts/arguments\"", "worker: true").succeeds();
    assert_eq!(project.read("texts/out/a"), "TEXT\n");
    build("", "worker: true").fails_saying(&["texts/BUILD.ts:2", "@FILE", "last word of `cmd`"]);
    build("", "worker: [\"@texts/none\"]")
        .fails_saying(&["@texts/none", "from the workspace root"]);
    build("", "worker: 3").fails_saying(&["worker", "true or false"]);
}

#[test]
fn a_rule_has_a_worker_do_its_steps() {
    let Some(project) = project(&[]) else {
        return;
    };
    project.write("texts/a.txt", "one\n");
    project.write("texts/b.txt", "two\n");
    let rule = r#"
import { attr, rule } from "zako:rule";
export const upper = rule({
  name: "upper",
  attrs: { srcs: attr.sources(), tool: attr.deps() },
  implementation(ctx) {
    const outs = ctx.attrs.srcs.map((src) => {
      const out = ctx.file(`out/${src.path.split("/").pop()}`);
      return ctx.run({ cmd: ["node", ...ctx.attrs.tool.map((dep) => dep.files)], worker: [src, out], outs: [out] });
    });
    return { files: outs };
  },
});
"#;
    project.write("upper.rule.ts", rule);
    project.write(
        "texts/BUILD.ts",
        "import { upper } from \"../upper.rule.ts\";\n\
         export default { all: upper({ srcs: [\"a.txt\", \"b.txt\"], tool: [\"//tools:upper\"] }) };\n",
    );
    project.zako(&["build", "-j", "1"]).succeeds();
    assert_eq!(project.read("texts/out/a.txt"), "ONE\n");
    assert_eq!(project.read("texts/out/b.txt"), "TWO\n");
    assert_eq!(pids(&project).len(), 1, "one process for both");
    let elsewhere = rule.replace("worker: [", "dir: \"texts\", worker: [");
    project.write("upper.rule.ts", &elsewhere);
    project
        .zako(&["build"])
        .fails_saying(&["a worker process serves all packages", "leave `dir` out"]);
}
