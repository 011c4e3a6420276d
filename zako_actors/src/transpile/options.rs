//! What a caller may ask of the transpiler, and how that maps to oxc's own options.
//!
//! Owns: [`TranspileOptions`] and its defaults, which follow `tsc` (`isolatedModules`).
//! Does not know: files, jobs, diagnostics of the source.

use std::borrow::Cow;
use std::path::PathBuf;

use oxc::transformer::{
    DecoratorOptions, EnvOptions, HelperLoaderMode, HelperLoaderOptions, JsxOptions, JsxRuntime,
    Module, TransformOptions, TypeScriptOptions,
};
use serde::{Deserialize, Serialize};

/// Module format of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModuleFormat {
    /// ES modules.
    #[default]
    Esm,
    /// CommonJS as Node.js loads it: `require`, `exports`, `module`.
    CommonJs,
}

/// What happens to JSX.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Jsx {
    /// `jsx()` calls imported from `<import source>/jsx-runtime`.
    #[default]
    Automatic,
    /// `React.createElement()` calls.
    Classic,
    /// Left in the output.
    Preserve,
}

/// What happens to decorators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Decorators {
    /// TypeScript's `experimentalDecorators`.
    Legacy,
    /// The same with `emitDecoratorMetadata`.
    LegacyWithMetadata,
    /// Left in the output (no engine runs them yet).
    Preserve,
}

/// All options of one job. Two equal values and equal sources give equal outputs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TranspileOptions {
    /// Module format of the output, unless the extension of the source says one: `.cts` is CommonJS, `.mts` is not.
    pub module: ModuleFormat,
    /// `es2015` … `es2026` or `esnext`, or a list such as `chrome120,node20`.
    pub target: String,
    /// Whether a source map is made (with `sourcesContent`).
    pub source_map: bool,
    /// Whether declarations (`.d.ts`) are made, file by file: exports then need explicit types.
    pub declarations: bool,
    /// What happens to JSX.
    pub jsx: Jsx,
    /// Package of the automatic JSX runtime; `react` by default.
    pub jsx_import_source: Option<String>,
    /// What happens to decorators. While nobody says, they are left to the target `esnext`, and a
    /// mistake for any other: standard ones cannot be lowered, and are called in another way than
    /// those of `experimentalDecorators`.
    pub decorators: Option<Decorators>,
    /// Keeps every import that is not marked `type` (`tsc`'s `verbatimModuleSyntax`).
    pub verbatim_module_syntax: bool,
    /// `tsc`'s `useDefineForClassFields`; by default true from `es2022` on.
    pub use_define_for_class_fields: Option<bool>,
    /// Where the output will lie, relative to the workspace: makes `sources` of the map relative
    /// to it and appends the `sourceMappingURL` comment.
    pub output_path: Option<String>,
}

impl Default for TranspileOptions {
    fn default() -> Self {
        Self {
            module: ModuleFormat::Esm,
            target: "es2022".to_owned(),
            source_map: false,
            declarations: false,
            jsx: Jsx::default(),
            jsx_import_source: None,
            decorators: None,
            verbatim_module_syntax: false,
            use_define_for_class_fields: None,
            output_path: None,
        }
    }
}

/// Helper functions are asked for under this name and then put inline: see `helpers`.
pub(super) const HELPER_PACKAGE: &str = "zako:transpile-helpers";

impl TranspileOptions {
    /// The options in oxc's terms, for output in the format `module`, or why the target is not one.
    pub(super) fn to_oxc(&self, module: ModuleFormat) -> Result<TransformOptions, String> {
        let mut env = EnvOptions::from_target(&self.target.to_lowercase())?;
        env.module = match module {
            ModuleFormat::Esm => Module::Esm,
            ModuleFormat::CommonJs => Module::CommonJS,
        };
        let mut jsx = match self.jsx {
            Jsx::Preserve => JsxOptions::disable(),
            Jsx::Automatic | Jsx::Classic => JsxOptions::enable(),
        };
        if self.jsx == Jsx::Classic {
            jsx.runtime = JsxRuntime::Classic;
        } else {
            jsx.import_source.clone_from(&self.jsx_import_source);
        }
        let define = self
            .use_define_for_class_fields
            .unwrap_or_else(|| self.target_has_class_fields());
        let mut options = TransformOptions {
            cwd: PathBuf::from("/"),
            typescript: TypeScriptOptions {
                only_remove_type_imports: self.verbatim_module_syntax,
                remove_class_fields_without_initializer: !define,
                optimize_const_enums: false,
                ..TypeScriptOptions::default()
            },
            decorator: DecoratorOptions {
                legacy: self.has_legacy_decorators(),
                emit_decorator_metadata: self.decorators == Some(Decorators::LegacyWithMetadata),
                ..DecoratorOptions::default()
            },
            jsx,
            env,
            helper_loader: HelperLoaderOptions {
                module_name: Cow::Borrowed(HELPER_PACKAGE),
                mode: HelperLoaderMode::Runtime,
            },
            ..TransformOptions::default()
        };
        options.assumptions.set_public_class_fields = !define;
        Ok(options)
    }

    /// Whether standard decorators, and what came with them, stay in the output.
    pub(super) fn keeps_decorators(&self) -> bool {
        match self.decorators {
            None => self.target.eq_ignore_ascii_case("esnext"),
            Some(kind) => kind == Decorators::Preserve,
        }
    }

    /// Whether decorators are those of `experimentalDecorators`.
    pub(super) fn has_legacy_decorators(&self) -> bool {
        self.decorators
            .is_some_and(|kind| kind != Decorators::Preserve)
    }

    /// `tsc` defines class fields from ES2022 on, where the language has them.
    fn target_has_class_fields(&self) -> bool {
        match self.target.to_lowercase().strip_prefix("es") {
            Some("next") => true,
            Some(year) => year.parse::<u32>().is_ok_and(|year| year >= 2022),
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_fields_follow_the_target() {
        let at = |target: &str| TranspileOptions {
            target: target.to_owned(),
            ..TranspileOptions::default()
        };
        assert!(at("es2022").target_has_class_fields());
        assert!(at("ESNext").target_has_class_fields());
        assert!(!at("es2021").target_has_class_fields());
        assert!(at("node20").to_oxc(ModuleFormat::Esm).is_ok());
        assert!(at("es20222").to_oxc(ModuleFormat::Esm).is_err());
    }
}
