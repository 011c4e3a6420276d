//! Worker processes: started once, asked often, replaced when they die, gone with the build.

use std::fs;
use std::time::{Duration, Instant};

use zako_tests::{Project, is_alive, is_installed, may_run, until_so};

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
    let can = said
        .lines()
        .any(|line| line.contains("strict sandbox") && line.starts_with("ok"));
    if !may_run("a kernel that confines", can) {
        return;
    }
    // It writes its process id outside, which it may not do now.
    project
        .zako(&["build", "--sandbox", "strict"])
        .fails_saying(&[
            "//texts:a failed: its worker ended before it answered",
            "ran.pids",
        ]);
    assert!(!project.outside().join("ran.pids").exists());
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

/// Takes several requests at a time. It answers none until as many are under way as `group` says, and then the last
/// one first; once one was taken back, each at once. Text decides what else happens.
const CROWD: &str = r#"
const fs = require("fs");
const path = require("path");
fs.appendFileSync("$RAN.pids", `${process.pid}\n`);
let group = fs.existsSync("$RAN.died") ? 1 : Number(process.argv[2]);
// Once so many were asked of all processes, nobody waits for more.
const all = Number(process.argv[3] || Infinity);
let waiting = [];
const say = (answer) => process.stdout.write(JSON.stringify(answer) + "\n");
function answer(request) {
  const [source, out] = request.arguments;
  const text = fs.readFileSync(source, "utf8");
  if (text.includes("die") || text.includes("never")) {
    const again = fs.existsSync("$RAN.died") && text.includes("die");
    fs.writeFileSync("$RAN.died", "");
    if (!again) { console.error("I was told to"); process.exit(1); }
  }
  if (text.includes("unknown")) return say({ requestId: 4711 });
  if (fs.existsSync(out)) return say({ requestId: request.requestId, exitCode: 9, output: "something lies there already" });
  if (text.includes("refuse")) return say({ requestId: request.requestId, exitCode: 3, output: `line 1: ${text}` });
  fs.mkdirSync(path.dirname(out), { recursive: true });
  fs.writeFileSync(out, text.toUpperCase());
  say({ requestId: request.requestId, output: `of ${group}\n` });
}
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const request = JSON.parse(line);
  if (request.cancel) {
    say({ requestId: request.requestId, wasCancelled: true });
    group = 1; // Who comes from now on waits for nobody.
    const left = waiting.filter((one) => one.requestId !== request.requestId);
    waiting = [];
    return left.forEach(answer);
  }
  if (!(request.requestId > 0)) return answer(request);
  waiting.push(request);
  fs.appendFileSync("$RAN.asked", ".");
  if (waiting.length >= group) answerAll();
});
function answerAll() {
  const now = waiting.reverse();
  waiting = [];
  now.forEach(answer);
}
const look = () => fs.existsSync("$RAN.asked") && fs.statSync("$RAN.asked").size >= all && answerAll();
if (all < Infinity) setInterval(look, 10).unref();
"#;

/// As [`project`], by a worker that answers groups of `group`, with these options for every target.
fn crowd(files: &[(&str, &str)], group: usize, options: &str) -> Option<Project> {
    let project = project(files)?;
    project.write("tools/upper.js", CROWD);
    let text = project.read("texts/BUILD.ts");
    let text = text
        .replace(
            "\"tools/worker.js\"]",
            &format!("\"tools/worker.js\", \"{group}\"]"),
        )
        .replace("srcs:", &format!("{options}, srcs:"));
    project.write("texts/BUILD.ts", &text);
    Some(project)
}

#[test]
fn several_requests_are_under_way_and_each_gets_its_own_answer() {
    let texts: Vec<(String, String)> = (0..9)
        .map(|n| (format!("t{n}"), format!("text {n}\n")))
        .collect();
    let texts: Vec<(&str, &str)> = texts.iter().map(|(a, b)| (&**a, &**b)).collect();
    let Some(project) = crowd(&texts, 3, "multiplex: 4") else {
        return;
    };
    let said = project.zako(&["build", "-j", "3"]).succeeds();
    assert!(said.text().contains("of 3"), "{}", said.text());
    for (name, text) in &texts {
        assert_eq!(
            project.read(&format!("texts/out/{name}")),
            text.to_uppercase()
        );
    }
    let started = pids(&project);
    assert_eq!(started.len(), 1, "one process for all");
    assert!(!is_alive(&started[0]));
    // What is run twice is run one by one, in processes of its own.
    project
        .zako(&["build", "--check-determinism", "2", "//texts:t3"])
        .succeeds();
    assert_eq!(pids(&project).len(), 2);
}

#[test]
fn more_requests_than_allowed_wait_or_go_to_another_process() {
    let Some(project) = crowd(
        &[("a", "a"), ("b", "b"), ("c", "c"), ("d", "d")],
        2,
        "multiplex: 2",
    ) else {
        return;
    };
    // One process has two after two, or several have two at most each; who is alone waits for the last one to be asked.
    let text = project.read("texts/BUILD.ts");
    project.write("texts/BUILD.ts", &text.replace("\"2\"]", "\"2\", \"4\"]"));
    project.zako(&["build", "-j", "4"]).succeeds();
    assert!((1..=4).contains(&pids(&project).len()));
    assert_eq!(project.read("texts/out/d"), "D");
}

#[test]
fn who_names_outputs_by_globs_shares_no_directory() {
    let options = "multiplex: 2, timeout: 60";
    let Some(project) = crowd(&[("a", "a"), ("b", "b")], 2, options) else {
        return;
    };
    let text = project.read("texts/BUILD.ts");
    let text = text
        .replace("\"out/a\"", "\"out/a*\"")
        .replace("\"out/b\"", "\"out/b*\"");
    project.write("texts/BUILD.ts", &text);
    // Asked with a number, the process would wait for a second request, which `-j 1` never sends.
    project.zako(&["build", "-j", "1"]).succeeds();
    assert_eq!(project.read("texts/out/a"), "A");
    assert_eq!(project.read("texts/out/b"), "B");
}

#[test]
fn a_process_that_dies_takes_nobody_with_it_but_who_kills_it() {
    let files = [("a", "a"), ("b", "die"), ("c", "c")];
    let Some(project) = crowd(&files, 3, "multiplex: 3") else {
        return;
    };
    project.zako(&["build", "-j", "3"]).succeeds();
    assert_eq!(project.read("texts/out/b"), "DIE");
    // One that died with all three, then one for each that had no answer: those that had one are done.
    assert!((2..=4).contains(&pids(&project).len()));

    let Some(project) = crowd(&[("a", "a"), ("b", "never"), ("c", "c")], 3, "multiplex: 3") else {
        return;
    };
    project.zako(&["build", "-k", "-j", "3"]).fails_saying(&[
        "//texts:b failed: its worker ended before it answered (exit status 1), and so did another one",
        "I was told to",
    ]);
    assert_eq!(
        project.read("texts/out/a") + &project.read("texts/out/c"),
        "AC"
    );
}

/// A worker that is a shell script of these lines, by itself and as one of several.
fn shells(lines: &str) -> [Project; 2] {
    ["", ", multiplex: 2"].map(|more| {
        let project = Project::with_build(&format!(
            "import {{ target }} from \"zako:build\";\nexport default {{ t: target({{ cmd: [\"sh\", \"worker.sh\"], worker: [], \
             srcs: [\"worker.sh\"], outs: [\"out\"], timeout: \"2m\"{more} }}) }};\n"
        ));
        project.write("worker.sh", lines);
        project
    })
}

#[test]
fn a_process_that_ends_at_once_is_told_with_what_it_printed() {
    // Before it was asked anything, or after it closed what it could be asked or answer by.
    for lines in [
        "echo my last words >&2; exit 7",
        "read line; exec <&- >&-; echo my last words >&2; exit 7",
        "exec <&- >&-; echo my last words >&2; exit 7",
    ] {
        for project in shells(lines) {
            project
                .zako(&["build"])
                .fails_saying(&["exit status 7", "my last words"]);
        }
    }
}

#[test]
fn a_process_that_closes_its_output_and_goes_on_is_told_to_have_done_so() {
    for project in shells("read line; exec >&-; echo I go on >&2; read line") {
        let began = Instant::now();
        let said = project.zako(&["build"]).fails_saying(&[
            "closed its output before it answered, then was stopped",
            "I go on",
        ]);
        assert!(!said.text().contains("signal"), "{}", said.text());
        // Two processes, neither of which can answer any more.
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn a_process_that_ends_while_a_child_of_its_holds_its_output_is_noticed() {
    // The child reads what never comes.
    for project in shells("mkfifo $RAN.never; echo my last words >&2; cat $RAN.never <&0 & exit 7")
    {
        project
            .zako(&["build"])
            .fails_saying(&["exit status 7", "my last words"]);
    }
    // What was answered before counts.
    for project in shells(
        "read line; echo done > out; id=0; case $line in *'\"requestId\":1'*) id=1;; esac; mkfifo $RAN.never; \
         cat $RAN.never & echo \"{\\\"exitCode\\\":0,\\\"requestId\\\":$id}\"",
    ) {
        project.zako(&["build"]).succeeds();
        assert_eq!(project.read("out"), "done\n");
    }
}

#[test]
fn an_answer_that_nobody_asked_for_ends_the_conversation() {
    let Some(project) = crowd(&[("a", "unknown")], 1, "multiplex: 3") else {
        return;
    };
    project.zako(&["build"]).fails_saying(&[
        "answered request 4711, which nobody waits for",
        "and so did another one",
    ]);
    assert_eq!(pids(&project).len(), 2);
    project.write("texts/a.txt", "refuse");
    project
        .zako(&["build"])
        .fails_saying(&["its worker answered with exit code 3", "line 1: refuse"]);
    assert_eq!(pids(&project).len(), 1);
}

#[test]
fn one_request_is_given_up_and_the_others_go_on() {
    let files = [("quick", "quick"), ("slow", "slow")];
    let Some(project) = crowd(&files, 3, "multiplex: { requests: 4, cancel: true }") else {
        return;
    };
    let text = project.read("texts/BUILD.ts");
    project.write(
        "texts/BUILD.ts",
        &text.replace("slow: target({", "slow: target({ timeout: 5,"),
    );
    // There are only two, so the group is never whole: `quick` is answered when `slow` was given up.
    project
        .zako(&["build", "-k", "-j", "2"])
        .fails_saying(&["//texts:slow failed: its worker did not answer within 5 s, its timeout"]);
    assert_eq!(project.read("texts/out/quick"), "QUICK");
    assert_eq!(pids(&project).len(), 1);
    assert!(!project.has("texts/out/slow"));

    // Ctrl-C ends all of them.
    let Some(project) = crowd(&files, 3, "multiplex: 4") else {
        return;
    };
    let running = project.start(&["build", "-j", "2"]);
    // It is there before anything is written to it.
    let path = project.outside().join("ran.pids");
    while !fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n')) {
        std::thread::yield_now();
    }
    let started = pids(&project);
    running.signal("INT");
    assert_eq!(running.wait().status.code(), Some(130));
    assert!(started.iter().all(|pid| !is_alive(pid)));
}

#[test]
fn an_edit_takes_one_request_back_and_one_that_changes_nothing_takes_none() {
    let files = [("quick", "quick"), ("slow", "slow")];
    let Some(project) = crowd(&files, 3, "multiplex: { requests: 4, cancel: true }") else {
        return;
    };
    let mut watch = project.start(&["watch", "-j", "2"]);
    let asked = project.outside().join("ran.asked");
    while !fs::read(&asked).is_ok_and(|marks| marks.len() == 2) {
        std::thread::yield_now();
    }
    // Whole at once, so that it never says anything else.
    let same = project.outside().join("same");
    fs::write(&same, "quick").unwrap();
    fs::rename(same, project.root().join("texts/quick.txt")).unwrap();
    project.write("texts/slow.txt", "slower");
    // The group is never whole: `quick` is answered when `slow` was taken back.
    assert!(watch.line().starts_with("watching "));
    assert_eq!(project.read("texts/out/quick"), "QUICK");
    assert!(!project.has("texts/out/slow"));
    watch.signal("INT");
    watch.wait();
}

/// Takes several requests at a time. It answers `a` when somebody has asked for `b`, whoever is asked.
const PATIENT: &str = r#"
const fs = require("fs");
fs.appendFileSync("$RAN.pids", `${process.pid}\n`);
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const request = JSON.parse(line);
  const [source, out] = request.arguments;
  const answer = () => {
    fs.mkdirSync("texts/out", { recursive: true });
    fs.writeFileSync(out, fs.readFileSync(source, "utf8").toUpperCase());
    process.stdout.write(JSON.stringify({ requestId: request.requestId }) + "\n");
  };
  fs.appendFileSync("$RAN.asked", out);
  // Each waits until the other one is there.
  if (out.endsWith("a")) fs.readFile("$RAN.pipe", answer);
  else fs.writeFile("$RAN.pipe", "b", answer);
});
"#;

#[test]
fn a_file_that_was_saved_meanwhile_is_not_put_before_those_who_began_with_another_one() {
    let Some(project) = project(&[]) else {
        return;
    };
    for pipe in ["ran.pipe", "ran.go"] {
        let mut mkfifo = std::process::Command::new("mkfifo");
        let made = mkfifo.arg(project.outside().join(pipe)).status();
        assert!(made.unwrap().success());
    }
    project.write("tools/upper.js", PATIENT);
    project.write("texts/s.txt", "old");
    project.write(
        "texts/BUILD.ts",
        r#"
import { target } from "zako:build";
const upper = (name, deps) => target({ cmd: ["node", "tools/worker.js"], worker: ["texts/s.txt", `texts/out/${name}`],
  multiplex: 2, srcs: ["s.txt"], deps: ["//tools:upper", ...deps], outs: [`out/${name}`] });
export default {
  first: target({ cmd: ["sh", "-c", "read go < $RAN.go; echo > first"], outs: ["first"] }),
  a: upper("a", []),
  b: upper("b", [":first"]),
};
"#,
    );
    let running = project.start(&["build", "-j", "3"]);
    let asked = project.outside().join("ran.asked");
    until_so("a is asked for", || asked.exists());
    // Whole at once.
    let new = project.outside().join("new");
    fs::write(&new, "new").unwrap();
    fs::rename(new, project.root().join("texts/s.txt")).unwrap();
    fs::write(project.outside().join("ran.go"), "go\n").unwrap();
    running.wait().succeeds();
    let built = ["a", "b"].map(|name| project.read(&format!("texts/out/{name}")));
    assert_eq!(built, ["OLD", "NEW"]);
    assert_eq!(pids(&project).len(), 2);
    let _ = fs::remove_file(project.outside().join("ran.pipe"));
    // What belongs to `old` is still that.
    fs::remove_dir_all(project.root().join("texts/out")).unwrap();
    project.write("texts/s.txt", "old");
    project.zako(&["build", "//texts:a"]).succeeds();
    assert_eq!(project.read("texts/out/a"), "OLD");
}

#[test]
fn what_multiplex_may_be_is_told() {
    let Some(project) = crowd(&[("a", "a")], 1, "multiplex: 1") else {
        return;
    };
    project.zako(&["build"]).fails_saying(&[
        "texts/BUILD.ts:3",
        "multiplex",
        "a whole number from 2 to 1000",
    ]);
    project.write("texts/BUILD.ts", "import { target } from \"zako:build\";\nexport default { a: target({ cmd: [\"true\"], multiplex: 2 }) };\n");
    project.zako(&["build"]).fails_saying(&[
        "texts/BUILD.ts:2",
        "`multiplex` is for targets with `worker`",
    ]);
    project.write("texts/BUILD.ts", "import { target } from \"zako:build\";\nexport default { a: target({ cmd: [\"true\"], worker: [], multiplex: { request: 2 } }) };\n");
    project
        .zako(&["build"])
        .fails_saying(&["texts/BUILD.ts:2", "`request`", "requests"]);
}
