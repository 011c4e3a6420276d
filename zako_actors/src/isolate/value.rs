//! The default export of a module as JSON.
//!
//! Owns: the walk over a JavaScript value that ends in JSON or in the path of the first value
//! that has no JSON form. (serde_v8 gives JSON too, but turns functions and instances into empty
//! objects without a word, and an error without a path.)
//! Invariants: depth and size are bounded; getters and proxies of the script may run and throw.

use std::fmt::Write as _;

use deno_core::v8;
use serde_json::{Map, Number, Value};

/// Deeper values are taken for cycles.
const MAX_DEPTH: usize = 128;
/// More values than this are a mistake, not a build file.
const MAX_VALUES: usize = 2_000_000;

/// Longer paths are cut in the middle of errors.
const MAX_PATH_CHARS: usize = 120;

/// Why a value has no JSON form.
#[derive(Debug)]
pub(super) struct NotJson {
    /// Such as `default.build.cmd[1]`.
    pub path: String,
    /// Such as `a function`.
    pub what: String,
}

/// Converts `value`, called `path` in errors.
pub(super) fn to_json<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    value: v8::Local<'s, v8::Value>,
    path: &str,
) -> Result<Value, NotJson> {
    let mut walk = Walk { count: 0 };
    let converted = walk.convert(scope, value, 0);
    converted.map_err(|Stray { steps, what }| {
        let mut whole = path.to_owned();
        for step in steps.into_iter().rev() {
            step.write(&mut whole);
        }
        let mut path: String = whole.chars().take(MAX_PATH_CHARS).collect();
        if path.len() < whole.len() {
            path.push('…');
        }
        NotJson { path, what }
    })
}

/// A value without a JSON form, and the way to it from its end: written down only when there is one.
struct Stray {
    steps: Vec<Step>,
    what: String,
}

enum Step {
    Index(u32),
    Key(String),
}

impl Step {
    fn write(self, path: &mut String) {
        match self {
            // Writing to a text does not fail.
            Self::Index(index) => drop(write!(path, "[{index}]")),
            Self::Key(name) => push_key(path, &name),
        }
    }
}

impl Stray {
    fn below(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}

fn fail<T>(what: impl Into<String>) -> Result<T, Stray> {
    Err(Stray {
        steps: Vec::new(),
        what: what.into(),
    })
}

struct Walk {
    count: usize,
}

impl Walk {
    fn convert<'s>(
        &mut self,
        scope: &mut v8::PinScope<'s, '_>,
        value: v8::Local<'s, v8::Value>,
        depth: usize,
    ) -> Result<Value, Stray> {
        self.count += 1;
        if depth > MAX_DEPTH {
            return fail("nested too deeply, or refers to itself");
        }
        if self.count > MAX_VALUES {
            return fail("part of too large a value");
        }
        if value.is_null() {
            Ok(Value::Null)
        } else if value.is_boolean() {
            Ok(Value::Bool(value.is_true()))
        } else if value.is_string() {
            Ok(Value::String(value.to_rust_string_lossy(scope)))
        } else if value.is_number() {
            Self::number(value.number_value(scope).unwrap_or(f64::NAN))
        } else if let Ok(array) = v8::Local::<v8::Array>::try_from(value) {
            self.array(scope, array, depth)
        } else if let Some(what) = unsupported(value) {
            fail(what)
        } else if let Ok(object) = v8::Local::<v8::Object>::try_from(value) {
            self.object(scope, object, depth)
        } else {
            fail("a value without a JSON form")
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "checked to be whole and in range"
    )]
    fn number(number: f64) -> Result<Value, Stray> {
        const MAX_SAFE: f64 = 9_007_199_254_740_991.0;
        if number.fract() == 0.0 && number.abs() <= MAX_SAFE {
            return Ok(Value::from(number as i64));
        }
        match Number::from_f64(number) {
            Some(number) => Ok(Value::Number(number)),
            None => fail(number.to_string()),
        }
    }

    fn array<'s>(
        &mut self,
        scope: &mut v8::PinScope<'s, '_>,
        array: v8::Local<'s, v8::Array>,
        depth: usize,
    ) -> Result<Value, Stray> {
        let mut values = Vec::new();
        for index in 0..array.length() {
            v8::scope!(let scope, scope);
            let value = match array.get_index(scope, index) {
                None => fail("unreadable: reading it threw an exception"),
                Some(value) if value.is_undefined() => fail("undefined"),
                Some(value) => self.convert(scope, value, depth + 1),
            };
            values.push(value.map_err(|stray| stray.below(Step::Index(index)))?);
        }
        Ok(Value::Array(values))
    }

    fn object<'s>(
        &mut self,
        scope: &mut v8::PinScope<'s, '_>,
        object: v8::Local<'s, v8::Object>,
        depth: usize,
    ) -> Result<Value, Stray> {
        if !is_plain(scope, object) {
            let name = object.get_constructor_name().to_rust_string_lossy(scope);
            return fail(format!("an instance of {name}, not a plain object"));
        }
        let names = object.get_own_property_names(scope, v8::GetPropertyNamesArgs::default());
        let Some(names) = names else {
            return fail("unreadable: listing its keys threw an exception");
        };
        let mut values = Map::new();
        for index in 0..names.length() {
            v8::scope!(let scope, scope);
            let Some(key) = names.get_index(scope, index) else {
                continue;
            };
            let json = match object.get(scope, key) {
                None => fail("unreadable: reading it threw an exception"),
                // As in JSON.stringify: `{ timeout: undefined }` is `{}`.
                Some(value) if value.is_undefined() => continue,
                Some(value) => self.convert(scope, value, depth + 1),
            };
            let name = key.to_rust_string_lossy(scope);
            match json {
                Ok(json) => drop(values.insert(name, json)),
                Err(stray) => return Err(stray.below(Step::Key(name))),
            }
        }
        Ok(Value::Object(values))
    }
}

fn push_key(path: &mut String, name: &str) {
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '$')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$');
    if is_name {
        path.push('.');
        path.push_str(name);
    } else {
        let _ = write!(path, "[{}]", Value::from(name));
    }
}

fn unsupported(value: v8::Local<'_, v8::Value>) -> Option<&'static str> {
    let tests: [(bool, &'static str); 12] = [
        (value.is_undefined(), "undefined"),
        (value.is_function(), "a function"),
        (value.is_symbol(), "a symbol"),
        (value.is_big_int(), "a bigint"),
        (value.is_proxy(), "a Proxy"),
        (value.is_promise(), "a promise (await it)"),
        (value.is_map(), "a Map (use a plain object)"),
        (value.is_set(), "a Set (use a list)"),
        (value.is_reg_exp(), "a regular expression"),
        (value.is_date(), "a Date"),
        (
            value.is_array_buffer() || value.is_array_buffer_view(),
            "binary data",
        ),
        (
            value.is_weak_map() || value.is_weak_set(),
            "a weak collection",
        ),
    ];
    tests
        .into_iter()
        .find(|(found, _)| *found)
        .map(|(_, what)| what)
}

/// Whether the prototype is null or one without a prototype of its own (`Object.prototype`).
fn is_plain<'s>(scope: &mut v8::PinScope<'s, '_>, object: v8::Local<'s, v8::Object>) -> bool {
    let Some(prototype) = object.get_prototype(scope) else {
        return false;
    };
    match v8::Local::<v8::Object>::try_from(prototype) {
        Ok(prototype) => prototype
            .get_prototype(scope)
            .is_none_or(|base| base.is_null()),
        Err(_) => true,
    }
}
