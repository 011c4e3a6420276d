//! Helper functions that lowered syntax needs, put inline so that outputs have no run-time package.
//!
//! Owns: the text of each helper, and the removal of the imports that oxc generates for them.
//! Does not know: which syntax needs which helper; oxc asks by name.
//! Invariant: a helper's text is one expression on one line, and uses no other helper.

use oxc::allocator::{GetAllocator, TakeIn};
use oxc::ast::ast::{ImportDeclarationSpecifier, Program, Statement};

use super::options::HELPER_PACKAGE;

/// Helper name and the expression that defines it.
const HELPERS: &[(&str, &str)] = &[
    (
        "decorate",
        "function (decorators, target, key, desc) { const count = arguments.length; let result = count < 3 ? target : desc === null ? Object.getOwnPropertyDescriptor(target, key) : desc; for (let i = decorators.length - 1; i >= 0; i--) { const decorator = decorators[i]; if (decorator) result = (count < 3 ? decorator(result) : count > 3 ? decorator(target, key, result) : decorator(target, key)) || result; } if (count > 3 && result) Object.defineProperty(target, key, result); return result; }",
    ),
    (
        "decorateParam",
        "function (index, decorator) { return function (target, key) { decorator(target, key, index); }; }",
    ),
    (
        "decorateMetadata",
        "function (key, value) { if (typeof Reflect === \"object\" && typeof Reflect.metadata === \"function\") return Reflect.metadata(key, value); }",
    ),
    (
        "defineProperty",
        "function (object, key, value) { if (key in object) Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true }); else object[key] = value; return object; }",
    ),
    (
        "objectSpread2",
        "function (target) { for (let i = 1; i < arguments.length; i++) { const source = arguments[i]; if (source == null) continue; for (const key of Reflect.ownKeys(Object(source))) { const own = Object.getOwnPropertyDescriptor(source, key); if (own && own.enumerable) Object.defineProperty(target, key, { value: source[key], enumerable: true, configurable: true, writable: true }); } } return target; }",
    ),
    (
        "objectWithoutProperties",
        "function (source, excluded) { const target = {}; if (source == null) return target; for (const key of Reflect.ownKeys(Object(source))) { const own = Object.getOwnPropertyDescriptor(source, key); if (own && own.enumerable && !excluded.includes(key)) target[key] = source[key]; } return target; }",
    ),
    (
        "objectDestructuringEmpty",
        "function (value) { if (value == null) throw new TypeError(\"Cannot destructure \" + value); }",
    ),
    ("extends", "Object.assign"),
    (
        "toPropertyKey",
        "function (value) { const key = typeof value === \"object\" && value !== null ? (typeof value[Symbol.toPrimitive] === \"function\" ? value[Symbol.toPrimitive](\"string\") : String(value)) : value; return typeof key === \"symbol\" ? key : key + \"\"; }",
    ),
    (
        "asyncToGenerator",
        "function (generator) { return function () { const self = this; const args = arguments; return new Promise(function (resolve, reject) { const iterator = generator.apply(self, args); function step(method, value) { let result; try { result = iterator[method](value); } catch (error) { reject(error); return; } if (result.done) resolve(result.value); else Promise.resolve(result.value).then(next, fail); } function next(value) { step(\"next\", value); } function fail(error) { step(\"throw\", error); } next(); }); }; }",
    ),
    (
        "asyncIterator",
        "function (iterable) { const method = iterable[Symbol.asyncIterator]; if (method != null) return method.call(iterable); const sync = iterable[Symbol.iterator](); const settle = function (result) { return Promise.resolve(result.value).then(function (value) { return { value, done: result.done }; }); }; return { next(value) { try { return settle(sync.next(value)); } catch (error) { return Promise.reject(error); } }, return(value) { try { return sync.return ? settle(sync.return(value)) : Promise.resolve({ value, done: true }); } catch (error) { return Promise.reject(error); } } }; }",
    ),
    (
        "awaitAsyncGenerator",
        "function (value) { return { [Symbol.for(\"zako.await\")]: { value, delegate: false } }; }",
    ),
    (
        "asyncGeneratorDelegate",
        "function (inner) { let waiting = false; function pump(method, value) { waiting = true; const result = new Promise(function (resolve) { resolve(inner[method](value)); }); return { done: false, value: { [Symbol.for(\"zako.await\")]: { value: result, delegate: true } } }; } return { [Symbol.iterator]() { return this; }, next(value) { if (waiting) { waiting = false; return value; } return pump(\"next\", value); }, throw(error) { if (waiting) { waiting = false; throw error; } if (typeof inner.throw === \"function\") return pump(\"throw\", error); if (typeof inner.return === \"function\") inner.return(); throw new TypeError(\"The iterator does not provide a 'throw' method\"); }, return(value) { if (waiting) { waiting = false; return value; } return typeof inner.return === \"function\" ? pump(\"return\", value) : { value, done: true }; } }; }",
    ),
    (
        "wrapAsyncGenerator",
        "function (generator) { const mark = Symbol.for(\"zako.await\"); return function () { const iterator = generator.apply(this, arguments); let last = Promise.resolve(); function run(method, value) { return new Promise(function (resolve, reject) { function step(how, input) { let result; try { result = iterator[how](input); } catch (error) { reject(error); return; } const given = result.value; const wait = given !== null && typeof given === \"object\" ? given[mark] : undefined; Promise.resolve(wait ? wait.value : given).then(function (output) { if (wait) step(how === \"return\" && wait.delegate ? \"return\" : \"next\", output); else resolve({ value: output, done: result.done }); }, function (error) { step(\"throw\", error); }); } step(method, value); }); } function enqueue(method, value) { const result = last.then(function () { return run(method, value); }); last = result.then(function () {}, function () {}); return result; } return { [Symbol.asyncIterator || Symbol.for(\"Symbol.asyncIterator\")]() { return this; }, next(value) { return enqueue(\"next\", value); }, throw(error) { return enqueue(\"throw\", error); }, return(value) { return enqueue(\"return\", value); } }; }; }",
    ),
    (
        "classPrivateFieldInitSpec",
        "function (object, fields, value) { if (fields.has(object)) throw new TypeError(\"Cannot initialize the same private elements twice on the same object\"); fields.set(object, value); }",
    ),
    (
        "classPrivateMethodInitSpec",
        "function (object, brand) { if (brand.has(object)) throw new TypeError(\"Cannot initialize the same private elements twice on the same object\"); brand.add(object); }",
    ),
    (
        "classPrivateFieldGet2",
        "function (fields, object) { if (!fields.has(object)) throw new TypeError(\"Cannot read a private member of an object whose class did not declare it\"); return fields.get(object); }",
    ),
    (
        "classPrivateFieldSet2",
        "function (fields, object, value) { if (!fields.has(object)) throw new TypeError(\"Cannot write a private member of an object whose class did not declare it\"); fields.set(object, value); return value; }",
    ),
    (
        "assertClassBrand",
        "function (brand, object, value) { if (typeof brand === \"function\" ? brand === object : brand.has(object)) return arguments.length < 3 ? object : value; throw new TypeError(\"Private element is not present on this object\"); }",
    ),
    (
        "checkInRHS",
        "function (value) { if (Object(value) !== value) throw new TypeError(\"right-hand side of 'in' should be an object\"); return value; }",
    ),
    (
        "toSetter",
        "function (method, args, count) { args = args || []; const length = count === undefined ? args.length++ : count; return Object.defineProperty({}, \"_\", { set(value) { args[length] = value; method.apply(this, args); } }); }",
    ),
    (
        "superPropGet",
        "function (owner, key, receiver, flags) { const base = Object.getPrototypeOf(flags & 1 ? owner.prototype : owner); const value = Reflect.get(base, key, receiver); return flags & 2 && typeof value === \"function\" ? function (args) { return value.apply(receiver, args); } : value; }",
    ),
    (
        "superPropSet",
        "function (owner, key, value, receiver, strict, flags) { const base = Object.getPrototypeOf(flags ? owner.prototype : owner); if (!Reflect.set(base, key, value, receiver) && strict) throw new TypeError(\"failed to set property\"); return value; }",
    ),
    (
        "readOnlyError",
        "function (name) { throw new TypeError(\"\\\"\" + name + \"\\\" is read-only\"); }",
    ),
    (
        "writeOnlyError",
        "function (name) { throw new TypeError(\"\\\"\" + name + \"\\\" is write-only\"); }",
    ),
    (
        "taggedTemplateLiteral",
        "function (strings, raw) { return Object.freeze(Object.defineProperties(strings, { raw: { value: Object.freeze(raw || strings.slice()) } })); }",
    ),
    (
        "usingCtx",
        "function () { const suppressed = typeof SuppressedError === \"function\" ? SuppressedError : function (error, earlier) { const e = new Error(\"An error was suppressed during disposal\"); e.name = \"SuppressedError\"; e.error = error; e.suppressed = earlier; return e; }; const empty = {}; const stack = []; const add = function (isAsync, value) { if (value == null) { if (isAsync) stack.push({ isAsync }); return value; } if (Object(value) !== value) throw new TypeError(\"using declarations can only be used with objects, functions, null, or undefined.\"); let dispose = isAsync ? value[Symbol.asyncDispose || Symbol.for(\"Symbol.asyncDispose\")] : undefined; let fallback = false; if (dispose === undefined) { dispose = value[Symbol.dispose || Symbol.for(\"Symbol.dispose\")]; fallback = isAsync; } if (typeof dispose !== \"function\") throw new TypeError(\"Object is not disposable.\"); stack.push({ value, dispose, isAsync, fallback }); return value; }; return { e: empty, u: add.bind(null, false), a: add.bind(null, true), d: function () { let error = this.e; let needsAwait = false; function fail(next) { error = error !== empty ? new suppressed(next, error) : next; } function run() { let entry; while ((entry = stack.pop())) { try { if (!entry.isAsync && needsAwait) { needsAwait = false; stack.push(entry); return Promise.resolve().then(run); } if (entry.dispose) { const result = entry.dispose.call(entry.value); if (entry.isAsync) { needsAwait = false; return Promise.resolve(entry.fallback ? undefined : result).then(run, function (e) { fail(e); return run(); }); } } else needsAwait = true; } catch (e) { fail(e); } } if (needsAwait) { needsAwait = false; return error !== empty ? Promise.reject(error) : Promise.resolve(); } if (error !== empty) throw error; } return run(); } }; }",
    ),
];

/// Takes the generated helper imports out of the program.
///
/// # Errors
/// The helper that has no text here, by name.
pub(super) fn take_helpers<'a>(
    program: &mut Program<'a>,
    allocator: &impl GetAllocator<'a>,
) -> Result<Vec<String>, String> {
    let is_helper = |statement: &Statement<'a>| helper_name(statement).is_some();
    if !program.body.iter().any(is_helper) {
        return Ok(Vec::new());
    }
    let mut definitions = Vec::new();
    for statement in program.body.take_in(allocator) {
        let Some((name, local)) = helper_name(&statement) else {
            program.body.push(statement);
            continue;
        };
        let (_, text) = HELPERS
            .iter()
            .find(|(helper, _)| *helper == name)
            .ok_or_else(|| name.to_owned())?;
        definitions.push(format!("const {local} = {text};"));
    }
    Ok(definitions)
}

/// What `program` calls the helper `name`, while it is imported.
pub(super) fn local_name<'p>(program: &'p Program<'_>, name: &str) -> Option<&'p str> {
    let mut imported = program.body.iter().filter_map(helper_name);
    imported.find_map(|(helper, local)| (helper == name).then_some(local))
}

/// Helper and local name, when the statement is a generated import.
fn helper_name<'s>(statement: &'s Statement<'_>) -> Option<(&'s str, &'s str)> {
    let Statement::ImportDeclaration(import) = statement else {
        return None;
    };
    let name = import
        .source
        .value
        .as_str()
        .strip_prefix(HELPER_PACKAGE)?
        .strip_prefix("/helpers/")?;
    match import.specifiers.as_ref()?.first()? {
        ImportDeclarationSpecifier::ImportDefaultSpecifier(specifier) => {
            Some((name, specifier.local.name.as_str()))
        }
        _ => None,
    }
}
