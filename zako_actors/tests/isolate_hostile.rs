//! Scripts that misbehave: each ends in one clear error, and the evaluator works afterwards.

mod isolate_support;

use std::time::Duration;

use isolate_support::Workspace;
use serde_json::json;
use zako_actors::isolate::{
    CancelToken, ContextKind, EvaluateError, EvaluateRequest, FailureKind, IsolatePool, Limits,
};

/// Evaluates a hostile script and then a good one on the same evaluator.
#[track_caller]
fn survive(source: &str, wall: Duration) -> EvaluateError {
    let mut workspace = Workspace::new(&[
        ("BUILD.ts", source),
        ("good.ts", "export default [1, 'a'].map(String);"),
    ]);
    let mut request = workspace.request("BUILD.ts");
    request.limits.heap_bytes = 64 << 20;
    request.limits.wall = wall;
    let result = workspace.evaluator.evaluate(&request);
    let after = workspace.evaluate("good.ts").unwrap();
    assert_eq!(after.value, serde_json::json!(["1", "a"]));
    match result {
        Ok(evaluation) => panic!("unexpected success: {}", evaluation.value),
        Err(error) => error,
    }
}

/// Long enough for a slow machine; reached only by scripts that never end.
const SHORT: Duration = Duration::from_millis(300);
/// Of computing: long enough for what comes before the loop, however slowly the clock's time goes by.
const COMPUTING: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(120);
const FOREVER: Duration = Duration::from_secs(100_000);

#[test]
fn endless_loops_hit_the_wall_limit() {
    for source in [
        "while (true) {}",
        "for (;;) { try { while (true) {} } catch {} }",
        "const f = () => { Promise.resolve().then(f) }; f(); export default await new Promise(() => {});",
        "export default { get a() { while (true) {} } };",
        "/(a+)+$/.test('a'.repeat(64) + 'b');",
        "(function f(): void { try { f() } finally { f() } })();",
    ] {
        let error = survive(source, SHORT);
        assert_eq!(error.kind, FailureKind::Timeout, "{source}: {error}");
        assert!(
            error
                .to_string()
                .contains("took longer than its limit of 300ms"),
            "{error}"
        );
    }
}

#[test]
fn a_script_that_is_stopped_between_its_imports_stays_stopped() {
    for source in [
        "for (let i = 0; ; i++) { try { await import('./none' + i + '.ts') } catch {} }",
        "for (let i = 0; ; i++) { try { await import('./good' + '.ts') } catch {} }",
        "let i = 0; const f = async () => { for (;;) { try { await Promise.all([import('./a' + i++ + '.ts'), import('./b' + i + '.ts')]) } catch {} } }; for (let k = 0; k < 50; k++) f(); await f();",
    ] {
        for _ in 0..3 {
            let mut workspace = Workspace::new(&[("BUILD.ts", source), ("good.ts", "export {};")]);
            let mut request = workspace.request("BUILD.ts");
            request.limits = Limits::computing(SHORT);
            request.limits.wall = LONG;
            // Who needs longer takes the process along.
            request.limits.to_stop = COMPUTING;
            let error = workspace.evaluator.evaluate(&request).unwrap_err();
            assert_eq!(error.kind, FailureKind::CpuTime, "{source}: {error}");
            assert!(workspace.evaluate("good.ts").is_err(), "no default export");
        }
    }
}

#[test]
fn collecting_garbage_is_computing() {
    let source = "const f = () => Promise.resolve().then(f); f(); await f();";
    let mut workspace = Workspace::new(&[("BUILD.ts", source)]);
    let mut request = workspace.request("BUILD.ts");
    request.limits = Limits::computing(SHORT);
    request.limits.wall = LONG;
    request.limits.heap_bytes = 1 << 30;
    let error = workspace.evaluator.evaluate(&request).unwrap_err();
    assert_eq!(error.kind, FailureKind::CpuTime, "{error}");
    assert!(error.to_string().contains("computed for longer"), "{error}");
}

#[test]
fn what_a_script_throws_is_shortened_and_has_its_file() {
    let long = "x".repeat(1000);
    for (source, said) in [
        ("throw 'x'.repeat(1e7);", "bytes left out … xxx"),
        ("throw new Error('x'.repeat(1e7));", "bytes left out … xxx"),
        ("await Promise.any([]);", "--> BUILD.ts:1:"),
        (
            "const any: any = 'any'; await (Promise as any)[any]([]);",
            "BUILD.ts",
        ),
    ] {
        let said_of_it = survive(source, LONG).to_string();
        assert!(said_of_it.contains(said), "{source}: {said_of_it}");
        assert!(said_of_it.len() < 6000 && !said_of_it.contains(&long.repeat(4)));
    }
}

#[cfg(feature = "v8")]
#[test]
fn rejections_without_number_are_no_recursion() {
    let source =
        "const all = []; for (let i = 0; i < 1e5; i++) all.push(Promise.reject(new Error('no')));";
    let error = survive(source, LONG).to_string();
    assert!(error.contains("more promises were rejected"), "{error}");
}

#[test]
fn a_recursion_of_which_no_places_are_noted_is_told_as_one() {
    for off in [
        "Error.stackTraceLimit = 0;",
        "Object.defineProperty(Error, 'stackTraceLimit', { get() { throw 1; } });",
    ] {
        let source = format!("{off} function f(): number {{ return f() + 1; }} f();");
        let error = survive(&source, LONG).to_string();
        assert!(error.contains("recursion is too deep"), "{off}: {error}");
    }
}

#[test]
fn endless_loops_hit_the_cpu_limit_and_waiting_does_not() {
    let mut workspace = Workspace::new(&[("BUILD.ts", "while (true) {}")]);
    let mut request = workspace.request("BUILD.ts");
    request.limits = Limits::computing(SHORT);
    request.limits.wall = LONG;
    let error = workspace.evaluator.evaluate(&request).unwrap_err();
    assert_eq!(error.kind, FailureKind::CpuTime, "{error}");
    let said = error.to_string();
    assert!(
        said.contains("computed for longer than its limit of 300ms"),
        "{said}"
    );
    // What builds use: the clock's limit leaves room for the CPU's.
    let usual = Limits::computing(SHORT);
    assert!(usual.cpu < usual.wall && Limits::default().cpu < Limits::default().wall);
}

#[test]
fn memory_bombs_hit_the_heap_limit() {
    for source in [
        "const a: unknown[] = []; while (true) a.push({ x: 1, y: [1, 2, 3] });",
        // V8 once dropped the interrupt check of this loop.
        "const a: unknown[] = []; while (true) a.push(new Array(1000));",
        "const s = new Set<number>(); for (let i = 0; ; i++) s.add(i);",
        "const a: string[] = []; for (let i = 0; ; i++) a.push(String(i).repeat(100).split('').join('.'));",
    ] {
        let error = survive(source, LONG);
        assert_eq!(error.kind, FailureKind::Memory, "{source}: {error}");
        assert!(error.to_string().contains("its limit of 64 MiB"), "{error}");
    }
}

#[test]
fn long_lists_are_refused_before_the_engine_walks_them() {
    for source in [
        "new Array(4294967295).fill(0);",
        "Array.from({ length: 4294967295 });",
        "const a: number[] = [3]; a.length = 4294967295; a.sort();",
        "const a: number[] = [3]; a.length = 4294967295; a.reverse();",
        "new Array(4294967295).join('x');",
        "JSON.stringify(new Array(4294967295));",
        "'x'.repeat(2 ** 28).split('');",
        "Array.from('x'.repeat(2 ** 28));",
        "Array.prototype.indexOf.call('x'.repeat(2 ** 28), 1);",
        "JSON.parse('x'.repeat(2 ** 28));",
    ] {
        let error = survive(source, LONG);
        assert_eq!(error.kind, FailureKind::Exception, "{source}: {error}");
        assert!(
            error.to_string().contains("too long for a build file"),
            "{source}: {error}"
        );
    }
}

#[test]
fn a_length_that_could_be_another_one_later_is_refused() {
    for list in [
        "{ get length() { return n++ ? 2 ** 53 - 1 : 0; } }",
        "{ length: { valueOf: () => n++ ? 2 ** 53 - 1 : 0 } }",
        "Object.defineProperty(() => {}, 'length', { get: () => n++ ? 2 ** 53 - 1 : 0 })",
        "Object.create({ get length() { return n++ ? 2 ** 53 - 1 : 0; } })",
    ] {
        let source =
            format!("let n = 0; const list: any = {list}; Array.prototype.indexOf.call(list, 1);");
        let error = survive(&source, LONG);
        assert!(
            error
                .to_string()
                .contains("the length of this list is computed"),
            "{source}: {error}"
        );
    }
    let mut workspace = Workspace::new(&[(
        "BUILD.ts",
        "class Words { get length() { return 1; } *[Symbol.iterator]() { yield 'a'; } }\n\
         export default [Array.from(new Words()), Array.prototype.map.call({ length: 1, 0: 'b' }, String), Array.from({ length: 2 }, (_, i) => i)];",
    )]);
    let value = workspace.evaluate("BUILD.ts").unwrap().value;
    assert_eq!(value, json!([["a"], ["b"], [0, 1]]));
}

#[test]
fn deep_recursion_is_an_error() {
    for source in [
        "function f(n: number): number { return f(n + 1) + 1 } export default f(1);",
        "class A { get a(): unknown { return this.a } } export default new A().a;",
        "const o: any = {}; o.toString = () => `${o}`; export default `${o}`;",
    ] {
        let error = survive(source, LONG);
        assert_eq!(error.kind, FailureKind::Exception, "{source}: {error}");
        assert!(
            error.to_string().contains("recursion is too deep"),
            "{source}: {error}"
        );
    }
}

#[test]
fn tampering_with_prototypes_harms_only_the_script() {
    for source in [
        "for (const p of [Object, Array, String, Promise, Map, Set, Function, RegExp].map((c) => c.prototype)) for (const k of Reflect.ownKeys(p)) { try { (p as any)[k] = () => { throw 1 } } catch {} }\nthrow new Error('done');",
        "Object.defineProperty(Object.prototype, 'then', { value(r: any) { while (true) {} } }); export default await ({} as any);",
        "Object.prototype.toString = () => { throw 1 }; Error.prototype.toString = () => { throw 2 }; Object.defineProperty(Error.prototype, 'message', { get() { throw 3 } }); throw new TypeError('x');",
        "const p = new Proxy({}, { ownKeys() { throw new Error('no') } }); export default { p };",
        "export default new Proxy({}, { getPrototypeOf() { throw new Error('no') } });",
        "throw null;",
        "throw { get message() { throw 1 }, get stack() { throw 2 } };",
        "await Promise.reject(undefined);",
    ] {
        let error = survive(source, SHORT);
        assert!(
            !error.diagnostics.is_empty() && !error.to_string().is_empty(),
            "{source}"
        );
    }
}

#[test]
fn a_promise_that_never_settles_is_an_error() {
    let error = survive("export default await new Promise(() => {});", LONG);
    assert!(
        error
            .to_string()
            .contains("waits for a promise that nothing will ever settle"),
        "{error}"
    );
}

#[test]
fn an_unhandled_rejection_is_an_error() {
    let error = survive(
        "Promise.reject(new Error('lost'));\nexport default 1;",
        LONG,
    );
    assert_eq!(error.kind, FailureKind::Exception);
    assert!(error.to_string().contains("lost"), "{error}");
}

#[test]
fn cancelling_ends_a_script_at_once() {
    let workspace = Workspace::new(&[("BUILD.ts", "console.log('started'); while (true) {}")]);
    let mut request = workspace.request("BUILD.ts");
    // Only the token ends it.
    request.limits.wall = FOREVER;
    request.limits.cpu = FOREVER;
    let token: CancelToken = request.cancel.clone();
    let mut evaluator = workspace.evaluator;
    let error = std::thread::scope(|scope| {
        scope.spawn(|| token.cancel());
        evaluator.evaluate(&request).unwrap_err()
    });
    assert_eq!(error.kind, FailureKind::Cancelled);
    assert!(error.to_string().contains("was cancelled"), "{error}");
    // A token that is cancelled beforehand does not let the script start its work either.
    let error = evaluator.evaluate(&request).unwrap_err();
    assert_eq!(error.kind, FailureKind::Cancelled);
}

#[test]
fn logs_of_a_stopped_script_are_kept() {
    let mut workspace = Workspace::new(&[("BUILD.ts", "console.log('before'); while (true) {}")]);
    let mut request = workspace.request("BUILD.ts");
    request.limits.cpu = COMPUTING;
    request.limits.wall = LONG;
    let error = workspace.evaluator.evaluate(&request).unwrap_err();
    assert_eq!(error.logs.len(), 1);
    assert_eq!(error.logs[0].message, "before");
}

#[test]
fn a_pool_survives_a_mix_of_good_and_hostile_scripts() {
    let workspace = Workspace::new(&[
        ("loop.ts", "while (true) {}"),
        (
            "bomb.ts",
            "const a: unknown[] = []; while (true) a.push(new Array(1000));",
        ),
        ("deep.ts", "(function f(): void { f(); f(); })();"),
        ("good.ts", "export default 1;"),
    ]);
    let system = actor_rt::System::builder().workers(1).build().unwrap();
    let pool = IsolatePool::new(&system, zako_actors::machine::PoolSize::fixed(2));
    let asks: Vec<_> = [
        "good.ts", "loop.ts", "good.ts", "bomb.ts", "good.ts", "deep.ts", "good.ts",
    ]
    .into_iter()
    .map(|entry| {
        let mut request = EvaluateRequest::new(workspace.root.path(), entry, ContextKind::Build);
        request.limits.heap_bytes = 32 << 20;
        if entry == "loop.ts" {
            request.limits.wall = SHORT;
        }
        (entry, pool.evaluate(request))
    })
    .collect();
    for (entry, ask) in asks {
        let result = ask.wait().unwrap();
        match entry {
            "good.ts" => assert_eq!(result.unwrap().value, 1),
            "loop.ts" => assert_eq!(result.unwrap_err().kind, FailureKind::Timeout),
            "bomb.ts" => assert_eq!(result.unwrap_err().kind, FailureKind::Memory),
            _ => assert_eq!(result.unwrap_err().kind, FailureKind::Exception),
        }
    }
}

/// A file of each kind, a call that reaches `body` in it, and what the failure is about.
fn in_every_context(body: &str) -> Vec<(EvaluateRequest, Workspace, &'static str)> {
    let platform = json!({ "os": "linux", "arch": "x86_64" });
    let kinds = [
        (ContextKind::Package, "zako.ts", body.to_owned(), None, ""),
        (ContextKind::Build, "BUILD.ts", body.to_owned(), None, ""),
        (
            ContextKind::Rule,
            "a.rule.ts",
            format!(
                "import {{ rule }} from 'zako:rule';\nexport const r = rule({{ name: 'r', implementation() {{ {body} }} }});"
            ),
            Some(
                json!({ "kind": "rule", "file": "a.rule.ts", "rule": "r", "config": {}, "toolchains": {},
                "targets": [{ "label": "//a:t", "dir": "a", "name": "t", "attrs": {}, "known": {} }] }),
            ),
            "//a:t",
        ),
        (
            ContextKind::Toolchain,
            "a.toolchain.ts",
            format!(
                "import {{ toolchain }} from 'zako:toolchain';\nexport const t = toolchain({{ name: 't', async select() {{ {body} }} }});"
            ),
            Some(
                json!({ "kind": "toolchain", "file": "a.toolchain.ts", "config": {}, "platform": platform, "known": {} }),
            ),
            "t",
        ),
        (
            ContextKind::Config,
            "a.config.ts",
            format!(
                "import {{ config }} from 'zako:config';\nexport const c = config({{ name: 'c', type: 'string', default: () => {{ {body} }} }});"
            ),
            Some(
                json!({ "kind": "config", "file": "a.config.ts", "platform": platform, "known": {} }),
            ),
            "c",
        ),
    ];
    let prepare = |(context, entry, source, call, subject): (_, _, String, _, _)| {
        let workspace = Workspace::new(&[(entry, &source)]);
        let mut request = EvaluateRequest::new(workspace.root.path(), entry, context);
        request.call = call;
        request.limits.heap_bytes = 64 << 20;
        (request, workspace, subject)
    };
    kinds.into_iter().map(prepare).collect()
}

#[test]
fn every_context_ends_hostile_scripts_and_says_what_they_were_about() {
    let tampering = "for (const p of [Object.prototype, Array.prototype, Map.prototype, String.prototype, Function.prototype]) \
        for (const k of Reflect.ownKeys(p)) { try { (p as any)[k] = () => { throw new Error('tampered') } } catch {} } throw new Error('done');";
    for (body, kind) in [
        ("while (true) {}", FailureKind::CpuTime),
        (
            "const a: unknown[] = []; while (true) a.push({ x: [1] });",
            FailureKind::Memory,
        ),
        (
            "(function f(): void { f(); f(); })();",
            FailureKind::Exception,
        ),
        (tampering, FailureKind::Exception),
    ] {
        for (mut request, mut workspace, subject) in in_every_context(body) {
            request.limits.wall = LONG;
            if kind == FailureKind::CpuTime {
                request.limits.cpu = COMPUTING;
            }
            let error = workspace.evaluator.evaluate(&request).unwrap_err();
            assert_eq!(error.kind, kind, "{body} in {:?}: {error}", request.context);
            // The memory of what was at work may be spoilt with everything else.
            if body != tampering {
                assert_eq!(error.subject.as_deref().unwrap_or(""), subject, "{body}");
            }
            std::fs::write(workspace.root.path().join("good.ts"), "export default [1];").unwrap();
            assert_eq!(workspace.evaluate("good.ts").unwrap().value, json!([1]));
        }
    }
}

#[test]
fn what_computes_on_for_too_long_ends_the_process_and_is_named() {
    const CHILD: &str = "ZAKO_TEST_IS_LOST";
    if std::env::var_os(CHILD).is_some() {
        let source = "Object.keys(new String('x'.repeat(2 ** 28)));";
        let mut workspace = Workspace::new(&[("BUILD.ts", source)]);
        let mut request = workspace.request("BUILD.ts");
        request.limits = Limits::computing(SHORT);
        request.limits.to_stop = SHORT;
        let _answer = workspace.evaluator.evaluate(&request);
        panic!("the process goes on");
    }
    let name = "what_computes_on_for_too_long_ends_the_process_and_is_named";
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let child = child.args(["--exact", name, "--nocapture"]).env(CHILD, "1");
    let ended = child.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("BUILD.ts cannot be stopped"), "{said}");
    assert!(said.contains("a text or list of many millions"), "{said}");
}
