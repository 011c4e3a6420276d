//! The build language: what it returns, and what it says about mistakes.

mod isolate_support;

use isolate_support::{Workspace, error_text, value};
use serde_json::json;
use zako_actors::isolate::{ContextKind, EvaluateRequest, FailureKind};

#[test]
fn targets_become_plain_json() {
    let value = value(
        r#"
        import { glob, target, test, transpile } from "zako:build";
        export default {
          build: target({
            cmd: ["tsc", "-b"], srcs: [glob("src/**", { exclude: "**/*.test.ts" }), "./tsconfig.json"],
            deps: "//libs/core", outs: "dist/", env: { CI: "1" }, timeout: "2m", uses: { cpu: 2, memory: "1g" },
          }),
          unit: test({ cmd: ["vitest"], deps: [":build"], retries: 2 }),
          js: transpile({ srcs: glob("src/**"), root: "src", out: "dist/esm/", module: "commonjs", sourceMaps: false }),
        };
        "#,
    );
    assert_eq!(
        value["build"],
        json!({
            "$zako": "command",
            "cmd": ["tsc", "-b"],
            "srcs": [{ "$glob": { "include": ["src/**"], "exclude": ["**/*.test.ts"] } }, "tsconfig.json"],
            "deps": ["//libs/core"],
            "outs": ["dist/"],
            "env": { "CI": "1" },
            "timeoutSeconds": 120,
            "uses": { "cpu": 2, "memory": "1g" },
        })
    );
    assert_eq!(value["unit"]["$zako"], "test");
    assert_eq!(value["unit"]["retries"], 2);
    assert_eq!(value["js"]["out"], "dist/esm");
    assert_eq!(value["js"]["module"], "commonjs");
    assert_eq!(value["js"]["sourceMaps"], false);
}

#[test]
fn the_package_root_describes_the_workspace() {
    let workspace = Workspace::new(&[(
        "zako.ts",
        r#"
        import { target, workspace } from "zako:package";
        export default workspace({ builds: ["libs/*/BUILD.ts"], env: { LANG: "C" }, targets: { fmt: target({ cmd: ["fmt"] }) } });
        "#,
    )]);
    let mut evaluator = workspace.evaluator;
    let request = EvaluateRequest::new(workspace.root.path(), "zako.ts", ContextKind::Package);
    let value = evaluator.evaluate(&request).unwrap().value;
    assert_eq!(value["$zako"], "workspace");
    assert_eq!(value["builds"], json!(["libs/*/BUILD.ts"]));
    assert_eq!(value["targets"]["fmt"]["cmd"], json!(["fmt"]));
}

#[test]
fn misspelt_keys_name_the_nearest() {
    let text = error_text(
        "import { target } from \"zako:build\";\n\nexport default {\n  a: target({ cmd: [\"x\"], srsc: [] }),\n};\n",
    );
    assert!(text.contains("target(): unknown key `srsc`"), "{text}");
    assert!(text.contains("--> BUILD.ts:4:6"), "{text}");
    assert!(text.contains("did you mean `srcs`?"), "{text}");
}

#[test]
fn wrong_arguments_say_what_to_write() {
    for (call, message, help) in [
        (
            "target({ cmd: 'tsc -b' })",
            "expected a list of words",
            "[\"tsc\",\"-b\"]",
        ),
        ("target({})", "`cmd` is missing", "write cmd:"),
        (
            "target({ cmd: ['a', 1] })",
            "cmd[1]: expected a string, got 1",
            "\"1\"",
        ),
        (
            "target({ cmd: ['a'], srcs: 'src/**' })",
            "looks like a pattern",
            "glob(\"src/**\")",
        ),
        (
            "target({ cmd: ['a'], srcs: ['../x'] })",
            "leaves the package",
            "deps:",
        ),
        (
            "target({ cmd: ['a'], outs: ['/tmp'] })",
            "is absolute",
            "relative to the package",
        ),
        (
            "target({ cmd: ['a'], deps: ['build'] })",
            "\"build\" is not a label",
            "\":target\"",
        ),
        (
            "target({ cmd: ['a'], deps: ['//a/../b:c'] })",
            "contains `..`",
            "workspace root",
        ),
        (
            "target({ cmd: ['a'], env: { A: 1 } })",
            "env.A: expected a string, got 1",
            "A: \"1\"",
        ),
        (
            "target({ cmd: ['a'], timeout: '5 minutes' })",
            "cannot read the duration",
            "\"5m\"",
        ),
        (
            "test({ cmd: ['a'], retries: -1 })",
            "whole number from 0 to 20",
            "",
        ),
        ("transpile({ srcs: 'a.ts' })", "`out` is missing", ""),
        (
            "transpile({ srcs: 'a.ts', out: 'o', module: 'comonjs' })",
            "expected one of",
            "\"commonjs\"",
        ),
        ("glob()", "no pattern given", ""),
        ("target(5)", "expected an object, got 5", ""),
    ] {
        let text = error_text(&format!(
            "import {{ glob, target, test, transpile }} from \"zako:build\";\nexport default {{ a: {call} }};\n"
        ));
        assert!(text.contains(message), "{call}: {text}");
        assert!(text.contains(help), "{call}: {text}");
        assert!(text.contains("--> BUILD.ts:2:"), "{call}: {text}");
    }
}

#[test]
fn exceptions_point_at_the_source() {
    let mut workspace = Workspace::new(&[
        (
            "BUILD.ts",
            "import { f } from './lib/f';\n\ninterface Gone { a: number }\n\nexport default { a: f(1) };\n",
        ),
        (
            "lib/f.ts",
            "type Gone = string;\n\nexport function f(n: number): never {\n  throw new RangeError('too ' + n);\n}\n",
        ),
    ]);
    let error = workspace.evaluate("BUILD.ts").unwrap_err();
    assert_eq!(error.kind, FailureKind::Exception);
    let text = error.to_string();
    assert!(text.contains("RangeError: too 1"), "{text}");
    assert!(text.contains("--> lib/f.ts:4:"), "{text}");
    assert!(text.contains("throw new RangeError('too ' + n);"), "{text}");
    assert!(text.contains("BUILD.ts:5:21"), "{text}");
    assert!(
        !text.contains(&*workspace.root.path().to_string_lossy()),
        "{text}"
    );
}

#[test]
fn every_syntax_error_is_reported() {
    let mut workspace = Workspace::new(&[
        ("BUILD.ts", "import './a'; import './b'; export default {};"),
        ("a.ts", "const x = ;"),
        ("b.ts", "let y = 1;\nlet y = 2;"),
    ]);
    let error = workspace.evaluate("BUILD.ts").unwrap_err();
    assert_eq!(error.kind, FailureKind::Source);
    let text = error.to_string();
    assert!(
        text.contains("--> a.ts:1:11") && text.contains("--> b.ts:"),
        "{text}"
    );
}

#[test]
fn values_without_json_name_their_path() {
    for (value, message) in [
        (
            "{ build: { cmd: ['a', () => 1] } }",
            "`default.build.cmd[1]` is a function",
        ),
        ("{ a: 1n }", "`default.a` is a bigint"),
        (
            "{ 'a b': Symbol.for('x') }",
            "`default[\"a b\"]` is a symbol",
        ),
        ("{ a: new Map() }", "`default.a` is a Map"),
        ("{ a: NaN }", "`default.a` is NaN"),
        ("{ a: Promise.resolve(1) }", "`default.a` is a promise"),
        (
            "{ a: new (class Foo {})() }",
            "`default.a` is an instance of Foo",
        ),
        (
            "(() => { const o: any = {}; o.o = o; return o; })()",
            "refers to itself",
        ),
        (
            "{ get a() { throw new Error('no'); } }",
            "`default.a` is unreadable",
        ),
    ] {
        let text = error_text(&format!("export default {value};"));
        assert!(text.contains(message), "{value}: {text}");
    }
    assert!(error_text("export const a = 1;").contains("no default export"));
    assert_eq!(
        value("export default { a: undefined, b: [1, 2.5, null, true, 'é'] };"),
        json!({ "b": [1, 2.5, null, true, "é"] })
    );
}

#[test]
fn logs_context_and_modules_are_returned() {
    let workspace = Workspace::new(&[
        (
            "BUILD.ts",
            "import { log, version } from 'zako:core'; import { contextName } from 'zako:rt'; import { n } from './n';\nlog.warn('careful', n); console.log({ a: 1 });\nexport default { n, context: executionContext, version, name: contextName() };",
        ),
        ("n.ts", "export const n: number = 1;"),
    ]);
    let mut request = workspace.request("BUILD.ts");
    request.execution_context = json!({ "os": "linux" });
    let mut evaluator = workspace.evaluator;
    let evaluation = evaluator.evaluate(&request).unwrap();
    assert_eq!(evaluation.value["context"]["os"], "linux");
    assert_eq!(evaluation.value["name"], "build");
    assert_eq!(evaluation.value["version"], env!("CARGO_PKG_VERSION"));
    let logs: Vec<&str> = evaluation
        .logs
        .iter()
        .map(|line| line.message.as_str())
        .collect();
    assert_eq!(logs, ["careful 1", "{\"a\":1}"]);
    let paths: Vec<&str> = evaluation
        .modules
        .iter()
        .map(|module| module.path.as_str())
        .collect();
    assert_eq!(paths, ["BUILD.ts", "n.ts"]);
    assert_eq!(
        evaluation.modules[1].digest,
        blake3::hash(b"export const n: number = 1;")
            .to_hex()
            .as_str()
    );
}
