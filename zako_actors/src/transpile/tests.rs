//! Tests of the transpiler that look at whole outputs.

use super::*;

fn transpile(path: &str, source: &str, options: TranspileOptions) -> TranspileOutput {
    let mut job = TranspileJob::new(path, source);
    job.options = options;
    Transpiler::new()
        .transpile(&job)
        .unwrap_or_else(|errors| panic!("{}", errors[0]))
}

#[test]
fn types_go_and_values_stay() {
    let out = transpile(
        "a.ts",
        "import { T, v } from './b'; import type { U } from './c'; export const x: T & U = v as T;",
        TranspileOptions::default(),
    );
    assert_eq!(
        out.code,
        "import { v } from \"./b\";\nexport const x = v;\n"
    );
}
