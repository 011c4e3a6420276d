//! From the plain descriptors that evaluating a build file returns to typed targets.
//!
//! Owns the meaning of every descriptor field and the answers to mistakes that only show once the
//! whole file has been evaluated. Does not know the graph: a dependency's existence is checked there.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::label::Label;
use super::locate::{At, mistake, places};
use super::packages::Packages;
use super::pattern::Pattern;
use super::rule_use::RuleUse;
use super::shards::split;
use super::suggest::did_you_mean;
use super::target::{Output, Source, Target, Transpile, Work, join};
use crate::diagnostic::Diagnostic;
use crate::transpile::TranspileOptions;

/// A build file's text and place, for error messages.
#[derive(Clone, Copy, Debug)]
pub struct BuildFile<'a> {
    /// Workspace-relative path.
    pub path: &'a str,
    /// Its directory, workspace-relative.
    pub dir: &'a str,
    /// Its content.
    pub text: &'a str,
    /// The packages that its labels may name.
    pub packages: &'a Packages,
}

/// The kinds of descriptor that become targets.
const KINDS: [&str; 3] = ["command", "test", "transpile"];

/// What a build file exports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Exports {
    /// Targets as they are.
    pub targets: Vec<Arc<Target>>,
    /// Targets that a rule has to describe.
    pub uses: Vec<Arc<RuleUse>>,
}

/// Reads everything that a build file exports.
///
/// # Errors
/// The first mistake, with its line.
pub fn read_exports(exported: &Value, file: BuildFile<'_>) -> Result<Exports, Diagnostic> {
    let Value::Object(entries) = exported else {
        return Err(mistake(
            &At::file(file.path),
            "the default export must be an object of targets: `export default { name: target({…}) }`",
            file.text,
        ));
    };
    let mut exports = Exports::default();
    let mut places = places(file.path, file.text, entries.keys().map(String::as_str));
    for (name, value) in entries {
        let reader = Reader { name, file };
        let at = places.remove(name.as_str());
        let at = at.unwrap_or_else(|| At::file(file.path));
        if value.get("$zako").and_then(Value::as_str) == Some("rule") {
            exports.uses.push(Arc::new(reader.rule_use(value, at)?));
        } else {
            exports.targets.extend(reader.targets(value, at)?);
        }
    }
    Ok(exports)
}

/// Reads one export.
pub(super) struct Reader<'a> {
    /// The name of the export.
    pub name: &'a str,
    /// Where it stands.
    pub file: BuildFile<'a>,
}

impl Reader<'_> {
    pub(super) fn label(&self) -> Result<Label, Diagnostic> {
        Label::new(self.file.dir, self.name).map_err(|error| self.mistake(None, error.to_string()))
    }

    pub(super) fn mistake(&self, needle: Option<&str>, message: impl Into<String>) -> Diagnostic {
        let at = At::in_target(self.file.path, self.file.text, self.name, needle);
        mistake(&at, message, self.file.text)
    }

    pub(super) fn wrong(&self, field: &str, expected: &str) -> Diagnostic {
        self.mistake(
            None,
            format!("`{field}` of target `{}` must be {expected}", self.name),
        )
    }

    /// One target, or those that a test in several parts becomes.
    fn targets(&self, value: &Value, at: At) -> Result<Vec<Arc<Target>>, Diagnostic> {
        let target = self.target(value, at)?;
        let fields = value.as_object();
        let shards = fields.map_or(Ok(None), |fields| self.number(fields, "shards"))?;
        let Some(shards) = shards else {
            return Ok(vec![Arc::new(target.without_room())]);
        };
        if target.command().is_none_or(|test| !test.outs.is_empty()) {
            let message = format!(
                "the parts of `{}` would all write its `outs`; a test with `shards` leaves nothing behind",
                self.name
            );
            let outs = fields.map_or(Ok(Vec::new()), |fields| self.strings(fields, "outs"))?;
            return Err(self.mistake(outs.first().map(String::as_str), message));
        }
        split(&target, shards).map_err(|error| self.mistake(None, error.to_string()))
    }

    fn target(&self, value: &Value, at: At) -> Result<Target, Diagnostic> {
        let label = self.label()?;
        let fields = value.as_object();
        let kind = fields.and_then(|f| f.get("$zako")).and_then(Value::as_str);
        let (Some(fields), Some(kind)) = (fields, kind) else {
            return Err(self.mistake(
                None,
                format!("export `{}` is not a target; make it with `target({{…}})`, `test({{…}})` or `transpile({{…}})`", self.name),
            ));
        };
        let work = match kind {
            "command" | "test" => Work::Command(self.command(fields, kind == "test")?),
            "transpile" => Work::Transpile(Box::new(self.transpile(fields)?)),
            other => {
                let hint = did_you_mean(other, KINDS);
                return Err(self.mistake(None, format!("target kind `{other}` is unknown{hint}")));
            }
        };
        let deps = self.strings(fields, "deps")?;
        let mut labels = Vec::with_capacity(deps.len());
        for text in &deps {
            let dep = self
                .file
                .packages
                .parse(text, self.file.dir)
                .map_err(|error| self.mistake(Some(text), error.to_string()))?;
            if !labels.contains(&dep) {
                labels.push(dep);
            }
        }
        Ok(Target {
            at,
            label,
            srcs: self.sources(fields)?,
            deps: labels,
            work,
            manual: false,
            rule: None,
        })
    }

    fn transpile(&self, fields: &Map<String, Value>) -> Result<Transpile, Diagnostic> {
        let text = |field: &str| match present(fields, field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(self.wrong(field, "a string")),
        };
        let out = text("out")?.ok_or_else(|| self.wrong("out", "the directory for the results"))?;
        let directory = |text: &str| self.path(text.trim_end_matches('/'), text);
        Ok(Transpile {
            root: directory(text("root")?.as_deref().unwrap_or("."))?,
            out: directory(&out)?,
            include: self.patterns(fields, "include")?,
            options: self.options(fields)?,
        })
    }

    /// The fields that are the transpiler's business, in the transpiler's own words.
    fn options(&self, fields: &Map<String, Value>) -> Result<TranspileOptions, Diagnostic> {
        let mut options = fields.clone();
        if let Some(on) = options.remove("sourceMaps") {
            options.insert("sourceMap".into(), on);
        }
        options.remove("outputPath");
        serde_json::from_value(Value::Object(options)).map_err(|error| {
            self.mistake(None, format!("options of target `{}`: {error}", self.name))
        })
    }

    fn patterns(
        &self,
        fields: &Map<String, Value>,
        field: &str,
    ) -> Result<Vec<Pattern>, Diagnostic> {
        self.strings(fields, field)?
            .iter()
            .map(|text| {
                Pattern::parse(text).map_err(|error| self.mistake(Some(text), error.to_string()))
            })
            .collect()
    }

    fn sources(&self, fields: &Map<String, Value>) -> Result<Vec<Source>, Diagnostic> {
        let list = match present(fields, "srcs") {
            None => return Ok(Vec::new()),
            Some(Value::Array(list)) => list.as_slice(),
            Some(one) => std::slice::from_ref(one),
        };
        list.iter().map(|value| self.source(value)).collect()
    }

    pub(super) fn source(&self, value: &Value) -> Result<Source, Diagnostic> {
        if let Some(text) = value.as_str() {
            if text.starts_with([':', '@']) || text.starts_with("//") {
                return Err(self.mistake(
                    Some(text),
                    format!(
                        "`{text}` in `srcs` is a label; name targets in `deps`, files in `srcs`"
                    ),
                ));
            }
            if Pattern::is_wild(text) {
                return Err(self.mistake(
                    Some(text),
                    format!("`{text}` in `srcs` has wildcards; write `glob(\"{text}\")`"),
                ));
            }
            return Ok(Source::File(self.path(text, text)?.into()));
        }
        let glob = value
            .get("$glob")
            .and_then(Value::as_object)
            .ok_or_else(|| self.wrong("srcs", "a list of file names and `glob(…)`"))?;
        Ok(Source::Glob {
            dir: self.file.dir.into(),
            include: self.patterns(glob, "include")?,
            exclude: self.patterns(glob, "exclude")?,
            ignored: None,
        })
    }

    pub(super) fn output(&self, text: &str) -> Result<Output, Diagnostic> {
        if Pattern::is_wild(text) {
            let whole = join(self.file.dir, text);
            return Pattern::parse(&whole)
                .map(Output::Glob)
                .map_err(|error| self.mistake(Some(text), error.to_string()));
        }
        let path = self.path(text.trim_end_matches('/'), text)?;
        if path == self.file.dir {
            return Err(self.mistake(
                Some(text),
                format!(
                    "output `{text}` is the whole package directory; name a directory inside it"
                ),
            ));
        }
        Ok(if text.ends_with('/') {
            Output::Tree(path.into())
        } else {
            Output::File(path.into())
        })
    }

    /// `text` (as written: `whole`) made workspace-relative.
    fn path(&self, text: &str, whole: &str) -> Result<String, Diagnostic> {
        if text.starts_with('/') || whole.starts_with('/') {
            return Err(self.mistake(
                Some(whole),
                format!(
                    "path `{whole}` is absolute; write it relative to `{}`",
                    self.file.path
                ),
            ));
        }
        let mut path = self.file.dir.to_owned();
        for segment in text.split('/') {
            match segment {
                "" | "." => {}
                ".." => {
                    return Err(self.mistake(
                        Some(whole),
                        format!("path `{whole}` leaves its package; depend on a target of the other package instead"),
                    ));
                }
                _ => path = join(&path, segment),
            }
        }
        if text.is_empty() || path.contains('\0') {
            return Err(self.mistake(Some(whole), "a path is empty or holds a NUL character"));
        }
        Ok(path)
    }

    pub(super) fn strings(
        &self,
        fields: &Map<String, Value>,
        field: &str,
    ) -> Result<Vec<String>, Diagnostic> {
        let Some(value) = present(fields, field) else {
            return Ok(Vec::new());
        };
        value
            .as_array()
            .and_then(|list| list.iter().map(|v| v.as_str().map(str::to_owned)).collect())
            .ok_or_else(|| self.wrong(field, "a list of strings"))
    }

    pub(super) fn milliseconds(
        &self,
        fields: &Map<String, Value>,
        field: &str,
    ) -> Result<Option<u64>, Diagnostic> {
        match present(fields, field) {
            None => Ok(None),
            Some(value) => value
                .as_f64()
                .filter(|seconds| *seconds > 0.0 && *seconds < 1e9)
                .map(|seconds| Some(((seconds * 1e3) as u64).max(1)))
                .ok_or_else(|| self.wrong(field, "a number of seconds above zero")),
        }
    }

    pub(super) fn number(
        &self,
        fields: &Map<String, Value>,
        field: &str,
    ) -> Result<Option<u64>, Diagnostic> {
        match present(fields, field) {
            None => Ok(None),
            // JavaScript hands whole numbers over as floats now and then.
            Some(value) => value
                .as_u64()
                .or_else(|| {
                    value
                        .as_f64()
                        .filter(|n| *n >= 0.0 && n.fract() == 0.0 && *n < 1e15)
                        .map(|n| n as u64)
                })
                .map(Some)
                .ok_or_else(|| self.wrong(field, "a whole number")),
        }
    }
}

/// A field that is there and not null.
pub(super) fn present<'a>(fields: &'a Map<String, Value>, field: &str) -> Option<&'a Value> {
    fields.get(field).filter(|value| !value.is_null())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lang::locate::flat;
    use crate::lang::target::EnvValue;
    use crate::transpile::ModuleFormat;
    use serde_json::json;

    const FILE: BuildFile<'static> = BuildFile {
        path: "libs/ui/BUILD.ts",
        dir: "libs/ui",
        text: "export default {\n  t: target({\n    srcs: [\"../x\", \"//a:b\"],\n    outs: [\"./\"] }),\n};\n",
        packages: &Packages::NONE,
    };

    fn read(value: Value) -> Result<Arc<Target>, String> {
        read_exports(&json!({ "t": value }), FILE)
            .map(|mut exports| exports.targets.remove(0))
            .map_err(|e| flat(&e))
    }

    #[test]
    fn a_command_is_read_with_paths_from_the_root() {
        let target = read(json!({
            "$zako": "command", "cmd": ["sh", "-c", "x"], "srcs": ["a.c", {"$glob": {"include": ["src/**"], "exclude": []}}],
            "deps": [":other", "//a/b"], "outs": ["x.o", "dist/", "gen/*.h"], "env": {"A": "1"}, "timeoutSeconds": 5.0
        }))
        .unwrap();
        assert_eq!(target.label.to_string(), "//libs/ui:t");
        assert_eq!(target.srcs[0], Source::File("libs/ui/a.c".into()));
        let deps: Vec<_> = target.deps.iter().map(ToString::to_string).collect();
        assert_eq!(deps, ["//libs/ui:other", "//a/b:b"]);
        let command = target.command().unwrap();
        let outs: Vec<_> = command.outs.iter().map(Output::show).collect();
        assert_eq!(outs, ["libs/ui/x.o", "libs/ui/dist/", "libs/ui/gen/*.h"]);
        assert_eq!(command.special.timeout_ms, Some(5000));
        assert_eq!(command.env["A"], EnvValue::Text("1".into()));
        assert!(!target.is_test());
        let room = (target.srcs.capacity(), command.outs.capacity());
        assert_eq!(room, (2, 3), "no more than there is");
    }

    #[test]
    fn a_test_in_parts_is_one_target_for_each_and_one_for_all() {
        let test = json!({
            "$zako": "test", "cmd": ["run", "--shard={shard}/{shards}"], "srcs": ["a.ts"], "retries": 1, "shards": 2
        });
        let targets = read_exports(&json!({ "t": test }), FILE).unwrap().targets;
        let labels: Vec<String> = targets.iter().map(|t| t.label.to_string()).collect();
        assert_eq!(labels, ["//libs/ui:t~1", "//libs/ui:t~2", "//libs/ui:t"]);
        let second = targets[1].command().unwrap();
        assert_eq!(second.argv[1], "--shard=2/2");
        assert_eq!(second.env["TEST_SHARD_INDEX"], EnvValue::Text("1".into()));
        assert!(targets[1].is_test() && !targets[2].is_test());
        assert_eq!(targets[2].deps.len(), 2);
        let mistake =
            read(json!({"$zako": "test", "cmd": ["x"], "outs": ["log"], "shards": 2})).unwrap_err();
        assert!(mistake.contains("the parts of `t` would all write its `outs`"));
    }

    #[test]
    fn resources_and_outer_variables_are_read() {
        let target = read(json!({
            "$zako": "command", "cmd": ["x"], "uses": {"cpu": 2.5, "memory": "1.5g", "gpu": 1},
            "env": {"CI": {"$env": "CI", "default": "0"}}
        }))
        .unwrap();
        let command = target.command().unwrap();
        assert_eq!(command.special.uses.cpu_milli, 2500);
        assert_eq!(command.special.uses.memory_bytes, 3 << 29);
        assert_eq!(command.special.uses.named_milli["gpu"], 1000);
        let passed = EnvValue::Pass {
            name: "CI".into(),
            default: Some("0".into()),
        };
        assert_eq!(command.env["CI"], passed);
        assert!(
            read(json!({"$zako": "command", "cmd": ["x"], "uses": {"memory": "lots"}}))
                .unwrap_err()
                .contains("`uses` of target `t` must be")
        );
    }

    #[test]
    fn mistakes_point_at_the_line() {
        let cmd = |extra: Value| {
            let mut value = json!({"$zako": "command", "cmd": ["x"]});
            value
                .as_object_mut()
                .unwrap()
                .extend(extra.as_object().unwrap().clone());
            read(value).unwrap_err()
        };
        assert!(
            cmd(json!({"srcs": ["../x"]}))
                .starts_with("libs/ui/BUILD.ts:3:13: path `../x` leaves its package")
        );
        assert!(
            cmd(json!({"srcs": ["//a:b"]}))
                .starts_with("libs/ui/BUILD.ts:3:21: `//a:b` in `srcs` is a label")
        );
        assert!(cmd(json!({"outs": ["./"]})).contains("whole package directory"));
        assert!(cmd(json!({"outs": ["a", "a"]})).contains("listed twice"));
        assert!(cmd(json!({"srcs": ["*.c"]})).contains("write `glob(\"*.c\")`"));
        assert!(
            read(json!({"a": 1}))
                .unwrap_err()
                .contains("export `t` is not a target")
        );
        assert!(
            read(json!({"$zako": "tset"}))
                .unwrap_err()
                .contains("did you mean `test`?")
        );
        let whole = flat(&read_exports(&json!([1]), FILE).unwrap_err());
        assert!(whole.contains("default export must be an object"));
    }

    #[test]
    fn a_transpile_step_has_its_defaults() {
        let target = read(json!({"$zako": "transpile", "srcs": {"$glob": {"include": ["src/**"]}}, "out": "dist/"})).unwrap();
        let Work::Transpile(transpile) = &target.work else {
            panic!("not a transpile step")
        };
        assert_eq!(
            (transpile.root.as_str(), transpile.out.as_str()),
            ("libs/ui", "libs/ui/dist")
        );
        assert_eq!(
            (transpile.options.module, transpile.options.source_map),
            (ModuleFormat::Esm, false)
        );
    }
}
