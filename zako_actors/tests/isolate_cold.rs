//! Runtimes that start without a snapshot behave like the others. One test, since the first
//! evaluation of a process decides for all.

mod isolate_support;

use isolate_support::Workspace;
use serde_json::json;
use zako_actors::isolate::{Evaluator, Startup};

#[test]
fn a_cold_start_is_as_hermetic() {
    let workspace = Workspace::new(&[
        (
            "BUILD.ts",
            "import { target } from 'zako:build'; import { version } from 'zako:core';\nexport default { a: target({ cmd: ['a'] }), version };",
        ),
        (
            "globals.ts",
            "export default Reflect.ownKeys(globalThis).map(String).filter((n) => !/^[A-Z]/.test(n)).sort();",
        ),
        ("random.ts", "export default Math.random();"),
        ("symbol.ts", "export default String(Symbol('x'));"),
        (
            "code.ts",
            "export default (() => {}).constructor('return 1')();",
        ),
    ]);
    let mut evaluator = Evaluator::new().unwrap().with_startup(Startup::Cold);
    let mut run = |entry: &str| evaluator.evaluate(&workspace.request(entry));
    let built = run("BUILD.ts").unwrap().value;
    assert_eq!(built["a"]["cmd"], json!(["a"]));
    assert_eq!(built["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        run("globals.ts").unwrap().value,
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
    for entry in ["random.ts", "symbol.ts", "code.ts"] {
        let text = run(entry).unwrap_err().to_string();
        assert!(text.contains("not available in build files"), "{text}");
    }
}
