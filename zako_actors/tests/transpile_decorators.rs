//! Decorators of `experimentalDecorators`, run: in the order of `tsc`, whose own output said what is expected here.

mod isolate_support;

use isolate_support::Workspace;
use zako_actors::transpile::{Decorators, TranspileJob, TranspileOptions, Transpiler};

/// Notes that it is asked for, and then that it is called: with `#` and the place of a parameter, and the name.
const NOTES: &str = "const L: string[] = []; const log = (s: string) => { L.push(s) };\n\
    function d(n: string) { log('?' + n); return (t: any, k?: any, x?: any): any => { log(n + (typeof x === 'number' ? '#' + x : '') + (k === undefined ? '' : ':' + String(k))) } }\n\
    const k = (s: string) => { log('k' + s); return s };\n";

fn options(target: &str, decorators: Decorators) -> TranspileOptions {
    TranspileOptions {
        target: target.to_owned(),
        decorators: Some(decorators),
        ..TranspileOptions::default()
    }
}

/// What `source` notes when it is transpiled for `target` and run.
fn order(source: &str, target: &str, decorators: Decorators) -> String {
    let source = format!("{NOTES}{source}\n");
    let has_default = source.contains("export default");
    let mut job = TranspileJob::new("lib.ts", format!("{source}export {{ L }};\n"));
    job.options = options(target, decorators);
    let output = Transpiler::new().transpile(&job);
    let code = output.unwrap_or_else(|errors| panic!("{}", errors[0])).code;
    let import = if has_default {
        "import It, { L }"
    } else {
        "import { L }"
    };
    let main = format!("{import} from './lib.mjs';\nexport default L.join(' ');\n");
    let mut workspace = Workspace::new(&[("BUILD.ts", &main), ("lib.mjs", &code)]);
    match workspace.evaluate("BUILD.ts") {
        Ok(evaluation) => evaluation.value.as_str().unwrap_or_default().to_owned(),
        Err(error) => panic!("{error}\n{code}"),
    }
}

#[track_caller]
fn called(source: &str, expected: &str) {
    for target in ["es2017", "es2021", "es2022", "esnext"] {
        for decorators in [Decorators::Legacy, Decorators::LegacyWithMetadata] {
            assert_eq!(
                order(source, target, decorators),
                expected,
                "{target}: {source}"
            );
        }
    }
}

#[test]
fn those_of_instances_come_before_static_ones() {
    called(
        "class A { @d('s1') static s1() {} @d('i1') i1() {} @d('s2') static s2 = 1; @d('i2') i2 = 2 }",
        "?i1 i1:i1 ?i2 i2:i2 ?s1 s1:s1 ?s2 s2:s2",
    );
    // Parameters with their method, those of the constructor with the class.
    called(
        "@d('C') class A { constructor(@d('cp') a: any) {} @d('s') static s(@d('sp') x: any) {} @d('i') i(@d('p0') a: any, @d('p1') b: any) {} }",
        "?i ?p0 ?p1 p1#1:i p0#0:i i:i ?s ?sp sp#0:s s:s ?C ?cp cp#0 C",
    );
    called(
        "@d('C') class A { static s: any = (log('init'), A); @d('s') static t = 1; @d('i') i = 1; static { log('block') } }",
        "init block ?i i:i ?s s:t ?C C",
    );
    called(
        "class A { #p = 1; @(#p in A ? d('s') : d('s!')) static s() {} @d('i') i() {} }",
        "?i i:i ?s! s!:s",
    );
}

#[test]
fn wherever_a_class_stands() {
    called(
        "class A { @d('s') static s() { class B { @d('Bs') static s() {} @d('Bi') i() {} } } @d('i') i() {} } A.s();\n\
         function f() { switch (1 as number) { case 1: class D { @d('Ds') static s = 1; @d('Di') i = 1 } } } f();\n\
         namespace N { export class E { @d('Es') static s = 1; @d('Ei') i = 1 } }",
        "?i i:i ?s s:s ?Bi Bi:i ?Bs Bs:s ?Di Di:i ?Ds Ds:s ?Ei Ei:i ?Es Es:s",
    );
    called(
        "export class A { @d('s') static s = 1; @d('i') i = 1 } class B extends A { @d('Bs') static s = 1; @d('Bi') i = 1 }",
        "?i i:i ?s s:s ?Bi Bi:i ?Bs Bs:s",
    );
    called(
        "export default class { @d('s') static s = 1; @d('i') i = 1 }",
        "?i i:i ?s s:s",
    );
    called(
        "@d('D') export default class { @d('s') static s = 1; @d('i') i = 1 }",
        "?i i:i ?s s:s ?D D",
    );
}

#[test]
fn names_are_computed_where_they_stand() {
    called(
        "class A { @d('s') static [k('s1')]() {} @d('i') [k('i1')]() {} @d('s2') static [k('s2')] = (log('init'), 2); @d('i2') [k('i2')] = 1 }",
        "ks1 ki1 ks2 ki2 init ?i i:i1 ?i2 i2:i2 ?s s:s1 ?s2 s2:s2",
    );
}

#[test]
fn both_halves_of_an_accessor_are_decorated_at_once() {
    called(
        "class A { @d('sg') static get x() { return 1 } @d('g') get y() { return 1 } set y(@d('p') v: any) {} static set x(@d('sp') v: any) {}\n\
         set w(@d('wp') v: any) {} @d('w') get w() { return 1 } @d('m') m() {} }",
        "?g ?p p#0:y g:y ?w ?wp wp#0:w w:w ?m m:m ?sg ?sp sp#0:x sg:x",
    );
}

#[test]
fn calls_of_the_author_stay_where_they_are() {
    called(
        "const _decorate = (...a: any[]) => { log(a[3]) };\n\
         class A { @d('s') static s = 1; @d('i') i = 1 } _decorate([1], A, 'x', 'first'); _decorate([1], A.prototype, 'x', 'second');",
        "?i i:i ?s s:s first second",
    );
}

#[test]
fn what_would_not_be_called_is_refused_with_its_place() {
    for (source, place, words) in [
        (
            "export const A = class { @d s = 1 };",
            "a.ts:1:26",
            "class declarations",
        ),
        ("export class A { @d #s = 1 }", "a.ts:1:18", "private names"),
        (
            "@d export class A { #p = 1; @(#p in ({} as any) ? d : d) m() {} }",
            "a.ts:1:1",
            "would not be called",
        ),
    ] {
        let source = format!("{source} declare const d: any;");
        let mut job = TranspileJob::new("a.ts", source.as_str());
        job.options = options("es2022", Decorators::Legacy);
        let errors = Transpiler::new().transpile(&job).unwrap_err();
        let told = errors[0].to_string();
        assert!(told.contains(place) && told.contains(words), "{told}");
    }
}
