//! Import rules: what each kind of file may import, and what the refusal says.

mod isolate_support;

use isolate_support::Workspace;
use zako_actors::isolate::{ContextKind, EvaluateError, EvaluateRequest, FailureKind};

fn evaluate(
    files: &[(&str, &str)],
    entry: &str,
    context: ContextKind,
) -> Result<serde_json::Value, EvaluateError> {
    let mut workspace = Workspace::new(files);
    let request = EvaluateRequest::new(workspace.root.path(), entry, context);
    workspace
        .evaluator
        .evaluate(&request)
        .map(|evaluation| evaluation.value)
}

#[track_caller]
fn refused(files: &[(&str, &str)], context: ContextKind, expected: &[&str]) {
    let error = evaluate(files, files[0].0, context).unwrap_err();
    assert_eq!(error.kind, FailureKind::Source);
    let text = error.to_string();
    for part in expected {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}

#[test]
fn libraries_get_zako_core_only() {
    refused(
        &[
            ("BUILD.ts", "import './lib';\nexport default {};"),
            (
                "lib.ts",
                "const a = 1;\nimport { target } from 'zako:build';\nexport { target, a };",
            ),
        ],
        ContextKind::Build,
        &[
            "`zako:build` is not available in a library file",
            "--> lib.ts:2:24",
            "^^^^^^^^^^^^",
            "a library file may import library files (*.ts) and zako:core",
        ],
    );
    let ok = evaluate(
        &[
            ("BUILD.ts", "import { v } from './lib';\nexport default v;"),
            (
                "lib.ts",
                "import { satisfies } from 'zako:core'; export const v = satisfies('1.2.3', '^1');",
            ),
        ],
        "BUILD.ts",
        ContextKind::Build,
    );
    assert_eq!(ok.unwrap(), true);
}

#[test]
fn contexts_have_their_own_modules() {
    let import = |module: &str| {
        format!("import * as m from '{module}';\nexport default Object.keys(m).sort();")
    };
    for (entry, context, own, other) in [
        ("BUILD.ts", ContextKind::Build, "zako:build", "zako:package"),
        (
            "zako.ts",
            ContextKind::Package,
            "zako:package",
            "zako:build",
        ),
    ] {
        assert!(evaluate(&[(entry, &import(own))], entry, context).is_ok());
        refused(
            &[(entry, &import(other))],
            context,
            &[&format!("`{other}` is not available in"), own],
        );
        for core in [
            "zako:core",
            "zako:console",
            "zako:semver",
            "zako:rt",
            "zako:global",
        ] {
            assert!(
                evaluate(&[(entry, &import(core))], entry, context).is_ok(),
                "{entry} {core}"
            );
        }
    }
}

#[test]
fn later_contexts_say_that_they_come_later() {
    for (entry, context, module) in [
        ("cc.rule.ts", ContextKind::Rule, "zako:rule"),
        ("gcc.toolchain.ts", ContextKind::Toolchain, "zako:toolchain"),
        ("x.config.ts", ContextKind::Config, "zako:config"),
    ] {
        let source = format!("import {{ a }} from '{module}'; export default a;");
        refused(
            &[(entry, &source)],
            context,
            &["is not implemented in this version"],
        );
        refused(
            &[(entry, "import 'zako:build'; export default 1;")],
            context,
            &["`zako:build` is not available in"],
        );
        assert_eq!(
            evaluate(
                &[(entry, "import 'zako:core'; export default 1;")],
                entry,
                context
            )
            .unwrap(),
            1
        );
    }
}

#[test]
fn build_files_import_libraries_only() {
    for (path, what) in [
        ("other/BUILD.ts", "a build file (BUILD.ts)"),
        ("zako.ts", "the package root (zako.ts)"),
        ("cc.rule.ts", "a rule file"),
        ("gcc.toolchain.ts", "a toolchain file"),
        ("x.config.ts", "a configuration file"),
        ("x.script.ts", "a script"),
        ("scripts/x.ts", "a script"),
    ] {
        refused(
            &[
                (
                    "BUILD.ts",
                    &format!("import './{path}';\nexport default {{}};"),
                ),
                (path, "export {};"),
            ],
            ContextKind::Build,
            &[
                &format!("`{path}` is {what}"),
                "--> BUILD.ts:1:8",
                "cannot import",
            ],
        );
    }
}

#[test]
fn type_imports_are_free() {
    let files = [
        (
            "BUILD.ts",
            "import type { A } from './other/BUILD';\nimport { type B } from './lib';\nconst a: A | B = 1;\nexport default a;",
        ),
        ("lib.ts", "export type B = number;"),
    ];
    assert_eq!(evaluate(&files, "BUILD.ts", ContextKind::Build).unwrap(), 1);
}

#[test]
fn unknown_imports_name_the_nearest() {
    refused(
        &[
            (
                "a/BUILD.ts",
                "import { x } from '../lib/helpr';\nexport default x;",
            ),
            ("lib/helper.ts", "export const x = 1;"),
        ],
        ContextKind::Build,
        &[
            "cannot find `../lib/helpr`",
            "--> a/BUILD.ts:1:19",
            "did you mean \"../lib/helper.ts\"?",
        ],
    );
    refused(
        &[(
            "BUILD.ts",
            "import { target } from 'zako:biuld';\nexport default target;",
        )],
        ContextKind::Build,
        &[
            "there is no module `zako:biuld`",
            "did you mean `zako:build`?",
        ],
    );
}

#[test]
fn specifiers_resolve_as_in_typescript() {
    let files = [
        (
            "BUILD.ts",
            "import { a } from './a'; import { b } from './b.ts'; import { c } from './c.js'; import { d } from './d'; import { e } from './e.mjs';\nexport default [a, b, c, d, e, (await import('./a')).a];",
        ),
        ("a.ts", "export const a: number = 1;"),
        ("b.ts", "export const b: number = 2;"),
        ("c.ts", "export const c: number = 3;"),
        ("d/index.ts", "export { d } from '../lib/d';"),
        ("lib/d.ts", "export const d: number = 4;"),
        ("e.mjs", "export const e = 5;"),
    ];
    assert_eq!(
        evaluate(&files, "BUILD.ts", ContextKind::Build).unwrap(),
        serde_json::json!([1, 2, 3, 4, 5, 1])
    );
}

#[test]
fn cycles_between_libraries_work() {
    let files = [
        (
            "BUILD.ts",
            "import { even } from './even'; export default [even(10), even(7)];",
        ),
        (
            "even.ts",
            "import { odd } from './odd'; export function even(n: number): boolean { return n === 0 || odd(n - 1) }",
        ),
        (
            "odd.ts",
            "import { even } from './even'; export function odd(n: number): boolean { return n !== 0 && even(n - 1) }",
        ),
    ];
    assert_eq!(
        evaluate(&files, "BUILD.ts", ContextKind::Build).unwrap(),
        serde_json::json!([true, false])
    );
}

#[test]
fn nothing_outside_the_workspace_is_read() {
    refused(
        &[("a/BUILD.ts", "import '../../outside';\nexport default {};")],
        ContextKind::Build,
        &["`../../outside` leaves the workspace", "--> a/BUILD.ts:1:8"],
    );
    for entry in [
        "../BUILD.ts",
        "/etc/passwd",
        "a//BUILD.ts",
        "./BUILD.ts",
        "",
    ] {
        assert!(
            evaluate(
                &[("BUILD.ts", "export default 1;")],
                entry,
                ContextKind::Build
            )
            .is_err(),
            "{entry}"
        );
    }
}

#[cfg(unix)]
#[test]
fn symbolic_links_do_not_leave_the_workspace() {
    use std::os::unix::fs::symlink;
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret.ts"), "export const secret = 1;").unwrap();
    let mut workspace = Workspace::new(&[
        (
            "BUILD.ts",
            "import { secret } from './link';\nexport default secret;",
        ),
        (
            "dir.BUILD.ts",
            "import { secret } from './linked/secret';\nexport default secret;",
        ),
        (
            "inside.ts",
            "import { a } from './alias';\nexport default a;",
        ),
        ("real.ts", "export const a = 1;"),
    ]);
    let root = workspace.root.path().to_owned();
    symlink(outside.path().join("secret.ts"), root.join("link.ts")).unwrap();
    symlink(outside.path(), root.join("linked")).unwrap();
    symlink(root.join("real.ts"), root.join("alias.ts")).unwrap();
    symlink(outside.path().join("secret.ts"), root.join("entry.ts")).unwrap();
    for entry in ["BUILD.ts", "dir.BUILD.ts", "entry.ts"] {
        let text = workspace.evaluate(entry).unwrap_err().to_string();
        assert!(
            text.contains("symbolic link that leaves the workspace"),
            "{entry}: {text}"
        );
    }
    assert_eq!(workspace.evaluate("inside.ts").unwrap().value, 1);
}

#[test]
fn failures_list_what_was_read_and_what_was_missing() {
    let mut workspace = Workspace::new(&[
        (
            "BUILD.ts",
            "import './lib';\nimport './gone';\nexport default {};",
        ),
        ("lib.ts", "export {};"),
    ]);
    let error = workspace.evaluate("BUILD.ts").unwrap_err();
    assert!(
        error
            .inputs
            .modules
            .iter()
            .any(|module| module.path == "BUILD.ts")
    );
    assert!(error.inputs.absent.contains(&"gone.ts".to_owned()));
    let error = workspace.evaluate("missing/BUILD.ts").unwrap_err();
    assert!(error.to_string().contains("cannot read `missing/BUILD.ts`"));
    assert_eq!(error.inputs.absent, ["missing/BUILD.ts"]);
}

#[test]
fn json_files_are_data() {
    let files = [
        (
            "BUILD.ts",
            "import data from './data.json' with { type: 'json' };\nexport default data.a;",
        ),
        ("data.json", "{ \"a\": [1, 2] }"),
    ];
    let mut workspace = Workspace::new(&files);
    let evaluation = workspace.evaluate("BUILD.ts").unwrap();
    assert_eq!(evaluation.value, serde_json::json!([1, 2]));
    assert_eq!(evaluation.modules[1].path, "data.json");
    refused(
        &[files[0], ("data.json", "{\n  \"a\": }")],
        ContextKind::Build,
        &["`data.json` is not JSON", "--> data.json:2:8"],
    );
    refused(
        &[
            ("BUILD.ts", "import './logo.svg';\nexport default 1;"),
            ("logo.svg", "<svg/>"),
        ],
        ContextKind::Build,
        &["cannot find `./logo.svg`", "the file exists, but only"],
    );
}

#[test]
fn an_edit_between_evaluations_is_seen() {
    let mut workspace = Workspace::new(&[
        ("BUILD.ts", "import { a } from './lib';\nexport default a;"),
        ("lib.ts", "export const a: number = 1;"),
    ]);
    assert_eq!(workspace.evaluate("BUILD.ts").unwrap().value, 1);
    std::fs::write(
        workspace.root.path().join("lib.ts"),
        "export const a: number = 2;",
    )
    .unwrap();
    assert_eq!(workspace.evaluate("BUILD.ts").unwrap().value, 2);
}
