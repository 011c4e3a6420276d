//! Rules, toolchains and options as an evaluation sees them: definitions, calls, questions.

mod isolate_support;

use isolate_support::Workspace;
use serde_json::{Value, json};
use zako_actors::isolate::{ContextKind, EvaluateError, EvaluateRequest};

fn call(files: &[(&str, &str)], context: ContextKind, call: Value) -> Result<Value, EvaluateError> {
    let mut workspace = Workspace::new(files);
    let mut request = EvaluateRequest::new(workspace.root.path(), files[0].0, context);
    request.call = Some(call);
    workspace
        .evaluator
        .evaluate(&request)
        .map(|evaluation| evaluation.value)
}

/// Runs the implementation `body` for target `//a:t` that has one source, `a/x.c`.
fn implement(body: &str, known: Value) -> Result<Value, EvaluateError> {
    let source = format!(
        "import {{ attr, provider, rule }} from 'zako:rule';\n\
         export const Info = provider<unknown>('Info');\n\
         export const r = rule({{ name: 'r', attrs: {{ srcs: attr.sources() }}, async implementation(ctx) {{\n{body}\n}} }});"
    );
    let target = json!({ "label": "//a:t", "dir": "a", "name": "t", "known": known,
        "attrs": { "srcs": { "$files": [{ "$file": "a/x.c" }] } } });
    let request = json!({ "kind": "rule", "file": "r.rule.ts", "rule": "r", "config": {},
        "toolchains": {}, "targets": [target] });
    call(&[("r.rule.ts", &source)], ContextKind::Rule, request).map(|mut answers| answers[0].take())
}

#[test]
fn an_implementation_returns_actions_and_providers_as_data() {
    let answer = implement(
        "const out = ctx.file('o/x.o');\n\
         const action = ctx.run({ cmd: ['cc', '-c', ctx.attrs.srcs, '-o', out], outs: [out] });\n\
         return { files: action, provides: [Info({ objects: [out], depth: 2 })] };",
        json!({}),
    )
    .unwrap();
    assert_eq!(answer["done"], true);
    let action = &answer["actions"][0];
    assert_eq!(action["cmd"], json!(["cc", "-c", "a/x.c", "-o", "a/o/x.o"]));
    assert_eq!(action["inputs"], json!([{ "$file": "a/x.c" }]));
    assert_eq!(
        answer["files"],
        json!([{ "$file": "a/o/x.o", "from": "#" }])
    );
    let info = &answer["providers"]["r.rule.ts#Info"];
    assert_eq!(
        info["objects"],
        json!([{ "$file": "a/o/x.o", "from": "#" }])
    );
}

#[test]
fn a_read_stays_open_until_its_text_is_known() {
    let body = "const list = ctx.file('list');\n\
         ctx.run({ cmd: ['scan', list], outs: [list] });\n\
         const names = (await ctx.read(list)).trim().split('\\n');\n\
         for (const name of names) ctx.run({ cmd: ['make', name], outs: [name] });";
    let first = implement(body, json!({})).unwrap();
    let question = r##"{"read":"a/list","from":"#"}"##;
    assert_eq!(first["open"], json!([question]));
    assert_eq!(first["actions"].as_array().unwrap().len(), 1);
    assert_eq!(first["done"], Value::Null);
    let second = implement(body, json!({ question: "one\ntwo\n" })).unwrap();
    assert_eq!(second["actions"].as_array().unwrap().len(), 3);
    assert_eq!(second["actions"][2]["outs"][0]["$file"], "a/two");
    assert_eq!(second["done"], true);
}

#[test]
fn mistakes_of_an_implementation_have_a_place_and_advice() {
    for (body, expected) in [
        (
            "ctx.run({ cmd: ['cc'], uots: [] } as any);",
            "unknown key `uots`",
        ),
        (
            "ctx.run({ cmd: 'cc x' as any });",
            "cmd: expected a list of words",
        ),
        (
            "ctx.run({ cmd: ['cc', {} as any] });",
            "cmd[1]: expected a string, a file or a tool",
        ),
        ("ctx.file('../x');", "leaves the package"),
        ("ctx.file('x'); return {};", "no action writes a/x"),
        (
            "const x = ctx.file('x'); ctx.run({ cmd: ['a'], outs: [x] }); ctx.run({ cmd: ['b'], outs: [x] });",
            "a/x is written by two actions",
        ),
        ("return { fiels: [] } as any;", "unknown key `fiels`"),
        (
            "return { provides: [Info(() => 1)] };",
            "cannot be passed on",
        ),
        ("ctx.test({ cmd: ['a'] });", "this rule makes no tests"),
        ("ctx.fail('no such mode', 'use another');", "no such mode"),
        ("null!.x;", "Cannot read properties of null"),
    ] {
        let error = implement(body, json!({})).unwrap_err();
        assert!(error.to_string().contains(expected), "{body}: {error}");
        assert_eq!(error.subject.as_deref(), Some("//a:t"), "{body}");
    }
    let deep = "ctx.run({ cmd: ['cc', [['-c', [{} as any]]]] });";
    let error = implement(deep, json!({})).unwrap_err().to_string();
    assert!(error.contains("--> r.rule.ts:4:"), "{error}");
}

#[test]
fn definitions_are_checked_where_they_stand() {
    for (source, expected) in [
        (
            "rule({ name: 'a b', implementation() {} });",
            "is not a name",
        ),
        (
            "rule({ name: 'a' } as any);",
            "implementation: expected a function",
        ),
        (
            "rule({ name: 'a', attrs: { x: 'string' as any }, implementation() {} });",
            "write x: attr.string()",
        ),
        (
            "for (const _ of [1, 2]) rule({ name: 'a', implementation() {} });",
            "defines `a` twice",
        ),
        (
            "attr.string({ required: true, default: 'x' } as any);",
            "needs no default",
        ),
        ("attr.oneOf([] as any);", "expected a list of values"),
        (
            "attr.deps({ provides: [1 as any] });",
            "expected a provider",
        ),
    ] {
        let source =
            format!("import {{ attr, rule }} from 'zako:rule';\n{source}\nexport default attr;");
        let mut workspace = Workspace::new(&[("r.rule.ts", &source)]);
        let request = EvaluateRequest::new(workspace.root.path(), "r.rule.ts", ContextKind::Rule);
        let error = workspace
            .evaluator
            .evaluate(&request)
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{source}: {error}");
        assert!(error.contains("--> r.rule.ts:2:"), "{source}: {error}");
    }
}

#[test]
fn attributes_are_checked_in_the_build_file() {
    let rule = "import { attr, rule } from 'zako:rule';\n\
        export const lib = rule({ name: 'lib', implementation() {}, attrs: {\n\
          srcs: attr.sources({ required: true }), deps: attr.deps(), mode: attr.oneOf(['fast', 'small'], { default: 'fast' }),\n\
          level: attr.number(), out: attr.path(), flags: attr.strings() } });";
    let evaluate = |use_: &str| {
        let build =
            format!("import {{ lib }} from './r.rule.ts';\nexport default {{ t: {use_} }};");
        Workspace::new(&[("BUILD.ts", &build), ("r.rule.ts", rule)]).evaluate("BUILD.ts")
    };
    for (use_, expected) in [
        ("lib({})", "lib(): srcs is missing"),
        ("lib({ scrs: ['a'] } as any)", "did you mean `srcs`?"),
        ("lib({ srcs: ['../a'] })", "leaves the package"),
        ("lib({ srcs: ['*.c'] })", "looks like a pattern"),
        ("lib({ srcs: ['a'], deps: ['x'] })", "is not a label"),
        (
            "lib({ srcs: ['a'], mode: 'smal' as any })",
            "did you mean \"small\"?",
        ),
        (
            "lib({ srcs: ['a'], level: '1' as any })",
            "expected a number",
        ),
        ("lib({ srcs: ['a'], out: '/x' })", "is absolute"),
        ("lib as any", "`default.t` is a function"),
    ] {
        match evaluate(use_) {
            Err(error) => assert!(error.to_string().contains(expected), "{use_}: {error}"),
            // Not called: the reader of exports says so.
            Ok(evaluation) => panic!("{use_}: {}", evaluation.value),
        }
    }
    let value = evaluate("lib({ srcs: ['a.c', ':gen'], flags: '-O2' })")
        .unwrap()
        .value;
    let attrs = &value["t"]["attrs"];
    assert_eq!(
        attrs["srcs"],
        json!({ "$sources": ["a.c", { "$label": ":gen" }] })
    );
    assert_eq!(attrs["mode"], "fast");
    assert_eq!(attrs["flags"], json!(["-O2"]));
    assert_eq!(value["t"]["file"], "r.rule.ts");
}

#[test]
fn toolchains_and_options_ask_and_wait() {
    let toolchain = "import { toolchain } from 'zako:toolchain';\n\
        export const cc = toolchain({ name: 'cc', async select(ctx) {\n\
          const [tool, home] = await ctx.all([ctx.which('gcc', 'clang'), ctx.env('SDK')]);\n\
          return { tool, home, os: ctx.platform.os }; } });";
    let ask = |known: Value| {
        let request = json!({ "kind": "toolchain", "file": "cc.toolchain.ts", "config": {},
            "platform": { "os": "linux", "arch": "arm" }, "known": known });
        call(
            &[("cc.toolchain.ts", toolchain)],
            ContextKind::Toolchain,
            request,
        )
        .unwrap()[0]
            .take()
    };
    let (which, env) = (r#"{"which":["gcc","clang"]}"#, r#"{"env":"SDK"}"#);
    assert_eq!(ask(json!({}))["open"], json!([which, env]));
    let tool = json!({ "$tool": "/usr/bin/gcc", "digest": "1" });
    let answer = ask(json!({ which: tool, env: null }));
    assert_eq!(answer["value"], json!({ "tool": tool, "os": "linux" }));

    let options = "import { config } from 'zako:config';\n\
        export const mode = config({ name: 'mode', default: 'debug', values: ['debug', 'release'] });\n\
        export const ci = config({ name: 'ci', type: 'boolean', default: async (ctx) => (await ctx.env('CI')) === '1' });";
    let request = json!({ "kind": "config", "file": "x.config.ts", "platform": {},
        "known": { r#"{"env":"CI"}"#: "1" } });
    let answers = call(&[("x.config.ts", options)], ContextKind::Config, request).unwrap();
    assert_eq!(answers[0]["default"], "debug");
    assert_eq!(
        (&answers[1]["name"], &answers[1]["default"]),
        (&json!("ci"), &json!(true))
    );
    let wrong = "import { config } from 'zako:config';\n\
        config({ name: 'mode', default: 'dbug', values: ['debug'] });\nexport default 1;";
    let mut workspace = Workspace::new(&[("x.config.ts", wrong)]);
    let request = EvaluateRequest::new(workspace.root.path(), "x.config.ts", ContextKind::Config);
    let error = workspace
        .evaluator
        .evaluate(&request)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("expected one of \"debug\", got \"dbug\""),
        "{error}"
    );
}
