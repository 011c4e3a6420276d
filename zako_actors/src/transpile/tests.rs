//! Tests of ES module output and of diagnostics. CommonJS output is run in `tests/`.

use super::*;

fn attempt(
    path: &str,
    source: &str,
    options: TranspileOptions,
) -> Result<TranspileOutput, Vec<Diagnostic>> {
    let mut job = TranspileJob::new(path, source);
    job.options = options;
    Transpiler::new().transpile(&job)
}

#[track_caller]
fn esm(path: &str, source: &str) -> String {
    match attempt(path, source, TranspileOptions::default()) {
        Ok(output) => output.code,
        Err(errors) => panic!("{}", errors[0]),
    }
}

#[test]
fn types_go_and_values_stay() {
    assert_eq!(
        esm(
            "a.ts",
            "import { T, v } from './b'; import type { U } from './c'; import './d'; export const x: T & U = v as T;"
        ),
        "import { v } from \"./b\";\nimport \"./d\";\nexport const x = v;\n"
    );
}

#[test]
fn verbatim_syntax_keeps_imports() {
    let options = TranspileOptions {
        verbatim_module_syntax: true,
        ..TranspileOptions::default()
    };
    let source = "import { a, type T } from './b';\nexport { a };";
    let code = attempt("a.ts", source, options).unwrap().code;
    assert_eq!(code, "import { a } from \"./b\";\nexport { a };\n");
}

#[test]
fn known_files_complete_specifiers() {
    let files = [
        (
            "src/main.ts",
            "import { a } from './a';\nexport * from './dir';\nexport { b } from './b.ts';\nimport c from './c.js';\nconst d = import('./d');\nexport { I } from './types';\nimport 'rxjs';\nconsole.log(a, c, d);",
        ),
        ("src/a.ts", "export const a = 1;"),
        ("src/b.ts", "export const b = 1;"),
        ("src/c.ts", "export default 1;"),
        ("src/d.mts", "export {};"),
        ("src/dir/index.tsx", "export {};"),
        ("src/types.ts", "export interface I {}"),
    ];
    let mut transpiler = Transpiler::new();
    let surveys: Vec<_> = files
        .iter()
        .map(|(path, source)| ((*path).to_owned(), transpiler.survey(path, source)))
        .collect();
    let mut job = TranspileJob::new(files[0].0, files[0].1);
    job.facts = ModuleIndex::new(surveys).facts("src/main.ts");
    assert_eq!(
        transpiler.transpile(&job).unwrap().code,
        "import { a } from \"./a.js\";\nexport * from \"./dir/index.js\";\nexport { b } from \"./b.js\";\nimport c from \"./c.js\";\nconst d = import(\"./d.mjs\");\nimport \"rxjs\";\nconsole.log(a, c, d);\n"
    );
}

#[test]
fn what_is_said_to_be_a_type_is_not_said_twice() {
    let files = [
        (
            "a.ts",
            "import type { Q } from './b';\nimport { Q as R, type S } from './b';\nexport type { Q as Q2 } from './b';\n\
             export { Q as Q3 } from './b';\nexport type { Q };\nexport { R };\nexport const a: Q | R | S = {};\n",
        ),
        ("b.ts", "export interface Q {}\nexport type S = 1;\n"),
    ];
    let mut transpiler = Transpiler::new();
    let surveys = files.map(|(path, source)| (path.to_owned(), transpiler.survey(path, source)));
    let mut job = TranspileJob::new(files[0].0, files[0].1);
    job.facts = ModuleIndex::new(surveys).facts("a.ts");
    job.options.declarations = true;
    let output = transpiler.transpile(&job).unwrap();
    assert_eq!(output.code, "export const a = {};\n");
    let declared = output.declarations.unwrap();
    for line in [
        "import type { Q } from \"./b\";",
        "import { type Q as R, type S } from \"./b\";",
        "export type { Q as Q2 } from \"./b\";",
        "export { type Q as Q3 } from \"./b\";",
        "export type { Q };",
        "export { type R };",
    ] {
        assert!(declared.lines().any(|it| it == line), "{line}: {declared}");
    }
}

#[test]
fn the_extension_says_the_format() {
    let with = |path: &str, module| {
        let options = TranspileOptions {
            module,
            ..TranspileOptions::default()
        };
        let source = "import { a } from './a';\nexport const b = a;";
        attempt(path, source, options).unwrap().code
    };
    for module in [ModuleFormat::Esm, ModuleFormat::CommonJs] {
        let code = with("a.cts", module);
        assert!(code.contains("require(\"./a\")"), "{code}");
        let code = with("a.mts", module);
        assert!(code.contains("export const b"), "{code}");
        let required = "import x = require('x');\nexport = x;";
        let options = TranspileOptions {
            module,
            ..TranspileOptions::default()
        };
        let code = attempt("a.cts", required, options).unwrap().code;
        assert!(code.contains("module.exports = x"), "{code}");
    }
    assert!(with("a.ts", ModuleFormat::CommonJs).contains("require("));
}

#[test]
fn an_accessor_is_refused_where_it_would_stay() {
    let source = "declare class D { accessor d: number }\nabstract class A { abstract accessor a: number; accessor b = 1; static accessor #c = 2 }\nexport const accessor = A;";
    let with = |target: &str, decorators| {
        let options = TranspileOptions {
            target: target.to_owned(),
            decorators,
            ..TranspileOptions::default()
        };
        attempt("a.ts", source, options)
    };
    for decorators in [None, Some(Decorators::Legacy)] {
        let errors = with("es2022", decorators).unwrap_err();
        let places: Vec<_> = errors
            .iter()
            .filter_map(|it| it.location.as_ref())
            .collect();
        let places: Vec<_> = places.iter().map(|it| (it.line, it.column)).collect();
        assert_eq!(places, [(2, 49), (2, 65)], "{errors:?}");
        assert!(errors[0].to_string().contains("a getter and a setter"));
    }
    assert!(with("esnext", None).is_ok());
    assert!(with("es2022", Some(Decorators::Preserve)).is_ok());
}

#[test]
fn all_mistakes_are_reported_with_their_places() {
    let errors = attempt(
        "src/a.ts",
        "let a = 1;\nlet a = 2;\nconst b;\nlabel: label: for (;;) {}\nbreak;\n",
        TranspileOptions::default(),
    )
    .unwrap_err();
    let mut lines: Vec<u32> = errors
        .iter()
        .filter_map(|error| error.location.as_ref().map(|l| l.line))
        .collect();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines, [1, 3, 4, 5], "{errors:#?}");
    assert!(errors.iter().all(|error| error.frame.is_some()));
    assert!(errors[0].to_string().contains("--> src/a.ts:"));
}

#[test]
fn unknown_targets_and_files_are_reported() {
    let options = TranspileOptions {
        target: "es2099".to_owned(),
        ..TranspileOptions::default()
    };
    let errors = attempt("a.ts", "1;", options).unwrap_err();
    assert!(
        errors[0].to_string().contains("`es2099` is not a target"),
        "{}",
        errors[0]
    );
    let errors = attempt("a.css", "", TranspileOptions::default()).unwrap_err();
    assert!(
        errors[0]
            .to_string()
            .contains("`a.css` is not a file that the transpiler reads")
    );
}

#[test]
fn import_equals_is_refused_in_es_modules() {
    let errors = attempt(
        "a.ts",
        "import x = require('x');\nexport = x;",
        TranspileOptions::default(),
    )
    .unwrap_err();
    assert_eq!(errors.len(), 2);
    assert!(errors[0].to_string().contains("a.ts:1:1"), "{}", errors[0]);
}

#[test]
fn class_fields_follow_the_option() {
    let source = "class A { a; b = 1; declare c: number; constructor(readonly d = 2) {} }";
    let with = |define| {
        let options = TranspileOptions {
            use_define_for_class_fields: define,
            ..TranspileOptions::default()
        };
        attempt("a.ts", source, options).unwrap().code
    };
    assert!(with(None).contains("\ta;\n"));
    assert!(!with(Some(false)).contains("\ta;\n"));
    assert!(!with(None).contains("\tc;"));
}

#[test]
fn helpers_are_inline_and_after_the_directives() {
    let options = TranspileOptions {
        target: "es2017".to_owned(),
        ..TranspileOptions::default()
    };
    let code = attempt("a.ts", "'use client';\nexport const a = { ...b };", options)
        .unwrap()
        .code;
    assert!(
        code.starts_with("\"use client\";\nconst _objectSpread = function"),
        "{code}"
    );
    assert!(!code.contains("import"), "{code}");
}

#[test]
fn maps_name_their_source_relative_to_the_output() {
    let options = TranspileOptions {
        source_map: true,
        output_path: Some("dist/a.js".to_owned()),
        ..TranspileOptions::default()
    };
    let output = attempt("src/a.ts", "export const é: number = 1;\n", options).unwrap();
    assert_eq!(
        output.code,
        "export const é = 1;\n//# sourceMappingURL=a.js.map\n"
    );
    let map: serde_json::Value = serde_json::from_str(&output.map.unwrap()).unwrap();
    assert_eq!(map["sources"][0], "../src/a.ts");
    assert_eq!(map["version"], 3);
}

#[test]
fn nesting_beyond_any_stack_is_survived() {
    let depth = 20_000;
    for (open, close) in [
        ("(", ")"),
        ("[", "]"),
        ("!", ""),
        ("a=>", ""),
        ("if(a){}else ", ""),
    ] {
        let source = format!("{}a{}", open.repeat(depth), close.repeat(depth));
        assert!(
            attempt("a.ts", &source, TranspileOptions::default()).is_ok(),
            "{open}"
        );
    }
}

#[test]
fn the_arena_forgets_between_jobs() {
    let mut transpiler = Transpiler::new();
    for round in 0..3 {
        assert!(
            transpiler
                .transpile(&TranspileJob::new("a.ts", "let x = ;"))
                .is_err()
        );
        let job = TranspileJob::new("b.ts", format!("let x: number = {round};"));
        assert_eq!(
            transpiler.transpile(&job).unwrap().code,
            format!("let x = {round};\n")
        );
        transpiler.gc();
    }
}

#[test]
fn decorators_are_lowered_only_when_somebody_says_how() {
    let source = "// a@b.c\nconst at: string = '@';\nfunction f(v: any, c?: any) {}\nexport class A { @f m() {} }\n";
    let with = |target: &str, decorators| {
        let options = TranspileOptions {
            target: target.to_owned(),
            decorators,
            ..TranspileOptions::default()
        };
        attempt("a.ts", source, options)
    };
    let errors = with("es2022", None).unwrap_err();
    assert_eq!(errors.len(), 1);
    let told = errors[0].to_string();
    for part in [
        UNDECIDED,
        "a.ts:4:18",
        "decorators: \"legacy\"",
        "\"preserve\"",
        "esbuild, swc or tsc",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(with("node20", None).is_err());
    for (target, decorators) in [("esnext", None), ("es2022", Some(Decorators::Preserve))] {
        let code = with(target, decorators).unwrap().code;
        assert!(code.contains("@f m() {}"), "{code}");
        let all = "@f class A {\n@f p: number = 1; @f accessor q: number = 2; @f static #r = 3;\n\
                   @f get s(): number { return 4; }\n@f({ a: 1 }) m(b: string) {}\n}\nconst B = @f class {};\n";
        let options = TranspileOptions {
            target: target.to_owned(),
            decorators,
            ..TranspileOptions::default()
        };
        let code = attempt("b.ts", all, options).unwrap().code;
        let words: Vec<&str> = code.split_whitespace().collect();
        let code = words.join(" ");
        if target == "esnext" {
            // What tsc leaves of it: everything but the types.
            let left = "@f class A { @f p = 1; @f accessor q = 2; @f static #r = 3; @f get s() { return 4; } @f({ a: 1 }) m(b) {} } const B = @f class {};";
            assert_eq!(code, left);
        }
        assert_eq!(code.matches("@f").count(), 7, "{code}");
    }
    let code = with("es2022", Some(Decorators::Legacy)).unwrap().code;
    assert!(!code.contains("@f"), "{code}");
    // Nothing is said about files without any.
    esm(
        "a.ts",
        "/** @param a */ export const a = '@' + `@${1 /* @ */}`;",
    );
    let everywhere = [
        "@f class A {}",
        "class A { @f p = 1 }",
        "class A { constructor(@f a: any) {} }",
        "const A = @f class {}",
    ];
    for source in everywhere {
        assert!(
            attempt("a.ts", source, TranspileOptions::default()).is_err(),
            "{source}"
        );
    }
}

#[test]
fn places_of_legacy_decorators_are_those_of_the_source() {
    let source = "declare const d: any;\nexport class A {\n  @d('first') static s() {}\n  @d('second') i() {}\n}\n";
    let mut job = TranspileJob::new("a.ts", source);
    job.options = TranspileOptions {
        source_map: true,
        decorators: Some(Decorators::Legacy),
        ..TranspileOptions::default()
    };
    let output = Transpiler::new().transpile(&job).unwrap();
    for (word, line) in [("\"second\"", 3), ("\"first\"", 2)] {
        assert_eq!(place(&output, word).0, line, "{word}");
    }
}

/// Line and column, in the source, of what stands in the output.
fn place(output: &TranspileOutput, what: &str) -> (u32, u32) {
    let map = oxc_sourcemap::SourceMap::from_json_string(output.map.as_deref().unwrap()).unwrap();
    let mut lines = output.code.lines().enumerate();
    let (row, text) = lines.find(|(_, text)| text.contains(what)).unwrap();
    let column = u32::try_from(text.find(what).unwrap()).unwrap();
    let row = u32::try_from(row).unwrap();
    let token = map.lookup_token(&map.generate_lookup_table(), row, column);
    let token = token.unwrap();
    (token.get_src_line(), token.get_src_col())
}

#[test]
fn places_of_import_calls_are_those_of_the_source() {
    let options = TranspileOptions {
        source_map: true,
        module: ModuleFormat::CommonJs,
        ..TranspileOptions::default()
    };
    let source = "export const a = 1, b =\n  [0,\n  import('./m'),\n  import(a)];\n";
    let output = attempt("a.ts", source, options).unwrap();
    for (what, expected) in [
        ("Promise.resolve().then", (2, 2)),
        ("__importStar(require(\"./m\"))", (2, 2)),
        ("require(\"./m\")", (2, 2)),
        ("\"./m\"", (2, 9)),
        ("__importComputed)", (3, 2)),
    ] {
        assert_eq!(place(&output, what), expected, "{what}: {}", output.code);
    }
}

#[track_caller]
fn refused(source: &str, message: &str, help: &str, column: u32) {
    let name = if source.contains("/>") {
        "a.tsx"
    } else {
        "a.ts"
    };
    let errors = attempt(name, source, TranspileOptions::default()).unwrap_err();
    let told = errors[0].to_string();
    assert!(told.contains(message) && told.contains(help), "{told}");
    let at = errors[0].location.as_ref().map(|it| it.column);
    assert_eq!(at, Some(column), "{told}");
}

#[test]
fn what_cannot_be_seen_from_another_part_of_a_namespace_is_refused() {
    let exported = "`a` is exported by another part of namespace `N`";
    let first = "namespace N { export const a = 1 }\n";
    for (part, help, column) in [
        ("namespace N { a = 2 }", "write `N.a`", 15),
        ("namespace N { export const b = <a.b/> }", "write `N.a`", 33),
        (
            "namespace N { export const f = (N: any) => a }",
            "another `N` is nearer",
            44,
        ),
        (
            "namespace N { export enum E { b = a } }",
            "write its value into the enum",
            35,
        ),
        (
            "namespace N { export enum E { b = a.length } }",
            "write `N.a.length`",
            35,
        ),
        (
            "namespace N { export enum E { b = 1 + a(1) } }",
            "write `N.a`",
            39,
        ),
        (
            "namespace N { const f = (N: any) => { enum E { b = a.b } } }",
            "another `N` is nearer",
            52,
        ),
    ] {
        refused(&format!("{first}{part}"), exported, help, column);
    }
    refused(
        "namespace A { export enum E { p } }\nnamespace A { export enum E { r = 5 } }",
        "`E` is exported by an earlier part of the namespace",
        "into one enum",
        27,
    );
}

#[test]
fn what_makes_elements_is_refused_where_another_part_exports_it() {
    let source = "namespace N { export const h: any = 1, F = 2, React: any = 3 }\nnamespace N {";
    for (pragmas, part, name, column) in [
        ("@jsx h", "console.log(<div/>) }", "h", 28),
        (
            "@jsx h\n * @jsxFrag F",
            "const h = N.h, f = <></> }",
            "F",
            34,
        ),
        ("", "class A { m = () => <a.b.c/> } }", "React", 36),
        ("@jsx React.h", "const f = <></> }", "React", 25),
    ] {
        let source = format!("/** @jsxRuntime classic {pragmas} */{source} {part}");
        let part = format!("`{name}` is exported by another part of namespace `N`");
        let help = format!("write `const {name} = N.{name};` before");
        refused(&source, &part, &help, column);
    }
    let own = "/* @jsxRuntime classic */\n/* @jsx h */ namespace N { export const h: any = 1 }\n\
               namespace N { const h = N.h; console.log(<div/>) }";
    let code = esm("a.tsx", own);
    assert!(code.contains("h(\"div\", null)"), "{code}");
    esm(
        "a.tsx",
        &own.replace("const h = N.h", "")
            .replace("classic", "automatic"),
    );
}

#[test]
fn lists_of_exports_are_refused_in_namespaces() {
    for (part, column) in [
        ("namespace N { export {}; }", 15),
        ("namespace N { const a = 1; export { a }; }", 28),
        ("export namespace A.B { export type { T }; }", 24),
        ("namespace A { namespace B { export {}; } }", 29),
    ] {
        let message = "a list of exports is not permitted in a namespace";
        refused(part, message, "write `export` before", column);
    }
    esm(
        "a.ts",
        "declare namespace N { const a: number; export { a }; export {} }\nexport {};",
    );
}

#[test]
fn variables_that_a_namespace_exports_are_refused() {
    refused(
        "namespace A.B { export let n = 0 }",
        "`export let n` in a namespace",
        "write `export const n`, or leave `export` out",
        24,
    );
    let code = esm(
        "a.ts",
        "declare namespace D { let n: number }\nnamespace A { let n = 0; export declare let m: number; export const f = () => n++; }",
    );
    assert!(code.contains("let n = 0;"), "{code}");
}

#[test]
fn parts_of_namespaces_call_what_others_export_by_its_full_name() {
    let code = esm(
        "a.ts",
        "import { a } from './a';\nnamespace N { export const a = 1; export type T = 1; const own = 2 }\nnamespace N { const own = 3; type U = T; export const b: typeof a = a; console.log(own) }",
    );
    assert!(code.contains("_N2.b = N.a;"), "{code}");
    assert!(
        !code.contains("import") && !code.contains("N.own"),
        "{code}"
    );
}

#[test]
fn signs_before_texts_in_enums_are_left_to_the_engine() {
    let code = esm(
        "a.ts",
        "enum A { e = +\"3\", f, n = -1, t = \"4\", m = ~t }\nconst g = () => { enum B { x = -(\"2\" + 1), y = ~2 } return B }",
    );
    for part in [
        "A[\"e\"] = +\"3\"",
        "A[\"f\"] = 1 + A[\"e\"]",
        "A[\"n\"] = -1",
        "A[\"m\"] = ~A.t",
        "B[\"x\"] = -(\"2\" + 1)",
        "B[\"y\"] = -3",
    ] {
        assert!(code.contains(part), "{part}: {code}");
    }
}

#[test]
fn a_commonjs_file_among_es_modules_imports_them() {
    let options = |module| TranspileOptions {
        module,
        ..TranspileOptions::default()
    };
    let source = "export const a = import('./a');";
    let mut job = TranspileJob::new("m.cts", source);
    job.facts.resolved.insert("./a".into(), "a.ts".into());
    let code = Transpiler::new().transpile(&job).unwrap().code;
    assert!(code.contains("import(\"./a.js\")"), "{code}");
    job.options = options(ModuleFormat::CommonJs);
    let code = Transpiler::new().transpile(&job).unwrap().code;
    assert!(code.contains("__importStar(require(\"./a\"))"), "{code}");
    let stay = "export const a = [import('./a.mjs'), import('file:///a.js'), import('./a.mjs?x=1'), import('./a.mjs#x'), \
                import(`./a.mjs`), import(`data:text/javascript,1`)];";
    let code = attempt("a.ts", stay, options(ModuleFormat::CommonJs)).unwrap();
    assert!(!code.code.contains("__import"), "{}", code.code);
}
