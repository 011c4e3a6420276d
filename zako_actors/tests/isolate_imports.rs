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
    let kinds = [
        ("BUILD.ts", ContextKind::Build, "zako:build"),
        ("zako.ts", ContextKind::Package, "zako:package"),
        ("cc.rule.ts", ContextKind::Rule, "zako:rule"),
        ("gcc.toolchain.ts", ContextKind::Toolchain, "zako:toolchain"),
        ("x.config.ts", ContextKind::Config, "zako:config"),
    ];
    for (entry, context, own) in kinds {
        assert!(evaluate(&[(entry, &import(own))], entry, context).is_ok());
        for (_, _, other) in kinds.iter().filter(|kind| kind.2 != own) {
            refused(
                &[(entry, &import(other))],
                context,
                &[&format!("`{other}` is not available in"), own],
            );
        }
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
fn build_files_import_libraries_and_rules_only() {
    for (path, what) in [
        ("other/BUILD.ts", "a build file (BUILD.ts)"),
        ("zako.ts", "the package root (zako.ts)"),
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
fn nothing_that_rules_are_made_of_imports_what_uses_it() {
    use ContextKind::{Config, Rule, Toolchain};
    for (context, entry, refused_paths) in [
        (
            Rule,
            "a.rule.ts",
            &["BUILD.ts", "zako.ts", "x.script.ts"][..],
        ),
        (
            Toolchain,
            "a.toolchain.ts",
            &["b.rule.ts", "BUILD.ts", "zako.ts", "x.script.ts"],
        ),
        (
            Config,
            "a.config.ts",
            &["b.rule.ts", "b.toolchain.ts", "BUILD.ts", "zako.ts"],
        ),
    ] {
        for path in refused_paths {
            let source = format!("import './{path}';");
            let expected = format!("`{path}` is ");
            refused(
                &[(entry, &source), (path, "export {};")],
                context,
                &[&expected, "cannot import"],
            );
        }
    }
    let files = [
        (
            "a.rule.ts",
            "import './b.rule'; import './t.toolchain'; import './c.config'; import './lib'; export default 1;",
        ),
        (
            "b.rule.ts",
            "import { attr } from 'zako:rule'; export const a = attr;",
        ),
        (
            "t.toolchain.ts",
            "import './c.config'; import 'zako:toolchain'; export {};",
        ),
        (
            "c.config.ts",
            "import './lib'; import 'zako:config'; export {};",
        ),
        ("lib.ts", "export {};"),
    ];
    assert_eq!(evaluate(&files, "a.rule.ts", Rule).unwrap(), 1);
}

#[test]
fn rules_that_ship_are_there_for_build_files_and_rules() {
    let source = "import * as rules from 'zako:rules';\nexport default Object.keys(rules).sort();";
    let names = evaluate(&[("BUILD.ts", source)], "BUILD.ts", ContextKind::Build).unwrap();
    for name in [
        "archive",
        "bundle",
        "ccBinary",
        "copy",
        "fileGroup",
        "npmInstall",
        "shell",
        "tsLibrary",
    ] {
        assert!(
            names.as_array().unwrap().iter().any(|n| n == name),
            "{name} in {names}"
        );
    }
    refused(
        &[(
            "BUILD.ts",
            "import { cc } from 'zako:rules/c';\nexport default cc;",
        )],
        ContextKind::Build,
        &[
            "there is no module `zako:rules/c`",
            "did you mean `zako:rules/cc`?",
        ],
    );
    refused(
        &[("lib.config.ts", "import 'zako:rules';")],
        ContextKind::Config,
        &["`zako:rules` is not available in a configuration file"],
    );
}

#[test]
fn a_rule_cannot_be_passed_off_as_another_files() {
    let source =
        "const m = await import('zako:rule?other.rule.ts');\nexport default Object.keys(m);";
    let error = evaluate(&[("a.rule.ts", source)], "a.rule.ts", ContextKind::Rule).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("there is no module `zako:rule?other.rule.ts`"),
        "{error}"
    );
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
fn a_computed_specifier_is_found_while_the_file_runs() {
    for computed in [
        "'./' + 'lib.ts'",
        "\"./\" + `lib.ts`",
        "'./l\\x69b.ts'",
        "(\"./\" + 'lib.ts')",
    ] {
        let build = format!("const lib: any = await import({computed});\nexport default lib.a;");
        let files = [("BUILD.ts", &*build), ("lib.ts", "export const a = 1;")];
        let evaluation = Workspace::new(&files).evaluate("BUILD.ts");
        let evaluation = evaluation.unwrap_or_else(|error| panic!("{computed}: {error}"));
        assert_eq!(evaluation.value, 1, "{computed}");
        assert_eq!(evaluation.modules.len(), 2, "{computed}");
    }
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
    // What a type checker lets be is let be; both ways in one evaluation.
    let both = [
        (
            "BUILD.ts",
            "import { type } from './lib.ts';\nimport data from './data.json';\nimport again from './data.json' with { type: 'json' };\n\
             const later = await import('./data.json');\nexport default [type, data.a, again.a, later.default.a, data.__proto__.x];",
        ),
        (
            "lib.ts",
            "import data from './data.json' with { type: 'json' };\nexport const type = typeof data;",
        ),
        (
            "data.json",
            "{ \"a\": [1, \"\u{2028}\"], \"__proto__\": { \"x\": 3 } }",
        ),
    ];
    let evaluation = Workspace::new(&both).evaluate("BUILD.ts").unwrap();
    let list = serde_json::json!([1, "\u{2028}"]);
    assert_eq!(
        evaluation.value,
        serde_json::json!(["object", list, list, list, 3])
    );
    refused(
        &[
            (
                "BUILD.ts",
                "import data from './data.json';\nexport default data;",
            ),
            ("data.json", "{\n  \"a\": }"),
        ],
        ContextKind::Build,
        &["`data.json` is not JSON", "--> data.json:2:8"],
    );
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
