//! What helps a person who writes build files: types for editors, and the check for determinism.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use serde_json::{Value, json};
use zako_tests::{Outcome, Project, typescript};

#[test]
fn an_output_that_differs_is_named_with_its_first_byte() {
    let project = Project::with_build(
        r#"
import { target } from "zako:build";
export default {
  steady: target({ cmd: ["sh", "-c", "echo same > same.txt"], outs: ["same.txt"] }),
  clock: target({ cmd: ["sh", "-c", "echo now $(date +%s%N) > now.txt"], outs: ["now.txt"] }),
};
"#,
    );
    project
        .zako(&["build", "--check-determinism", "3", "//:steady"])
        .succeeds();
    project
        .zako(&["build", "-k", "--check-determinism", "2"])
        .fails_saying(&["//:clock", "now.txt differs at byte "]);
    project
        .zako(&["build", "--check-determinism", "1"])
        .fails_saying(&["--check-determinism"]);
}

#[test]
fn permissions_count_too() {
    let project = Project::with_build(
        r#"
import { target } from "zako:build";
export default {
  mode: target({ cmd: ["sh", "-c", "echo x > x; [ -e $RAN ] || chmod +x x; echo mode >> $RAN"], outs: ["x"] }),
};
"#,
    );
    project
        .zako(&["build", "--check-determinism", "2"])
        .fails_saying(&["//:mode", "x has the permissions 755 and 644"]);
}

#[test]
fn scripts_of_packages_are_run_again_from_a_clean_start() {
    let project = Project::new();
    let package = |script: &str| {
        let text = serde_json::json!({ "name": "p", "scripts": { "build": script } });
        project.write("package.json", &text.to_string());
    };
    project.write(".gitignore", "dist\n");
    let check = ["build", "--check-determinism", "3"];
    package("echo run >> $RAN; mkdir -p dist; test ! -e dist/a; echo same > dist/a");
    project.zako(&check).succeeds();
    assert_eq!(project.ran(), ["run"; 3]);
    assert_eq!(project.read("dist/a"), "same\n");
    package("mkdir -p dist; date +now%s%N > dist/a");
    project
        .zako(&check)
        .fails_saying(&["//:build", "dist/a differs at byte "]);
}

#[test]
fn what_is_transpiled_is_transpiled_again() {
    let project = Project::with_build(
        "import { transpile } from \"zako:build\";\nexport default { js: transpile({ srcs: [\"a.ts\"], out: \"out\" }) };\n",
    );
    project.write("a.ts", "export const a: number = 1;\n");
    let tasks = |arguments: &[&str]| {
        let events = project.outside().join("events");
        let mut all = vec!["build", "--force", "--events", events.to_str().unwrap()];
        all.extend(arguments);
        project.zako(&all).succeeds();
        let text = std::fs::read_to_string(&events).unwrap();
        let pools = text.lines().find(|line| line.contains("transpilers"));
        let pools: Value = serde_json::from_str(pools.unwrap()).unwrap();
        pools["transpilers"]["tasks"].as_u64().unwrap()
    };
    let once = tasks(&[]);
    assert_eq!(tasks(&["--check-determinism", "3"]), once + 2);
}

const BUILD: &str = r#"
import { env, glob, target, test, transpile } from "zako:build";
export default {
  lib: transpile({ srcs: glob("src/**", { exclude: ["src/x.ts"] }), out: "dist" }),
  copy: target({ cmd: ["cp", "a", "b"], srcs: ["a"], deps: [":lib"], outs: ["b"], env: { CI: env("CI", "0") }, uses: { cpu: 2, memory: "1g" } }),
  unit: test({ cmd: ["true"], deps: ["//:copy"], retries: 2, timeout: "90s" }),
};
"#;

#[test]
fn types_are_written_beside_mistakes_and_these_are_told() {
    let project = Project::with_build(&BUILD.replace("import ", "// edited\nimport "));
    project.write("p/BUILD.ts", &BUILD.replace("copy:", "other:"));
    project.zako(&["types"]).succeeds();
    let definitions = || project.read(".zako/types/zako.d.ts");
    assert!(
        definitions().contains("\"//p:other\" | "),
        "{}",
        definitions()
    );
    // A file that is being edited keeps its labels; what others say now is known.
    project.write("p/BUILD.ts", "export default {{;\n");
    project.write("q/BUILD.ts", &BUILD.replace("copy:", "third:"));
    let told = project.zako(&["types"]);
    assert_eq!(told.status.code(), Some(2), "{}", told.text());
    for said in [
        "--> p/BUILD.ts:1:",
        "wrote .zako/types",
        "as they were before",
    ] {
        assert!(told.text().contains(said), "{said}: {}", told.text());
    }
    for label in [
        "\"//p:other\"",
        "\":other\"",
        "\"//q:third\"",
        "\"//:copy\"",
    ] {
        assert!(definitions().contains(label), "{label}: {}", definitions());
    }
    assert!(!definitions().contains("BUILD.ts"), "{}", definitions());
    // A misspelt dependency is no label.
    project.write(
        "p/BUILD.ts",
        "import { target } from \"zako:build\";\nexport default { new: target({ cmd: [\"true\"], deps: [\":nwe\"] }) };\n",
    );
    let told = project.zako(&["types"]);
    assert_eq!(told.status.code(), Some(2), "{}", told.text());
    assert!(
        told.text().contains("//p:nwe, which does not exist"),
        "{}",
        told.text()
    );
    let now = definitions();
    assert!(
        now.contains("\"//p:new\"") && !now.contains("nwe") && !now.contains("//p:other"),
        "{now}"
    );
    // Where nothing can be known, all labels are as they were.
    project.write("zako.ts", "throw new Error(\"x\");\n");
    std::fs::remove_file(project.root().join(".zako/types/rules.d.ts")).unwrap();
    let told = project.zako(&["types"]);
    assert_eq!(told.status.code(), Some(2), "{}", told.text());
    assert!(project.has(".zako/types/rules.d.ts"));
    assert_eq!(definitions(), now);
}

#[test]
fn the_type_checker_knows_labels_and_flags_a_misspelt_one() {
    let project = Project::with_build(BUILD);
    project.write("a", "");
    project.write("src/m.ts", "export const m: number = 1;\n");
    project.write(
        "zako.ts",
        "import { workspace } from \"zako:package\";\nexport default workspace({ builds: [\"**/BUILD.ts\"] });\n",
    );
    let said = project.zako(&["types"]).succeeds().stdout;
    assert!(said.contains("3 labels"), "{said}");
    let definitions = project.read(".zako/types/zako.d.ts");
    assert!(definitions.contains("\"//:copy\" | "), "{definitions}");
    assert!(project.read("tsconfig.json").contains("./.zako/types"));
    let again = project.zako(&["types"]).succeeds().text();
    assert!(!again.contains("tsconfig.json"), "{again}");
    // What a person made is left alone.
    let own = "{ \"files\": [], \"references\": [{ \"path\": \".zako/types\" }] }\n";
    project.write("tsconfig.json", own);
    let again = project.zako(&["types"]).succeeds();
    assert!(again.text().contains("is yours"), "{}", again.text());
    assert_eq!(project.read("tsconfig.json"), own);
    let Some(typescript) = typescript() else {
        return;
    };
    let check = || type_check(typescript, &project);
    check().succeeds();
    // Every module that a build file may import, as the engine has it too.
    project.write(
        "all/BUILD.ts",
        "import { console as own } from \"zako:console\";\nimport { getExecutionContext } from \"zako:global\";\n\
         import { contextName, engine } from \"zako:rt\";\nconst name: \"v8\" | \"quickjs\" = engine;\n\
         own.info(name, contextName(), getExecutionContext());\nexport default {};\n",
    );
    check().succeeds();
    project.zako(&["query", "//..."]).succeeds();
    // Attributes of rules, those of the workspace and those that ship, are known as well.
    project.write(
        "tools/x.rule.ts",
        "import { attr, rule } from \"zako:rule\";\n\
         export const x = rule({\n  name: \"x\",\n  attrs: { level: attr.number({ required: true }), deps: attr.deps() },\n\
         \x20 implementation(ctx) {\n    ctx.attrs.level.toFixed();\n    ctx.run({ cmd: [\"true\"] });\n  },\n});\n",
    );
    let uses = |attributes: &str| {
        project.write(
            "use/BUILD.ts",
            &format!("import {{ fileGroup }} from \"zako:rules\";\nimport {{ x }} from \"../tools/x.rule.ts\";\nexport default {{\n  a: x({attributes}),\n  b: fileGroup({{ deps: [\"//:copy\"] }}),\n}};\n"),
        );
    };
    uses("{ level: 1, deps: [\"//:lib\"] }");
    check().succeeds();
    for wrong in [
        "{ levle: 1 }",
        "{}",
        "{ level: \"1\" }",
        "{ level: 1, deps: [\"//:lbi\"] }",
    ] {
        uses(wrong);
        let found = check();
        assert!(
            found.stdout.starts_with("use/BUILD.ts(4,"),
            "{wrong}: {}",
            found.stdout
        );
    }
    std::fs::remove_dir_all(project.root().join("use")).unwrap();
    // Options that are labels, too.
    let option = |label: &str| {
        project.write(
            "tools/x.config.ts",
            &format!("import {{ config }} from \"zako:config\";\nexport const lib = config({{ name: \"lib\", type: \"label\", default: {label} }});\n"),
        );
    };
    for right in [
        "\"//:lib\"",
        "() => \"//:lib\"",
        "async (ctx) => (await ctx.env(\"CI\")) ? \"//:lib\" : \"//:copy\"",
    ] {
        option(right);
        check().succeeds();
    }
    for wrong in ["\"//:lbi\"", "() => \"//:lbi\"", "7"] {
        option(wrong);
        let found = check();
        assert!(
            found.stdout.starts_with("tools/x.config.ts(2,"),
            "{wrong}: {}",
            found.stdout
        );
    }
    option("\"//:lib\"");
    project.write("BUILD.ts", &BUILD.replace("\"//:copy\"", "\"//:cpoy\""));
    let found = check();
    assert!(!found.status.success());
    assert!(
        found.stdout.starts_with("BUILD.ts(6,") && found.stdout.contains("//:cpoy"),
        "{}",
        found.stdout
    );
    project.write("BUILD.ts", &BUILD.replace("retries", "retires"));
    assert!(check().stdout.contains("retires"));
}

/// Checks all projects of a workspace, as an editor does with each file that is open.
fn type_check(typescript: &Path, project: &Project) -> Outcome {
    let mut tsc = Command::new("node");
    tsc.arg(typescript.join("tsc.js"))
        .current_dir(project.root());
    Outcome::of(tsc.args(["--build", "--pretty", "false"]))
}

/// A file of each kind, with the modules that it may import.
const KINDS: [(&str, &[&str]); 8] = [
    ("lib.ts", &["core"]),
    ("a.config.ts", &["core", "config"]),
    ("a.toolchain.ts", &["core", "toolchain"]),
    (
        "a.rule.ts",
        &["core", "rule", "rules", "rules/cc", "rules/cc.toolchain"],
    ),
    ("zako.ts", &["core", "package", "rules", "rules/cc"]),
    ("a/BUILD.ts", &["core", "build", "rules", "rules/cc"]),
    ("a.script.ts", &[]),
    ("scripts/a.ts", &[]),
];

/// A workspace with a library file, which its build file imports.
fn with_library() -> Project {
    let project = Project::with_build("import { lib } from \"./lib.ts\";\nexport default lib;\n");
    project.write("lib.ts", "export const lib = {};\n");
    project.zako(&["types"]).succeeds();
    project
}

#[test]
fn the_type_checker_flags_every_module_that_a_kind_of_file_may_not_import() {
    let project = with_library();
    let Some(typescript) = typescript() else {
        return;
    };
    let modules = [
        "core",
        "build",
        "package",
        "rule",
        "toolchain",
        "config",
        "rules",
        "rules/cc",
        "rules/cc.toolchain",
        "syscall",
    ];
    for (file, _) in KINDS {
        let line = |(n, module)| format!("import * as m{n} from \"zako:{module}\";\n");
        let imports: String = modules.iter().enumerate().map(line).collect();
        project.write(file, &format!("{imports}export const lib = {{}};\n"));
    }
    let said = type_check(typescript, &project).stdout;
    for (file, allowed) in KINDS {
        for (n, module) in modules.iter().enumerate() {
            let mistake = format!("Cannot find module 'zako:{module}'");
            let place = format!("{file}({},", n + 1);
            let mut lines = said.lines();
            let is_flagged = lines.any(|line| line.starts_with(&place) && line.contains(&mistake));
            assert_eq!(
                is_flagged,
                !allowed.contains(module),
                "zako:{module} in {file}:\n{said}"
            );
        }
    }
    // A rule may be made of what its users may not import, and is known to them all the same.
    let project = with_library();
    project.write(
        "a.toolchain.ts",
        "import { toolchain } from \"zako:toolchain\";\nexport const a = toolchain({ name: \"a\", select: () => ({ n: 1 }) });\n",
    );
    project.write(
        "a.rule.ts",
        "import { attr, rule } from \"zako:rule\";\nimport { a } from \"./a.toolchain.ts\";\nexport const r = rule({ name: \"r\", \
         toolchains: { a }, attrs: { n: attr.number() }, implementation(ctx) { ctx.toolchains.a.n.toFixed(); } });\n",
    );
    let uses = |attribute: &str| {
        let text = format!(
            "import {{ r }} from \"../a.rule.ts\";\nexport default {{ r: r({{ {attribute}: 1 }}) }};\n"
        );
        project.write("a/BUILD.ts", &text);
        type_check(typescript, &project)
    };
    uses("n").succeeds();
    let said = uses("m").stdout;
    assert!(
        said.starts_with("a/BUILD.ts(2,") && said.contains("'m' does not exist"),
        "{said}"
    );
}

#[test]
fn the_type_checker_flags_what_scripts_do_not_have() {
    let project = Project::with_build("export default {};\n");
    project.zako(&["types"]).succeeds();
    let Some(typescript) = typescript() else {
        return;
    };
    let there = "queueMicrotask(() => {});\nexport const version: string = executionContext.package.version + executionContext.context;\n\
                 Symbol.for(\"x\").description?.at(-1);\nexport const m = [...new Map([[1, 2n]]).values()].flatMap((x) => [x]);\n\
                 await Promise.allSettled([1]);\nnew Error(\"x\", { cause: new AggregateError([]) }).stack?.replaceAll(\"a\", \"b\");\n\
                 Object.fromEntries(Object.entries({ a: 1 })).a.toFixed();\nasync function* g() { yield 1; }\nexport { g };\n\
                 export default {};\n";
    project.write("BUILD.ts", there);
    type_check(typescript, &project).succeeds();
    project.build().succeeds();
    let absent = [
        "Math.random().toFixed();",
        "new Date().getTime();",
        "Date.now().toFixed();",
        "(await Promise.race([Promise.resolve(1)])).toFixed();",
        "Symbol(\"x\").description;",
        "new WeakRef({});",
        "new FinalizationRegistry(() => {});",
        "Atomics.add(null as any, 0, 1);",
        "new SharedArrayBuffer(1);",
        "\"a\".localeCompare(\"b\").toFixed();",
        "setTimeout(() => {}, 1);",
    ];
    project.write(
        "BUILD.ts",
        &format!("{}\nexport default {{}};\n", absent.join("\n")),
    );
    let said = type_check(typescript, &project).stdout;
    for (number, line) in absent.iter().enumerate() {
        let place = format!("BUILD.ts({},", number + 1);
        let mut found = said.lines();
        assert!(found.any(|it| it.starts_with(&place)), "{line}: {said}");
    }
}

/// The language server of editors.
struct Server {
    child: Child,
    answers: Receiver<Value>,
    asked: u64,
}

impl Server {
    fn start(typescript: &Path, project: &Project) -> Self {
        let mut node = Command::new("node");
        node.arg(typescript.join("tsserver.js"))
            .arg("--disableAutomaticTypingAcquisition");
        node.current_dir(project.root())
            .env("HOME", project.outside());
        let mut child = node
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (tell, answers) = mpsc::channel();
        std::thread::spawn(move || {
            let messages = lines.map_while(Result::ok);
            let messages = messages.filter_map(|line| serde_json::from_str(&line).ok());
            messages
                .map(|message| tell.send(message))
                .all(|told| told.is_ok())
        });
        Self {
            child,
            answers,
            asked: 0,
        }
    }

    fn tell(&mut self, command: &str, arguments: &Value) {
        self.asked += 1;
        let request = json!({ "seq": self.asked, "type": "request", "command": command, "arguments": arguments });
        writeln!(self.child.stdin.as_mut().unwrap(), "{request}").unwrap();
    }

    /// Its answer to a request.
    fn ask(&mut self, command: &str, arguments: &Value) -> Value {
        self.tell(command, arguments);
        loop {
            let message = self.answers.recv_timeout(Duration::from_secs(60)).unwrap();
            if message["request_seq"] == self.asked {
                return message["body"].clone();
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_editor_finds_the_project_of_each_kind_of_file() {
    let project = with_library();
    let Some(typescript) = typescript() else {
        return;
    };
    // A package with a project of its own for its sources.
    project.write("a/tsconfig.json", "{ \"include\": [\"src\"] }\n");
    project.write("a/src/a.ts", "export const a = 1;\n");
    for (file, _) in KINDS {
        project.write(file, "import * as m from \"zako:rule\";\nimport * as n from \"zako:\";\nexport const lib = {};\n");
    }
    let mut server = Server::start(typescript, &project);
    let kinds = [
        "library",
        "config",
        "toolchain",
        "rule",
        "package",
        "build",
        "script",
        "script",
    ];
    for ((file, modules), kind) in KINDS.into_iter().zip(kinds) {
        let file = json!({ "file": project.root().join(file) });
        server.tell("open", &file);
        let mut question = file.clone();
        question["needFileNameList"] = json!(false);
        let chosen = server.ask("projectInfo", &question);
        let chosen = chosen["configFileName"].as_str().unwrap();
        assert!(
            chosen.ends_with(&format!(".zako/types/tsconfig.{kind}.json")),
            "{file}: {chosen}"
        );
        let found = server.ask("semanticDiagnosticsSync", &file).to_string();
        assert_eq!(
            found.contains("'zako:rule'"),
            kind != "rule",
            "{file}: {found}"
        );
        let mut place = file.clone();
        (place["line"], place["offset"]) = (json!(2), json!(25));
        let offered = server.ask("completionInfo", &place);
        let offered = offered["entries"].as_array().cloned().unwrap_or_default();
        let names: Vec<_> = offered
            .iter()
            .filter_map(|entry| entry["name"].as_str())
            .collect();
        for module in ["build", "package", "rule", "toolchain", "config", "core"] {
            let is_offered = names.contains(&&*format!("zako:{module}"));
            assert_eq!(
                is_offered,
                modules.contains(&module),
                "{module} in {file}: {names:?}"
            );
        }
    }
}

#[test]
fn a_second_run_that_fails_leaves_what_people_made() {
    let project = Project::new();
    let script = "mkdir -p dist; echo out > dist/out; echo more >> dist/notes; echo run >> $RAN; test $(wc -l < $RAN) = 1";
    let package = serde_json::json!({ "name": "p", "scripts": { "build": script } });
    project.write("package.json", &package.to_string());
    project.write(".gitignore", "dist\n");
    project.write("dist/notes", "mine\n");
    project
        .zako(&["build", "--check-determinism", "2"])
        .fails_saying(&["//:build"]);
    assert!(project.read("dist/notes").starts_with("mine\n"));
}
