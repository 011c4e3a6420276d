//! CommonJS output, run: every module becomes a function in one build file, with a `require` like
//! Node.js's, and the isolate evaluates that.

mod isolate_support;

use std::fmt::Write as _;

use isolate_support::Workspace;
use serde_json::{Value, json};
use zako_actors::transpile::{
    Decorators, Jsx, ModuleFormat, ModuleIndex, TranspileJob, TranspileOptions, Transpiler,
};

fn options() -> TranspileOptions {
    TranspileOptions {
        module: ModuleFormat::CommonJs,
        ..TranspileOptions::default()
    }
}

/// Transpiles all files, runs `main`, and returns what it exports as `result`.
fn run_with(files: &[(&str, &str)], options: &TranspileOptions) -> Value {
    let mut transpiler = Transpiler::new();
    let surveys: Vec<_> = files
        .iter()
        .map(|(path, source)| ((*path).to_owned(), transpiler.survey(path, source)))
        .collect();
    let index = ModuleIndex::new(surveys);
    let mut program = String::from("const modules = {\n");
    for (path, source) in files {
        let mut job = TranspileJob::new(*path, *source);
        job.options = options.clone();
        job.facts = index.facts(path);
        let output = transpiler
            .transpile(&job)
            .unwrap_or_else(|errors| panic!("{}", errors[0]));
        let name = path.rsplit_once('.').unwrap().0;
        let _ = writeln!(
            program,
            "{:?}: function (exports, require, module, __filename, __dirname) {{\n{}\n}},",
            format!("./{name}"),
            output.code
        );
    }
    program.push_str(
        r#"};
const cache = {
  plain: { exports: { a: 1, f() { return this === undefined ? "unbound" : "bound"; } } },
  callable: { exports: Object.assign(() => "called", { extra: 2 }) },
  "react/jsx-runtime": { exports: { jsx: (type, props) => ({ type: typeof type === "function" ? type.name : type, ...props }), jsxs: (type, props) => ({ type, ...props }), Fragment: "fragment" } },
};
function require(name) {
  if (!cache[name]) {
    const module = cache[name] = { exports: {} };
    if (!modules[name]) throw new Error("cannot find module " + name);
    modules[name].call(module.exports, module.exports, require, module, name, ".");
  }
  return cache[name].exports;
}
export default await require("./main").result;
"#,
    );
    let mut workspace = Workspace::new(&[("BUILD.mjs", &program)]);
    match workspace.evaluate("BUILD.mjs") {
        Ok(evaluation) => evaluation.value,
        Err(error) => panic!("{error}\n{program}"),
    }
}

fn run(files: &[(&str, &str)]) -> Value {
    run_with(files, &options())
}

fn main_only(source: &str) -> Value {
    run(&[("main.ts", source)])
}

fn mistakes(source: &str) -> String {
    let mut job = TranspileJob::new("main.ts", source);
    job.options = options();
    let errors = Transpiler::new().transpile(&job).unwrap_err();
    errors.iter().map(|error| format!("{error}\n")).collect()
}

#[test]
fn named_default_and_namespace_imports() {
    let value = run(&[
        (
            "main.ts",
            "import d, { a, b as c, default as e } from './m'; import * as ns from './m'; import both, * as all from './m';\nexport const result = [d(), a, c, e(), ns.a, ns.default(), both(), all.b, Object.keys(ns).sort()];",
        ),
        (
            "m.ts",
            "export const a = 1; export let b = 2; export default function () { return 3 }",
        ),
    ]);
    assert_eq!(
        value,
        json!([3, 1, 2, 3, 1, 3, 3, 2, ["a", "b", "default"]])
    );
}

#[test]
fn modules_without_a_mark_are_their_own_default() {
    let value = main_only(
        "import plain, { a } from 'plain'; import * as ns from 'plain'; import callable from 'callable'; import * as callableNs from 'callable';\n\
         export const result = [plain.a, a, ns.a, ns.default.a, callable(), callableNs.extra, callableNs.default()];",
    );
    assert_eq!(value, json!([1, 1, 1, 1, "called", 2, "called"]));
}

#[test]
fn bindings_are_live() {
    let value = run(&[
        (
            "main.ts",
            "import { n, inc, box as b } from './m'; const before = [n, b.v]; inc(); export const result = [before, n, b.v, { n }, [n], `${n}`];",
        ),
        (
            "m.ts",
            "export let n = 1; let box = { v: 1 }; export { box }; export function inc() { n++; box = { v: 2 }; }",
        ),
    ]);
    assert_eq!(value, json!([[1, 1], 2, 2, { "n": 2 }, [2], "2"]));
}

#[test]
fn calls_do_not_bind_this() {
    let value = main_only(
        "import { f } from 'plain'; import * as ns from 'plain';\n\
         const tag = (f as any)`x`;\n\
         export const result = [f(), (f)(), (f as any)(), f?.(), (f!)(), tag, ns.f(), [f][0] === f];",
    );
    assert_eq!(
        value,
        json!([
            "unbound", "unbound", "unbound", "unbound", "unbound", "unbound", "bound", true
        ])
    );
}

#[test]
fn uses_in_every_position() {
    let value = run(&[
        (
            "main.ts",
            "import { A, v, k } from './m';\nclass B extends A { x = v; static s = v; [k]() { return super.get() + v } }\nconst f = (p = v, { q = v } = {}) => p + q;\nfunction shadow(v: number) { return v }\nlet o = { v, k, [k]: v, m: v };\nfor (const x of [v]) o.m += x;\nlabel: for (;;) { break label }\nexport const result = [new B().x, B.s, (new B() as any)[k](), f(), shadow(7), o, v ? v : 0, typeof v, new A() instanceof A, new A(v).n, `${v}`, -v, ((v) => v)(9)];",
        ),
        (
            "m.ts",
            "export class A { n: number; constructor(n = 0) { this.n = n } get() { return 10 } }\nexport const v = 5, k = 'key';",
        ),
    ]);
    assert_eq!(
        value,
        json!([5, 5, 15, 10, 7, { "v": 5, "k": "key", "key": 5, "m": 10 }, 5, "number", true, 5, "5", -5, 9])
    );
}

#[test]
fn exports_of_every_form() {
    let value = run(&[
        (
            "main.ts",
            "import * as m from './m'; export const result = [Object.keys(m).sort(), m.a, m.b, m.c(), new m.D().d, m.E.X, m.N.n, m.renamed, m['string name'], m.x, m.y, m.rest, m.late()];",
        ),
        (
            "m.ts",
            "export const a = 1, b = 2; export function c() { return 3 } export class D { d = 4 } export enum E { X = 5 } export namespace N { export const n = 6 }\nconst local = 7; export { local as renamed, local as 'string name' };\nexport const { x, y: [y], ...rest } = { x: 8, y: [9], z: 10 };\nexport var late = () => 11; export type T = 1; export interface I {} export declare const gone: number;",
        ),
    ]);
    assert_eq!(
        value,
        json!([
            ["D", "E", "N", "a", "b", "c", "late", "renamed", "rest", "string name", "x", "y"],
            1, 2, 3, 4, 5, 6, 7, 7, 8, 9, { "z": 10 }, 11
        ])
    );
}

#[test]
fn default_exports_of_every_form() {
    for (source, expected) in [
        ("export default 1 + 1;", json!(2)),
        (
            "export default function named() { return typeof named }",
            json!("function"),
        ),
        ("export default class { v() { return 1 } }", json!(1)),
        (
            "export default class Named { v() { return Named.name } }",
            json!("Named"),
        ),
        ("const a = 3; export default a;", json!(3)),
        ("const a = 3; export { a as default };", json!(3)),
        ("export default () => 4;", json!(4)),
        (
            "import { f } from 'plain'; export default f;",
            json!("unbound"),
        ),
        ("export { a as default } from 'plain';", json!(1)),
        ("export default interface Gone {}", json!(null)),
    ] {
        let value = run(&[
            (
                "main.ts",
                "import d from './m'; const v: any = d; export const result = typeof v !== 'function' ? v ?? null : v.prototype?.v ? new v().v() : v();",
            ),
            ("m.ts", source),
        ]);
        assert_eq!(value, expected, "{source}");
    }
}

#[test]
fn re_exports_and_stars() {
    let value = run(&[
        (
            "main.ts",
            "import * as m from './m'; import { inner } from './m'; export const result = [Object.keys(m).sort(), m.a, m.b, m.own, m.ns.a, m.d(), inner, m.T];",
        ),
        (
            "m.ts",
            "export * from './one'; export * from './two'; export * as ns from './one'; export { default as d, a as inner } from './one'; export const own = 'own'; import { T } from './two'; export { T };",
        ),
        (
            "one.ts",
            "export const a = 'one.a', own = 'hidden'; export default () => 'one.default';",
        ),
        ("two.ts", "export const a = 'two.a', b = 'two.b', T = 't';"),
    ]);
    assert_eq!(
        value,
        json!([
            ["T", "a", "b", "d", "inner", "ns", "own"],
            "one.a",
            "two.b",
            "own",
            "one.a",
            "one.default",
            "one.a",
            "t"
        ])
    );
}

#[test]
fn types_are_not_re_exported() {
    let value = run(&[
        (
            "main.ts",
            "import * as m from './m'; export const result = Object.keys(m).sort();",
        ),
        (
            "m.ts",
            "export { I, v } from './t'; import { U, w } from './t'; export { U, w }; export * from './t';",
        ),
        (
            "t.ts",
            "export interface I {} export const v = 1; export type U = 2; export const w = 3;",
        ),
    ]);
    assert_eq!(value, json!(["v", "w"]));
}

#[test]
fn cycles_see_functions_at_once_and_values_later() {
    let value = run(&[
        (
            "main.ts",
            "import { f, late } from './a'; export const result = [f(), late()];",
        ),
        (
            "a.ts",
            "import { g, seen } from './b'; export function f() { return 'f' + g() } export const value = 'value'; export const late = () => seen() + value;",
        ),
        (
            "b.ts",
            "import { f, value } from './a'; import * as all from './a'; const early = typeof f; export function g() { return 'g' + early } export const seen = () => value + all.value;",
        ),
    ]);
    assert_eq!(value, json!(["fgfunction", "valuevaluevalue"]));
}

#[test]
fn stars_in_cycles_pass_names_through() {
    let value = run(&[
        (
            "main.ts",
            "import { a, b } from './index'; export const result = [a(), b()];",
        ),
        ("index.ts", "export * from './a'; export * from './b';"),
        (
            "a.ts",
            "import { b } from './index'; export function a() { return 'a' + b() }",
        ),
        (
            "b.ts",
            "import { a } from './index'; export function b() { return 'b' + typeof a }",
        ),
    ]);
    assert_eq!(value, json!(["abfunction", "bfunction"]));
}

#[test]
fn imports_are_hoisted_in_order() {
    let value = run(&[
        (
            "main.ts",
            "order.push('main'); import { order } from './order'; import './one'; export * from './two'; import './one'; export const result = order;",
        ),
        ("order.ts", "export const order: string[] = [];"),
        (
            "one.ts",
            "import { order } from './order'; order.push('one');",
        ),
        (
            "two.ts",
            "import { order } from './order'; order.push('two');",
        ),
    ]);
    assert_eq!(value, json!(["one", "two", "main"]));
}

#[test]
fn names_of_commonjs_can_be_used() {
    let value = run(&[
        (
            "main.ts",
            "import { exports as e, require as r, m_1 } from './m';\nconst exports = 1, require = 2, module = 3, __importStar = 4;\nimport * as plain from 'plain';\nfunction f(exports: number, m_1: number) { return exports + m_1 + e }\nexport const result = [exports, require, module, { exports }, f(1, 2), r, m_1, __importStar, plain.a];",
        ),
        ("m.ts", "export const exports = 10, require = 20, m_1 = 30;"),
    ]);
    assert_eq!(value, json!([1, 2, 3, { "exports": 1 }, 13, 20, 30, 4, 1]));
}

#[test]
fn typescript_module_forms() {
    let value = run(&[
        (
            "main.ts",
            "import m = require('./m'); import N = m.inner; export import re = require('./m'); export const result = [m.v, N.w, re.v, m()];",
        ),
        (
            "m.ts",
            "function f() { return 'f' } namespace f { export const v = 1; export namespace inner { export const w = 2 } } export = f;",
        ),
    ]);
    assert_eq!(value, json!([1, 2, 1, "f"]));
}

#[test]
fn decorators_and_parameter_properties() {
    let source = "import { log } from './log';\nfunction mark(name: string) { return (target: any, key?: any, desc?: any) => { log.push(name + ':' + String(key)); } }\nconst param = (target: any, key: any, index: number) => { log.push('param' + index); };\n@mark('class') class A { @mark('field') f = 1; constructor(private readonly p: number, @param public q = 2) {} @mark('method') m() { return this.p + this.q } }\nexport const result = [log, new A(1).m(), Object.keys(new A(5))];";
    for target in ["es2015", "es2020", "es2022", "esnext"] {
        let value = run_with(
            &[
                ("main.ts", source),
                ("log.ts", "export const log: string[] = [];"),
            ],
            &TranspileOptions {
                target: target.to_owned(),
                decorators: Some(Decorators::Legacy),
                use_define_for_class_fields: Some(false),
                ..options()
            },
        );
        assert_eq!(
            value[0],
            json!(["field:f", "method:m", "param1", "class:undefined"]),
            "{target}"
        );
        assert_eq!(value[1], 3, "{target}");
    }
}

#[test]
fn lowered_syntax_brings_its_helpers() {
    let source = "class A { #x = 1; static #n = 0; #m() { return this.#x } get v() { return ++this.#x + this.#m() } static count() { return ++A.#n } has(o: any) { return #x in o } }\nasync function later() { await null; return 1 }\nclass D { [Symbol.dispose ?? Symbol.for('d')]() {} }\nconst { a, ...rest } = { a: 1, b: 2, c: 3 }; const spread = { ...rest, d: 4 };\nlet n: number | null = null; n ??= 5; const pow = 2 ** 3; const opt = (undefined as any)?.x?.y;\nclass S extends A { get w() { return super.v } }\nexport const result = [new A().v, A.count(), new A().has(new A()), new A().has({}), typeof later(), rest, spread, n, pow, opt ?? null, new S().w];";
    for target in [
        "es2015", "es2016", "es2017", "es2018", "es2019", "es2020", "es2021", "es2022",
    ] {
        let value = run_with(
            &[("main.ts", source)],
            &TranspileOptions {
                target: target.to_owned(),
                ..options()
            },
        );
        assert_eq!(
            value,
            json!([4, 1, true, false, "object", { "b": 2, "c": 3 }, { "b": 2, "c": 3, "d": 4 }, 5, 8, null, 4]),
            "{target}"
        );
    }
}

#[test]
fn async_generators_are_lowered() {
    let source = "const log: unknown[] = [];\nasync function* inner() { try { yield 1; const got = yield await Promise.resolve(2); log.push(['got', got]); yield 3 } finally { log.push('closed') } return 'r' }\nasync function* outer() { const r = yield* inner(); log.push(r); yield* [Promise.resolve(4)]; try { yield 5 } catch (e) { log.push(['caught', e]); yield 6 } }\nconst run = async () => { for await (const x of outer()) log.push(x); const it = outer(); log.push(await it.next()); log.push(await it.return('early')); log.push(await it.next()); const t = outer(); for (let i = 0; i < 5; i++) await t.next('n'); log.push(await t.throw('err')); for await (const x of [Promise.resolve(7), 8]) log.push(x); return log };\nexport const result = run();";
    let expected = json!([
        1, 2, ["got", null], 3, "closed", "r", 4, 5, { "value": 1, "done": false }, "closed",
        { "value": "early", "done": true }, { "done": true }, ["got", "n"], "closed", "r",
        ["caught", "err"], { "value": 6, "done": false }, 7, 8
    ]);
    for target in ["es2015", "es2016", "es2017", "es2018", "es2022"] {
        let value = run_with(
            &[(
                "main.ts",
                &source.replace("log.push(['got', got])", "log.push(['got', got ?? null])"),
            )],
            &TranspileOptions {
                target: target.to_owned(),
                ..options()
            },
        );
        assert_eq!(value, expected, "{target}");
    }
}

#[test]
fn jsx_becomes_calls() {
    let value = run(&[
        (
            "main.tsx",
            "import { Part } from './part'; import * as ns from './part';\nexport const result = [<div id='a'>text</div>, <Part x={1} />, <ns.Part />, <>{[1]}</>];",
        ),
        ("part.tsx", "export function Part() { return null }"),
    ]);
    assert_eq!(
        value,
        json!([{ "type": "div", "id": "a", "children": "text" }, { "type": "Part", "x": 1 }, { "type": "Part" }, { "type": "fragment", "children": [1] }])
    );
    let mut job = TranspileJob::new(
        "main.tsx",
        "import { Part } from './part'; import * as ns from './part'; export const a = <Part><Part.Inner /><ns.Part /></Part>;",
    );
    job.options = TranspileOptions {
        jsx: Jsx::Preserve,
        ..options()
    };
    let code = Transpiler::new().transpile(&job).unwrap().code;
    assert!(
        code.contains("<part_1.Part><part_1.Part.Inner /><part_1.Part /></part_1.Part>"),
        "{code}"
    );
}

#[test]
fn what_commonjs_cannot_express_is_reported() {
    let text = mistakes(
        "import { a } from './m';\nexport const url = import.meta.url;\na = 1;\nawait a;\nfor await (const x of []) {}\n({ a } = { a: 1 });\nasync () => { await a };\n",
    );
    for part in [
        "import.meta has no CommonJS form\n  --> main.ts:2:20",
        "main.ts:3:1",
        "top-level await has no CommonJS form\n  --> main.ts:4:1",
        "main.ts:5:1",
        "an imported binding cannot be assigned to\n  --> main.ts:6:4",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    assert!(!text.contains("main.ts:7"), "{text}");
}

#[test]
fn directives_hashbangs_and_licences_stay_on_top() {
    let mut job = TranspileJob::new(
        "main.ts",
        "#!/usr/bin/env node\n/*! licence */\nimport { a } from './m';\nconsole.log(a);\n",
    );
    job.options = options();
    let code = Transpiler::new().transpile(&job).unwrap().code;
    assert!(code.starts_with("#!/usr/bin/env node\n\"use strict\";\n/*! licence */\nObject.defineProperty(exports, \"__esModule\""), "{code}");
}

#[test]
fn source_maps_reach_through_the_head() {
    let source =
        "import { a } from './m';\n\nexport function f() {\n  throw new Error(String(a));\n}\n";
    let mut job = TranspileJob::new("src/deep/main.ts", source);
    job.options = TranspileOptions {
        source_map: true,
        output_path: Some("dist/cjs/deep/main.js".to_owned()),
        ..options()
    };
    let output = Transpiler::new().transpile(&job).unwrap();
    assert!(output.code.ends_with("//# sourceMappingURL=main.js.map\n"));
    let map: Value = serde_json::from_str(&output.map.unwrap()).unwrap();
    assert_eq!(map["sources"], json!(["../../../src/deep/main.ts"]));
    assert_eq!(map["sourcesContent"], json!([source]));
    assert_eq!(map["file"], "main.js");
    let throw_line = output
        .code
        .lines()
        .position(|line| line.contains("throw new Error"))
        .unwrap();
    let require_line = output
        .code
        .lines()
        .position(|line| line.contains("require("))
        .unwrap();
    let lines = decode(map["mappings"].as_str().unwrap());
    assert_eq!(lines[throw_line], Some(3));
    assert_eq!(lines[require_line], Some(0));
}

/// Source line of the first mapping of each output line.
fn decode(mappings: &str) -> Vec<Option<i64>> {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut source_line = 0;
    let mut lines = Vec::new();
    for line in mappings.split(';') {
        let mut first = None;
        for segment in line.split(',').filter(|segment| !segment.is_empty()) {
            let (mut fields, mut value, mut shift) = (Vec::new(), 0_i64, 0);
            for digit in segment.chars() {
                let bits = i64::try_from(DIGITS.find(digit).unwrap()).unwrap();
                value |= (bits & 31) << shift;
                shift += 5;
                if bits & 32 == 0 {
                    fields.push(if value & 1 == 1 {
                        -(value >> 1)
                    } else {
                        value >> 1
                    });
                    (value, shift) = (0, 0);
                }
            }
            source_line += fields[2];
            first.get_or_insert(source_line);
        }
        lines.push(first);
    }
    lines
}

#[test]
fn import_calls_are_requires_with_the_interop_of_static_ones() {
    let value = run(&[
        (
            "main.ts",
            "import * as all from './m'; import { a } from 'plain'; let n = 0; const name = () => { n++; return './' + 'm' };\n\
             export const result = (async () => {\n\
               const m = await import('./m'), computed = await import(name()), plain = await import('plain');\n\
               const missing = await import('./missing').catch((error) => error.message);\n\
               return [m.default, m.b, m === all, computed === all, n, plain.a === a, plain.default.a, missing];\n\
             })();",
        ),
        ("m.ts", "export const b = 2; export default 3;"),
    ]);
    assert_eq!(
        value,
        json!([3, 2, true, true, 1, true, 1, "cannot find module ./missing"])
    );
}

#[test]
fn import_calls_keep_the_names_of_the_file() {
    let value = main_only(
        "const __importStar = 'mine', __importComputed = 1; export const __bind = 2;\n\
         export const result = (async () => [(await import('plain')).a, (await import(String('plain'))).a, __importStar, __importComputed, __bind])();",
    );
    assert_eq!(value, json!([1, 1, "mine", 1, 2]));
}

#[test]
fn import_calls_compute_their_specifiers_at_once() {
    let value = run(&[
        (
            "main.ts",
            "let part = 'm'; const first = import(`./${part}`); part = 'n'; const name = async () => 'm';\n\
             function* both(): any { return import(`./${yield}`) } const it = both(); it.next();\n\
             export const result = (async () => [await first, await import(`./${await name()}`), await it.next('n').value, await import(`./n`)])();",
        ),
        ("m.ts", "export const m = 1;"),
        ("n.ts", "export const n = 2;"),
    ]);
    assert_eq!(
        value,
        json!([{ "m": 1 }, { "m": 1 }, { "n": 2 }, { "n": 2 }])
    );
}
