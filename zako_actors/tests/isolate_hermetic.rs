//! What build files must not see: one test per ban, and the ways around them.

mod isolate_support;

use isolate_support::{Workspace, error_text, value};
use serde_json::json;
use zako_actors::isolate::{ContextKind, EvaluateRequest};

/// Evaluates `expression` and expects the error text to contain `expected`.
#[track_caller]
fn banned(expression: &str, expected: &str) {
    let text = error_text(&format!("export default {{ a: {expression} }};"));
    assert!(text.contains(expected), "{expression}: {text}");
    assert!(text.contains("--> BUILD.ts:1:"), "{expression}: {text}");
}

/// Expects a global to be absent and its use to be explained.
#[track_caller]
fn absent(name: &str, usage: &str) {
    assert_eq!(
        value(&format!("export default typeof {name};")),
        "undefined"
    );
    assert_eq!(
        value(&format!("export default '{name}' in globalThis;")),
        false
    );
    banned(usage, &format!("{name} is not available in build files: "));
}

#[test]
fn date_is_absent() {
    absent("Date", "Date.now()");
}

#[test]
fn temporal_is_absent() {
    absent("Temporal", "Temporal.Now.instant()");
}

#[test]
fn intl_is_absent() {
    absent("Intl", "new Intl.NumberFormat()");
}

#[test]
fn performance_is_absent() {
    absent("performance", "performance.now()");
}

#[test]
fn crypto_is_absent() {
    absent("crypto", "crypto.randomUUID()");
    absent("Crypto", "Crypto.prototype");
}

#[test]
fn weak_references_are_absent() {
    absent("WeakRef", "new WeakRef({})");
    absent("FinalizationRegistry", "new FinalizationRegistry(() => {})");
}

#[test]
fn timers_are_absent() {
    absent("setTimeout", "setTimeout(() => {}, 1)");
    absent("setInterval", "setInterval(() => {}, 1)");
    absent("setImmediate", "setImmediate(() => {})");
}

#[test]
fn shared_memory_is_absent() {
    absent("SharedArrayBuffer", "new SharedArrayBuffer(1)");
    absent("Atomics", "Atomics.load");
    absent(
        "WebAssembly",
        "new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true })",
    );
    absent("ArrayBuffer", "new ArrayBuffer(1)");
}

#[test]
fn the_system_is_absent() {
    absent("Deno", "Deno.core");
    absent("process", "process.env");
    absent("require", "require('fs')");
    absent("fetch", "fetch('http://localhost')");
    for name in [
        "__bootstrap",
        "__infra",
        "__zakoHost",
        "__zakoStart",
        "gc",
        "global",
        "window",
        "self",
    ] {
        assert_eq!(
            value(&format!("export default '{name}' in globalThis;")),
            false,
            "{name}"
        );
    }
}

#[test]
fn math_random_is_banned() {
    banned(
        "Math.random()",
        "Math.random is not available in build files: ",
    );
    assert_eq!(value("export default Math.max(1, 2);"), 2);
}

#[test]
fn promise_race_is_banned() {
    banned(
        "await Promise.race([1])",
        "Promise.race is not available in build files: ",
    );
    assert_eq!(
        value("export default await Promise.all([1, 2]);"),
        json!([1, 2])
    );
}

#[test]
fn the_symbol_constructor_is_banned() {
    banned(
        "Symbol('a')",
        "the Symbol constructor is not available in build files",
    );
    banned(
        "Object(Symbol.iterator).constructor('a')",
        "the Symbol constructor is not available",
    );
    banned(
        "Reflect.construct(Symbol, [])",
        "the Symbol constructor is not available",
    );
    let kept = value(
        "const s = Symbol.for('x'); class C { static [Symbol.hasInstance]() { return true } }\n\
         export default [Symbol.keyFor(s), typeof Symbol.iterator, [...new Set([1])].length, 1 instanceof C, Symbol.iterator.description];",
    );
    assert_eq!(kept, json!(["x", "symbol", 1, true, "Symbol.iterator"]));
}

#[test]
fn locale_dependent_methods_are_banned() {
    banned(
        "'a'.localeCompare('b')",
        "String.prototype.localeCompare is not available in build files: ",
    );
    banned("'a'.toLocaleUpperCase()", "use toUpperCase()");
    banned("'A'.toLocaleLowerCase()", "use toLowerCase()");
    banned(
        "(1.5).toLocaleString()",
        "Number.prototype.toLocaleString is not available",
    );
    banned(
        "(1n).toLocaleString()",
        "BigInt.prototype.toLocaleString is not available",
    );
    banned(
        "[1].toLocaleString()",
        "Array.prototype.toLocaleString is not available",
    );
    assert_eq!(value("export default 'aß'.toUpperCase();"), "ASS");
}

#[test]
fn code_from_strings_is_banned() {
    absent_eval();
    for usage in [
        "Function('return 1')()",
        "new Function('return 1')()",
        "(() => {}).constructor('return 1')()",
        "(async () => {}).constructor('return 1')()",
        "(function* () {}).constructor('yield 1')()",
        "(async function* () {}).constructor('yield 1')()",
        "Reflect.construct((class {}).constructor, ['return 1'])()",
        "({}).constructor.constructor('return globalThis')()",
    ] {
        banned(
            usage,
            "not available in build files: code cannot be made from strings",
        );
    }
    assert_eq!(value("export default (() => 1) instanceof Function;"), true);
}

fn absent_eval() {
    assert_eq!(
        value("export default typeof (globalThis as any).eval;"),
        "undefined"
    );
    let text = error_text("export default eval('1');");
    assert!(
        text.contains("eval is not available in build files"),
        "{text}"
    );
}

#[test]
fn stack_hooks_are_banned() {
    banned(
        "((Error as any).prepareStackTrace = (_: any, sites: any) => sites)",
        "Error.prepareStackTrace is not available in build files",
    );
    let stack = value(
        "function f() { try { throw new Error('x') } catch (e) { return String((e as any).stack) } }\nexport default f();",
    );
    let stack = stack.as_str().unwrap();
    assert!(
        !stack.contains("/tmp") && !stack.contains("ext:"),
        "{stack}"
    );
}

#[test]
fn internals_cannot_be_imported() {
    for specifier in [
        "ext:core/ops",
        "ext:core/mod.js",
        "ext:zako/host.js",
        "zako:internal/check",
        "zako:internal/targets",
        "node:fs",
        "npm:lodash",
        "https://example.com/a.ts",
        "data:text/javascript,export default 1",
        "file:///etc/passwd",
        "workspace:///BUILD.ts",
        "/etc/passwd",
    ] {
        for source in [
            format!("import x from {specifier:?}; export default x;"),
            format!("export * from {specifier:?}; export default 1;"),
            format!("export default await import({specifier:?});"),
            // The specifier is only known while the code runs.
            format!(
                "const s = {specifier:?}.split('').join(''); export default Object.keys(await import(s));"
            ),
        ] {
            let text = error_text(&source);
            assert!(
                text.contains("cannot be imported") || text.contains("there is no module"),
                "{source}: {text}"
            );
            assert!(text.contains("BUILD.ts:1:"), "{source}: {text}");
        }
    }
}

#[test]
fn import_meta_tells_nothing_of_the_machine() {
    let workspace = Workspace::new(&[(
        "a/BUILD.ts",
        "export default { url: import.meta.url, keys: Object.keys(import.meta) };",
    )]);
    let mut evaluator = workspace.evaluator;
    let request = EvaluateRequest::new(workspace.root.path(), "a/BUILD.ts", ContextKind::Build);
    let value = evaluator.evaluate(&request).unwrap().value;
    assert_eq!(value["url"], "workspace:///a/BUILD.ts");
}

#[test]
fn globals_are_exactly_these() {
    let names = value(
        "export default Reflect.ownKeys(globalThis).map(String).filter((n) => !/^[A-Z]/.test(n)).sort();",
    );
    assert_eq!(
        names,
        json!([
            "console",
            "decodeURI",
            "decodeURIComponent",
            "encodeURI",
            "encodeURIComponent",
            "escape",
            "executionContext",
            "globalThis",
            "isFinite",
            "isNaN",
            "parseFloat",
            "parseInt",
            "queueMicrotask",
            "undefined",
            "unescape"
        ])
    );
}

#[test]
fn evaluations_do_not_see_each_other() {
    let mut workspace = Workspace::new(&[
        (
            "BUILD.ts",
            "import { n } from './lib'; (globalThis as any).leak = 1; (Array.prototype as any).leak = 1; export default n();",
        ),
        ("lib.ts", "let count = 0; export const n = () => ++count;"),
        (
            "b.ts",
            "export default ['leak' in globalThis, 'leak' in []];",
        ),
    ]);
    assert_eq!(workspace.evaluate("BUILD.ts").unwrap().value, 1);
    assert_eq!(workspace.evaluate("BUILD.ts").unwrap().value, 1);
    assert_eq!(
        workspace.evaluate("b.ts").unwrap().value,
        json!([false, false])
    );
}

#[test]
fn the_execution_context_is_frozen() {
    let workspace = Workspace::new(&[(
        "BUILD.ts",
        "const errors: string[] = [];\nfor (const f of [() => { (executionContext as any).a.b = 2 }, () => { (globalThis as any).executionContext = 1 }]) { try { f() } catch (e) { errors.push((e as Error).name) } }\nexport default { errors, context: executionContext };",
    )]);
    let mut request = workspace.request("BUILD.ts");
    request.execution_context = json!({ "a": { "b": 1 } });
    let mut evaluator = workspace.evaluator;
    let value = evaluator.evaluate(&request).unwrap().value;
    assert_eq!(
        value,
        json!({ "errors": ["TypeError", "TypeError"], "context": { "a": { "b": 1 } } })
    );
}

/// What every kind of context refuses, by an expression that would be worth its value elsewhere.
#[test]
fn every_context_is_hermetic() {
    let kinds = [
        (ContextKind::Package, "zako.ts"),
        (ContextKind::Build, "BUILD.ts"),
        (ContextKind::Rule, "a.rule.ts"),
        (ContextKind::Toolchain, "a.toolchain.ts"),
        (ContextKind::Config, "a.config.ts"),
    ];
    let bans = [
        "Date.now()",
        "performance.now()",
        "Math.random()",
        "new Intl.NumberFormat()",
        "crypto.randomUUID()",
        "new WeakRef({})",
        "new FinalizationRegistry(() => {})",
        "setTimeout(() => {}, 1)",
        "setInterval(() => {}, 1)",
        "new SharedArrayBuffer(1)",
        "Atomics.isLockFree(4)",
        "Promise.race([])",
        "Symbol('x')",
        "'a'.localeCompare('b')",
        "'a'.toLocaleUpperCase()",
        "new Function('return 1')()",
        "Deno.core",
        "process.env",
        "require('fs')",
        "fetch('http://localhost')",
    ];
    for (context, entry) in kinds {
        for ban in bans {
            let source = format!("export default {{ a: {ban} }};");
            let mut workspace = Workspace::new(&[(entry, &source)]);
            let request = EvaluateRequest::new(workspace.root.path(), entry, context);
            let error = workspace
                .evaluator
                .evaluate(&request)
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("is not available in build files"),
                "{entry} {ban}: {error}"
            );
            assert!(
                error.contains(&format!("--> {entry}:1:")),
                "{entry} {ban}: {error}"
            );
        }
        let source = "import fs from 'node:fs'; export default fs;";
        let mut workspace = Workspace::new(&[(entry, source)]);
        let request = EvaluateRequest::new(workspace.root.path(), entry, context);
        let error = workspace
            .evaluator
            .evaluate(&request)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("Node.js modules do not exist"),
            "{entry}: {error}"
        );
    }
}
