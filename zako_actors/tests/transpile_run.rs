//! ES module output, run: what `tsc`'s own output said is expected here.

mod isolate_support;

use isolate_support::Workspace;
use serde_json::{Value, json};
use zako_actors::transpile::{TranspileJob, TranspileOptions, Transpiler};

/// What `source` exports as its default when it is transpiled for `target` and run.
fn value(source: &str, target: &str) -> Value {
    let mut job = TranspileJob::new("lib.ts", source);
    job.options = TranspileOptions {
        target: target.to_owned(),
        ..TranspileOptions::default()
    };
    let output = Transpiler::new().transpile(&job);
    let code = output
        .unwrap_or_else(|errors| panic!("{}\n{source}", errors[0]))
        .code;
    let main = "import it from './lib.mjs';\nexport default await it;\n";
    let mut workspace = Workspace::new(&[("BUILD.ts", main), ("lib.mjs", &code)]);
    match workspace.evaluate("BUILD.ts") {
        Ok(evaluation) => evaluation.value,
        Err(error) => panic!("{error}\n{code}"),
    }
}

#[track_caller]
fn gives(source: &str, expected: &Value) {
    for target in ["es2015", "es2022"] {
        assert_eq!(value(source, target), *expected, "{target}: {source}");
    }
}

#[test]
fn parts_of_a_namespace_see_what_the_others_export() {
    for (source, expected) in [
        (
            "namespace N { export const a = 1 } namespace N { export const c = a + 1 } export default N.c;",
            json!(2),
        ),
        (
            "namespace N { export function f() { return late() } export function self(this: any) { return this === N } }\n\
             namespace N { export function late() { return 5 } export const c = [f(), self()] } export default N.c;",
            json!([5, true]),
        ),
        (
            "namespace A.B.C { export const x = 1 } namespace A { export const y = B.C.x } export default A.y;",
            json!(1),
        ),
        (
            "const a = 'outer'; namespace N { export const a = 'inner' } namespace N { export const b = a } export default [a, N.b];",
            json!(["outer", "inner"]),
        ),
        (
            "namespace N { export const a = 1 } namespace N { export const o = [{ a, b: a, [a]: typeof a }, ((x = a) => x)(), ((a: number) => a)(3)];\n\
             { const a = 7; o.push(a) } for (const x of [a]) o.push(x) } export default N.o;",
            json!([{ "a": 1, "b": 1, "1": "number" }, 1, 3, 7, 1]),
        ),
        (
            "namespace A { export namespace B { export const x = 1; export type T = number } }\n\
             namespace A { import b = B.x; import Q = B; export const c: B.T[] = [b, Q.x] } namespace A.B { export const y = [x, c] } export default A.B.y;",
            json!([1, [1, 1]]),
        ),
        (
            "namespace A { export namespace B { export const x = 1 } } namespace A { export namespace B { export type T = 1 } export const z = B.x } export default A.z;",
            json!(1),
        ),
        (
            "enum S { p = 4 } namespace S { export enum In { a = 2 } } namespace S { enum Own { q = 1 } enum Own { r = q } export const x = [In.a, Own.r] } export default S.x;",
            json!([2, 1]),
        ),
    ] {
        gives(source, &expected);
    }
}

#[test]
fn types_with_the_name_of_a_namespace_do_not_hide_it() {
    let first = "namespace N { export const a = 1 }";
    for part in [
        "namespace N { export interface N { q: 1 } export const v = a }",
        "namespace N { type N = 5; export const v = a }",
        "namespace N { function f<N>(x: N) { return a } export const v = f(0) }",
        "namespace N { declare const N: any; export const v = a }",
        "namespace N { declare class N {} interface N { q: 1 } export const v = a }",
        "namespace N { namespace N { export type T = 1 } export const v = a }",
    ] {
        gives(&format!("{first} {part} export default N.v;"), &json!(1));
    }
}

#[test]
fn values_of_enums_may_be_read_from_other_parts_by_their_full_name() {
    gives(
        "namespace N { export enum E { b = 3 } export const f = () => 4 }\n\
         namespace N { export enum G { x = N.E.b, y = N.f() } } export default [N.G.x, N.G[3], N.G.y, N.G[4]];",
        &json!([3, "x", 4, "y"]),
    );
}

#[test]
fn namespaces_of_classes_functions_and_enums_see_their_other_parts() {
    gives(
        "function F() {} namespace F { export const a = 1 } namespace F { export const b = a }\n\
         enum G { q = 2 } namespace G { export const m = 3 } namespace G { export const n = m }\n\
         class C {} namespace C { export class D { x = 1 } } namespace C { export class X extends D { y = new D().x } }\n\
         export default [F.b, G.n, G.q, new C.X().y];",
        &json!([1, 3, 2, 1]),
    );
}

#[test]
fn enums_compute_signs_before_texts_as_the_engine_does() {
    gives(
        "enum S { t = '3' } enum A { p = '3', e = +p, f, g = -S.t, h = ~S['t'], i = +('1' + 2), j = +`4`, k = -1, l = ~3, m = -k }\n\
         export default [A.e, A.f, A.g, A.h, A.i, A.j, A.k, A.l, A.m, A[3]];",
        &json!([3, 4, -3, -4, 12, 4, -1, -4, 1, "e"]),
    );
}

#[test]
fn an_async_function_whose_parameter_throws_rejects() {
    gives(
        "const t = (): any => { throw new Error('p') };\n\
         async function f(x = t()) { return x }\n\
         class C { async m(x = t()) { return [this, x] } static async s({ a } = t()) { return a } g = async (x = t()) => this }\n\
         const o = { async m(x = t()) { return x }, async self(x = 1) { return this === o && arguments.length + x } };\n\
         const all: any[] = [f, new C().m, C.s, new C().g, o.m, async function (x = t()) { return x }, async (x = t()) => x];\n\
         export default Promise.all([...all.map((it) => it().catch((error: Error) => error.message)), o.self()]);",
        &json!(["p", "p", "p", "p", "p", "p", "p", 1]),
    );
}
