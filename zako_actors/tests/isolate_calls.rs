//! Rules called again and again: what is shared between calls, and that nobody can tell.

mod isolate_support;

use isolate_support::Workspace;
use serde_json::{Value, json};
use zako_actors::isolate::{
    ContextKind, EvaluateError, EvaluateRequest, Evaluation, FailureKind, IsolatePool,
};
use zako_actors::machine::PoolSize;

/// A rule file with `top` above the rule, whose implementation is `body`; it answers with what `seen` is.
fn rule(top: &str, body: &str) -> String {
    format!(
        "import {{ attr, provider, rule }} from 'zako:rule';\n\
         import {{ log }} from 'zako:core';\n\
         const Info = provider<unknown>('Info');\n{top}\n\
         export const r = rule({{ name: 'r', attrs: {{ srcs: attr.sources() }}, async implementation(ctx) {{\n\
         let seen: unknown = null;\n{body}\n\
         return {{ files: [], provides: [Info(seen)] }}; }} }});"
    )
}

fn request(workspace: &Workspace) -> EvaluateRequest {
    let root = workspace.root.path();
    let mut request = EvaluateRequest::new(root, "r.rule.ts", ContextKind::Rule);
    let target = json!({ "label": "//a:t", "dir": "a", "name": "t", "known": {},
        "attrs": { "srcs": { "$files": [{ "$file": "a/x.c" }] } } });
    request.call = Some(
        json!({ "kind": "rule", "file": "r.rule.ts", "rule": "r", "config": {},
        "toolchains": {}, "targets": [target] }),
    );
    request
}

fn call(workspace: &mut Workspace) -> Result<Evaluation, EvaluateError> {
    let request = request(workspace);
    workspace.evaluator.evaluate(&request)
}

/// What the implementation saw.
fn seen(result: Result<Evaluation, EvaluateError>) -> Value {
    match result {
        Ok(mut evaluation) => evaluation.value[0]["providers"]["r.rule.ts#Info"].take(),
        Err(error) => panic!("{error}"),
    }
}

fn workspace(rule: &str) -> Workspace {
    Workspace::new(&[("r.rule.ts", rule)])
}

#[test]
fn a_rule_that_keeps_nothing_is_loaded_once() {
    let mut workspace = workspace(&rule(
        "const FLAGS = ['-O2'];",
        "log('called'); seen = FLAGS;",
    ));
    for _ in 0..3 {
        let evaluation = call(&mut workspace).unwrap();
        assert_eq!(evaluation.logs.len(), 1);
        assert_eq!(evaluation.modules.len(), 1);
        assert_eq!(seen(Ok(evaluation)), json!(["-O2"]));
    }
    assert_eq!(workspace.evaluator.figures().runtimes, 1);
    workspace.evaluator.collect_garbage();
    assert_eq!(seen(call(&mut workspace)), json!(["-O2"]));
    assert_eq!(workspace.evaluator.figures().runtimes, 2);
}

#[test]
fn another_file_joins_the_runtime_that_is_there() {
    let text = rule("", "log('called'); seen = ctx.label.name;");
    let mut workspace = Workspace::new(&[("r.rule.ts", &text), ("s.rule.ts", &text)]);
    let first = request(&workspace);
    let mut second = first.clone();
    second.entry = "s.rule.ts".into();
    second.call.as_mut().unwrap()["file"] = json!("s.rule.ts");
    for (request, file) in [(&first, "r"), (&second, "s"), (&first, "r"), (&second, "s")] {
        let evaluation = workspace.evaluator.evaluate(request).unwrap();
        let providers = &evaluation.value[0]["providers"];
        assert_eq!(providers[format!("{file}.rule.ts#Info")], "t");
        assert_eq!(evaluation.logs.len(), 1, "those of one call");
    }
    assert_eq!(workspace.evaluator.figures().runtimes, 1);
}

#[test]
fn a_call_is_passed_as_it_is() {
    let value = json!({ "": [null, true, -0.5, 1e300, "\u{0}\u{2028}\u{1F600}"], "\"": {} });
    let mut workspace = workspace(&rule("", "seen = ctx.attrs.given;"));
    let mut request = request(&workspace);
    let target = &mut request.call.as_mut().unwrap()["targets"][0];
    target["attrs"]["given"] = json!([value]);
    assert_eq!(seen(workspace.evaluator.evaluate(&request)), json!([value]));
}

#[test]
fn all_answers_come_in_the_order_of_their_requests() {
    let workspace = workspace(&rule(
        "",
        "if (ctx.label.name === 't3') throw new Error('t3'); seen = ctx.label.name;",
    ));
    let system = actor_rt::System::new().unwrap();
    let pool = IsolatePool::new(&system, PoolSize::fixed(2));
    let requests = (0..8).map(|number| {
        let mut request = request(&workspace);
        request.call.as_mut().unwrap()["targets"][0]["name"] = json!(format!("t{number}"));
        request
    });
    for (number, answer) in pool.evaluate_all(requests).into_iter().enumerate() {
        let answer = answer.unwrap();
        if number == 3 {
            assert_eq!(answer.unwrap_err().kind, FailureKind::Exception);
        } else {
            assert_eq!(seen(answer), format!("t{number}"));
        }
    }
}

#[test]
fn every_rule_that_ships_is_loaded_once() {
    for (file, name) in [
        ("zako:rules/files.rule.ts", "file_group"),
        ("zako:rules/shell.rule.ts", "shell"),
        ("zako:rules/typescript.rule.ts", "ts_library"),
        ("zako:rules/npm.rule.ts", "npm_install"),
        ("zako:rules/cc.rule.ts", "cc_library"),
    ] {
        let mut workspace = Workspace::new(&[]);
        let mut request = EvaluateRequest::new(workspace.root.path(), file, ContextKind::Rule);
        request.call = Some(
            json!({ "kind": "rule", "file": file, "rule": name, "config": {},
            "toolchains": {}, "targets": [] }),
        );
        for _ in 0..2 {
            workspace.evaluator.evaluate(&request).unwrap();
        }
        assert_eq!(workspace.evaluator.figures().runtimes, 1, "{file}");
    }
}

#[test]
fn a_rule_that_might_keep_something_is_loaded_each_time() {
    for (top, body) in [
        ("let n = 0;", "seen = ++n;"),
        (
            "const cache = new Map();",
            "seen = cache.size + 1; cache.set(cache.size, 1);",
        ),
        (
            "const next = (() => { let n = 0; return () => ++n; })();",
            "seen = next();",
        ),
        (
            "class Box { static #n = 0; static next() { return ++Box.#n; } }",
            "seen = Box.next();",
        ),
        (
            "const words = /x/g;",
            "seen = words.lastIndex + 1; words.test('x');",
        ),
        (
            "",
            "(import.meta as any).n = ((import.meta as any).n ?? 0) + 1; seen = (import.meta as any).n;",
        ),
        ("log('loaded');", "seen = 1;"),
    ] {
        let mut workspace = workspace(&rule(top, body));
        for _ in 0..2 {
            assert_eq!(seen(call(&mut workspace)), 1, "{top} {body}");
        }
        assert_eq!(workspace.evaluator.figures().runtimes, 2, "{top} {body}");
    }
}

#[test]
fn data_cannot_be_changed_by_whichever_name() {
    for (top, data) in [
        (
            "import data from './data.json' with { type: 'json' };",
            "data",
        ),
        (
            "import * as all from './data.json' with { type: 'json' };",
            "all.default",
        ),
    ] {
        let text = rule(top, &format!("seen = {data}.list.push(1);"));
        let files = [("r.rule.ts", &*text), ("data.json", r#"{"list": []}"#)];
        let mut workspace = Workspace::new(&files);
        let call = request(&workspace);
        let refused = workspace.evaluator.evaluate(&call).unwrap_err();
        let told = refused.diagnostics[0].to_string();
        assert!(told.contains("not extensible"), "{top}: {told}");
    }
}

/// What might be kept, above a rule and in it, which counts from 1.
const KEPT: &[(&str, &str)] = &[
    ("let n = 0;", "seen = ++n;"),
    ("var n = 0;", "seen = ++n;"),
    (
        "const cache = new Map();",
        "seen = cache.set(cache.size, 1).size;",
    ),
    (
        "const list: number[] = [...[]].map((x) => x);",
        "seen = list.push(1);",
    ),
    ("class Box { static n = 0; }", "seen = ++Box.n;"),
    (
        "class Box { static #n = 0; static next() { return ++Box.#n; } }",
        "seen = Box.next();",
    ),
    (
        "namespace Box { export const o = { n: 0 }; }",
        "seen = ++Box.o.n;",
    ),
    (
        "enum Box { n }",
        "seen = ((Box as any).m ?? 0) + 1; (Box as any).m = seen;",
    ),
    (
        "const next = (() => { let n = 0; return () => ++n; })();",
        "seen = next();",
    ),
    (
        "const next = (function* () { let n = 0; for (;;) yield ++n; })();",
        "seen = next.next().value;",
    ),
    (
        "const words = /x/g;",
        "seen = words.lastIndex + 1; words.test('x');",
    ),
    (
        "const words = /x/y;",
        "seen = words.lastIndex + 1; words.test('x');",
    ),
    (
        "let count: any = () => 1; count = count;",
        "seen = count.n = (count.n ?? 0) + 1;",
    ),
    ("const [box] = [{ n: 0 }];", "seen = ++box.n;"),
    ("import { kept } from './lib.ts';", "seen = kept();"),
    (
        "import { data } from './data.ts';",
        "seen = data.list.push(1);",
    ),
    (
        "",
        "(import.meta as any).n = ((import.meta as any).n ?? 0) + 1; seen = (import.meta as any).n;",
    ),
    (
        "",
        "const it: any = await import('./lib.ts'); seen = it.kept();",
    ),
];

#[test]
fn no_target_sees_what_a_rule_did_for_another_of_the_same_call() {
    for (top, body) in KEPT {
        let text = rule(top, &format!("{body} log('called');"));
        let lib = "let n = 0;\nconsole.log('loaded');\nexport const kept = () => ++n;";
        let data = "export { default as data } from './data.json' with { type: 'json' };";
        let mut workspace = Workspace::new(&[
            ("r.rule.ts", &text),
            ("lib.ts", lib),
            ("data.ts", data),
            ("data.json", r#"{"list": []}"#),
        ]);
        let mut several = request(&workspace);
        let targets = several.call.as_mut().unwrap()["targets"].as_array_mut();
        let targets = targets.unwrap();
        for name in ["u", "v"] {
            let mut another = targets[0].clone();
            another["label"] = json!(format!("//a:{name}"));
            targets.push(another);
        }
        let evaluation = workspace.evaluator.evaluate(&several).unwrap();
        let answers = evaluation.value.as_array().unwrap();
        let label = |answer: &Value| answer["label"].clone();
        let labels: Vec<Value> = answers.iter().map(label).collect();
        assert_eq!(labels, ["//a:t", "//a:u", "//a:v"]);
        for answer in answers {
            assert_eq!(answer["providers"]["r.rule.ts#Info"], 1, "{top} {body}");
        }
        let called = evaluation.logs.iter().filter(|it| it.message == "called");
        assert_eq!(called.count(), 3);
        let loaded = evaluation.logs.iter().filter(|it| it.message == "loaded");
        assert!(loaded.count() <= if top.is_empty() { 3 } else { 1 });
        assert_eq!(workspace.evaluator.figures().runtimes, 3, "{top} {body}");
    }
}

#[test]
fn a_target_that_fails_is_named_also_when_it_is_asked_apart() {
    let body = "if (ctx.label.text === '//a:u') throw new Error('u'); log('called');";
    let mut workspace = workspace(&rule("let n = 0; n++;", body));
    let mut several = request(&workspace);
    let targets = &mut several.call.as_mut().unwrap()["targets"];
    let mut another = targets[0].clone();
    another["label"] = json!("//a:u");
    targets.as_array_mut().unwrap().push(another);
    let error = workspace.evaluator.evaluate(&several).unwrap_err();
    assert_eq!(error.subject.as_deref(), Some("//a:u"));
    assert_eq!(error.logs.len(), 1);
}

/// Places where a call might leave `mark` for the next one.
const PLACES: &[&str] = &[
    "globalThis",
    "Object.prototype",
    "Array.prototype",
    "Function.prototype",
    "Map.prototype.get",
    "Promise",
    "JSON",
    "Math.max",
    "console",
    "console.log",
    "Error",
    "TypeError.prototype",
    "executionContext",
    "FLAGS",
    "TABLE.deep",
    "helper",
    "helper.prototype",
    "arrow",
    "r",
    "attr",
    "attr.string",
    "attr.sources()",
    "Info",
    "log",
    "log.info",
    "this",
    "this.implementation",
    "data",
    "Object.getPrototypeOf(data.list)",
    "Object.getPrototypeOf(ctx.attrs.srcs[0])",
    "Object.getPrototypeOf(attr.string())",
    "Object.getPrototypeOf(ctx.run({ cmd: ['x'] }))",
    "Object.getPrototypeOf([][Symbol.iterator]())",
    "Object.getPrototypeOf(new Map().entries())",
    "Object.getPrototypeOf(new Set().values())",
    "Object.getPrototypeOf(''[Symbol.iterator]())",
    "Object.getPrototypeOf(''.matchAll(/x/g))",
    "Object.getPrototypeOf(function* () {})",
    "Object.getPrototypeOf((function* () {}).prototype)",
    "Object.getPrototypeOf(async function* () {})",
    "Object.getPrototypeOf((async function* () {}).prototype)",
    "Object.getPrototypeOf(async () => {})",
    "Object.getPrototypeOf(Object.getPrototypeOf([].values().map((x) => x)))",
    "Object.getOwnPropertyDescriptor(new Error('x'), 'stack')!.get ?? {}",
    "Object.getOwnPropertyDescriptor(Object.prototype, '__proto__')!.get",
    "Object.getOwnPropertyDescriptor(Object.prototype, 'toString')!.set",
    "Symbol.iterator.constructor",
    "(class {}).constructor",
];

#[test]
fn nothing_that_a_call_could_mark_bears_the_mark_in_the_next() {
    let top = "import data from './data.json' with { type: 'json' };\n\
        const FLAGS = ['-O2'], TABLE = { deep: { x: 1 } };\n\
        function helper() { return 1; }\nconst arrow = () => 1;";
    let mut marked = Vec::new();
    for place in PLACES {
        let body = format!(
            "let place: any;\ntry {{ place = {place}; }} catch {{ place = {{}}; }}\n\
             seen = place?.mark ?? 'none';\ntry {{ place.mark = 'marked'; }} catch {{}}"
        );
        let files = [
            ("r.rule.ts", rule(top, &body)),
            ("data.json", "{ \"list\": [1] }".into()),
        ];
        let mut workspace =
            Workspace::new(&files.each_ref().map(|(path, text)| (*path, text.as_str())));
        let both = [seen(call(&mut workspace)), seen(call(&mut workspace))];
        if both != ["none", "none"] {
            marked.push(place);
        }
        assert_eq!(workspace.evaluator.figures().runtimes, 1, "{place}");
    }
    assert!(marked.is_empty(), "{marked:?}");
}

#[test]
fn what_the_engine_remembers_of_itself_is_not_told() {
    for body in [
        "seen = (RegExp as any).$1 ?? 'none'; /(x)/.exec('x');",
        "seen = (RegExp as any).input ?? 'none'; /(x)/.exec('x'); try { (RegExp as any).input = 'y'; } catch {}",
        "seen = WORD.source === 'x' ? 'none' : WORD.source; try { (WORD as any).compile('y'); } catch {}",
        "seen = Error.stackTraceLimit > 1 ? 'none' : 'set'; try { Error.stackTraceLimit = 1; } catch {}",
        "seen = 'none'; try { rule({ name: 'q', implementation() {} }); seen = 'defined'; } catch {}",
    ] {
        let mut workspace = workspace(&rule("const WORD = /x/;", body));
        for _ in 0..2 {
            assert_eq!(seen(call(&mut workspace)), "none", "{body}");
        }
        assert_eq!(workspace.evaluator.figures().runtimes, 1, "{body}");
    }
}

#[test]
fn a_frozen_value_says_what_to_do() {
    let mut workspace = workspace(&rule("const FLAGS: string[] = [];", "FLAGS.push('x');"));
    let error = call(&mut workspace).unwrap_err().to_string();
    assert!(error.contains("--> r.rule.ts:7:"), "{error}");
    assert!(
        error.contains("is frozen before its functions are called"),
        "{error}"
    );
}

#[test]
fn own_properties_may_have_the_names_of_inherited_ones() {
    let body = "class Mine extends Error { constructor() { super('m'); this.name = 'Mine'; } }\n\
        const words: Record<string, number> = {}; words.constructor = 1; words.toString = 2 as any;\n\
        const e = new Mine(); e.message = 'other'; seen = [String(e), Object.keys(words)];";
    let mut workspace = workspace(&rule("", body));
    let expected = json!(["Mine: other", ["constructor", "toString"]]);
    assert_eq!(seen(call(&mut workspace)), expected);
}

#[test]
fn what_changed_on_the_disk_is_loaded_anew() {
    let mut workspace = Workspace::new(&[
        (
            "r.rule.ts",
            &rule("import { word } from './lib.js';", "seen = word;"),
        ),
        ("lib.ts", "export const word = 'one';"),
    ]);
    let root = workspace.root.path().to_owned();
    let write = |path: &str, text: &str| std::fs::write(root.join(path), text).unwrap();
    assert_eq!(seen(call(&mut workspace)), "one");
    write("lib.ts", "export const word = 'two';");
    assert_eq!(seen(call(&mut workspace)), "two");
    // Found before lib.ts, which is as it was.
    write("lib.js", "export const word = 'three';");
    assert_eq!(seen(call(&mut workspace)), "three");
    std::fs::remove_file(root.join("lib.js")).unwrap();
    assert_eq!(seen(call(&mut workspace)), "two");
    assert_eq!(workspace.evaluator.figures().runtimes, 4);
}

#[test]
fn another_execution_context_has_another_runtime() {
    let mut workspace = workspace(&rule("const MODE = executionContext;", "seen = MODE;"));
    let mut request = request(&workspace);
    for mode in ["a", "b", "a"] {
        request.execution_context = json!({ "mode": mode });
        let result = workspace.evaluator.evaluate(&request);
        assert_eq!(seen(result), json!({ "mode": mode }));
    }
}

#[test]
fn after_a_failed_call_the_next_is_as_if_it_had_not_been() {
    let body = "if (ctx.label.name === 'bad') throw new Error('bad'); seen = 'well';";
    let mut workspace = workspace(&rule("", body));
    assert_eq!(seen(call(&mut workspace)), "well");
    let mut bad = request(&workspace);
    bad.call.as_mut().unwrap()["targets"][0]["name"] = json!("bad");
    let error = workspace.evaluator.evaluate(&bad).unwrap_err();
    assert_eq!(error.subject.as_deref(), Some("//a:t"));
    assert_eq!(seen(call(&mut workspace)), "well");
}

#[test]
fn two_evaluators_on_one_thread_do_not_disturb_each_other() {
    let rule = rule("", "seen = ctx.label.name;");
    let (mut first, mut second) = (workspace(&rule), workspace(&rule));
    for _ in 0..2 {
        assert_eq!(seen(call(&mut first)), "t");
        assert_eq!(seen(call(&mut second)), "t");
    }
    drop(first);
    for _ in 0..2 {
        assert_eq!(seen(call(&mut second)), "t");
    }
}
