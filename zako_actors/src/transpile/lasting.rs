//! Modules that keep nothing from one call of their functions to the next.
//!
//! Owns: finding, from the text of one module, whether everything that outlives a call can be frozen, and which
//! bindings that means. Does not know: who freezes them.
//! Invariant: said only of a module whose own functions did not run while it was evaluated, whose bindings are never
//! assigned again, and whose values are made of literals, functions and what `zako:` modules return. Then whatever a
//! function could leave behind is reachable from its bindings, and a frozen binding takes nothing.
//! When in doubt the answer is no: the price is time.

use std::collections::HashMap;

use oxc::allocator::Allocator;
use oxc::ast::ast::*;
use oxc::parser::Parser;
use oxc::semantic::SemanticBuilder;
use oxc::syntax::operator::UnaryOperator;

/// Modules whose functions call nothing that they are given, while modules are evaluated.
const TRUSTED: [&str; 7] = [
    "zako:rule",
    "zako:toolchain",
    "zako:config",
    "zako:core",
    "zako:semver",
    "zako:global",
    "zako:rt",
];

/// Properties that the engine itself may call.
const CALLED: [&str; 5] = ["toString", "valueOf", "toJSON", "then", "__proto__"];

/// What a name at the top of a module stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Name {
    /// From one of [`TRUSTED`].
    Trusted,
    /// A string, number, boolean.
    Primitive,
    /// Something else.
    Value,
}

/// The bindings of the JavaScript module `code` that have to be frozen so that it keeps nothing; `None` when it might
/// keep something even then.
pub(super) fn lasting_bindings(arena: &Allocator, code: &str) -> Option<Vec<String>> {
    let parsed = Parser::new(arena, code, SourceType::mjs()).parse();
    let record = &parsed.module_record;
    if parsed.panicked || !record.dynamic_imports.is_empty() || !record.import_metas.is_empty() {
        return None;
    }
    let scoping = SemanticBuilder::new()
        .build(&parsed.program)
        .semantic
        .into_scoping();
    let top = scoping.get_bindings(scoping.root_scope_id());
    if top
        .iter()
        .any(|(_, symbol)| scoping.symbol_is_mutated(*symbol))
    {
        return None;
    }
    let mut module = Module::default();
    // Functions can be named before they stand there.
    for statement in &parsed.program.body {
        module.declare(statement);
    }
    let inert = parsed.program.body.iter().all(|it| module.statement(it));
    inert.then_some(module.frozen)
}

#[derive(Default)]
struct Module<'s> {
    names: HashMap<&'s str, Name>,
    frozen: Vec<String>,
}

impl<'s> Module<'s> {
    fn declare(&mut self, statement: &'s Statement<'_>) {
        match statement {
            Statement::ImportDeclaration(import) => self.import(import),
            Statement::FunctionDeclaration(function) => self.function(function),
            Statement::ExportDeclaration(export) => {
                if let Declaration::FunctionDeclaration(function) = &export.declaration {
                    self.function(function);
                }
            }
            _ => {}
        }
    }

    fn import(&mut self, import: &'s ImportDeclaration<'_>) {
        let source = import.source.value.as_str();
        for specifier in import.specifiers.iter().flatten() {
            let local = specifier.local().name.as_str();
            let is_namespace = matches!(
                specifier,
                ImportDeclarationSpecifier::ImportNamespaceSpecifier(_)
            );
            // A namespace of trusted functions would be one more way to name them: not followed.
            let trusted = TRUSTED.contains(&source) && !is_namespace;
            self.names
                .insert(local, if trusted { Name::Trusted } else { Name::Value });
            if is_data(source) {
                self.frozen.push(local.to_owned());
            }
        }
    }

    fn function(&mut self, function: &'s Function<'_>) {
        if let Some(id) = &function.id {
            self.bind(id.name.as_str(), Name::Value);
        }
    }

    fn bind(&mut self, name: &'s str, what: Name) {
        self.names.insert(name, what);
        if what != Name::Primitive {
            self.frozen.push(name.to_owned());
        }
    }

    fn statement(&mut self, statement: &'s Statement<'_>) -> bool {
        match statement {
            // Handed on, data has no name here by which it could be frozen.
            Statement::ExportFromDeclaration(export) => !is_data(export.source.value.as_str()),
            Statement::ExportAllDeclaration(export) => !is_data(export.source.value.as_str()),
            Statement::ImportDeclaration(_)
            | Statement::ExportNamedDeclaration(_)
            | Statement::FunctionDeclaration(_)
            | Statement::EmptyStatement(_) => true,
            Statement::ExpressionStatement(statement) => self.inert(&statement.expression),
            Statement::VariableDeclaration(variables) => self.variables(variables),
            Statement::ExportDeclaration(export) => match &export.declaration {
                Declaration::FunctionDeclaration(_) => true,
                Declaration::VariableDeclaration(variables) => self.variables(variables),
                _ => false,
            },
            Statement::ExportDefaultDeclaration(export) => {
                // Without a name there is no binding to freeze.
                export
                    .declaration
                    .as_expression()
                    .is_some_and(|it| matches!(it, Expression::Identifier(_)) || self.primitive(it))
            }
            _ => false,
        }
    }

    fn variables(&mut self, variables: &'s VariableDeclaration<'_>) -> bool {
        variables.declarations.iter().all(|variable| {
            let BindingPattern::BindingIdentifier(id) = &variable.id else {
                return false;
            };
            let Some(value) = &variable.init else {
                return true;
            };
            if !self.inert(value) {
                return false;
            }
            let what = if self.primitive(value) {
                Name::Primitive
            } else {
                Name::Value
            };
            self.bind(id.name.as_str(), what);
            true
        })
    }

    /// Whether evaluating the expression runs no function of the module, and makes nothing that cannot be frozen.
    fn inert(&self, expression: &Expression<'_>) -> bool {
        match expression {
            Expression::ArrowFunctionExpression(_) | Expression::FunctionExpression(_) => true,
            Expression::RegExpLiteral(literal) => {
                // Where a global one stopped is a property that searching writes.
                let flags = literal.regex.flags;
                !flags.intersects(RegExpFlags::G | RegExpFlags::Y)
            }
            Expression::Identifier(name) => self.names.contains_key(name.name.as_str()),
            Expression::ParenthesizedExpression(inner) => self.inert(&inner.expression),
            Expression::StaticMemberExpression(member) => self.inert(&member.object),
            Expression::ComputedMemberExpression(member) => {
                self.inert(&member.object) && self.primitive(&member.expression)
            }
            Expression::ConditionalExpression(choice) => {
                let all = [&choice.test, &choice.consequent, &choice.alternate];
                all.into_iter().all(|it| self.inert(it))
            }
            Expression::LogicalExpression(both) => {
                self.inert(&both.left) && self.inert(&both.right)
            }
            Expression::ArrayExpression(list) => {
                list.elements.iter().all(|element| match element {
                    ArrayExpressionElement::Elision(_) => true,
                    ArrayExpressionElement::SpreadElement(spread) => self.inert(&spread.argument),
                    other => other.as_expression().is_some_and(|it| self.inert(it)),
                })
            }
            Expression::ObjectExpression(object) => {
                object.properties.iter().all(|property| match property {
                    ObjectPropertyKind::SpreadProperty(spread) => self.inert(&spread.argument),
                    ObjectPropertyKind::ObjectProperty(property) => self.property(property),
                })
            }
            Expression::CallExpression(call) => {
                let arguments = &call.arguments;
                let mut arguments = arguments.iter().map(Argument::as_expression);
                self.is_trusted(&call.callee)
                    && arguments.all(|it| it.is_some_and(|it| self.inert(it)))
            }
            other => self.primitive(other),
        }
    }

    fn property(&self, property: &ObjectProperty<'_>) -> bool {
        let called = property.key.static_name();
        let called = called.is_none_or(|name| CALLED.contains(&name.as_ref()));
        property.kind == PropertyKind::Init
            && !property.computed
            && !called
            && self.inert(&property.value)
    }

    /// Whether the callee is a function of a `zako:` module, or one of its members, or `Object.freeze`.
    fn is_trusted(&self, callee: &Expression<'_>) -> bool {
        match callee {
            Expression::Identifier(name) => {
                self.names.get(name.name.as_str()) == Some(&Name::Trusted)
            }
            Expression::StaticMemberExpression(member) => {
                let is_freeze = matches!(&member.object, Expression::Identifier(object)
                    if object.name == "Object" && !self.names.contains_key("Object"))
                    && member.property.name == "freeze";
                is_freeze || self.is_trusted_object(&member.object)
            }
            _ => false,
        }
    }

    fn is_trusted_object(&self, object: &Expression<'_>) -> bool {
        matches!(object, Expression::Identifier(name)
            if self.names.get(name.name.as_str()) == Some(&Name::Trusted))
    }

    /// Whether the value is a string, number, boolean or nothing, and making it calls nothing.
    fn primitive(&self, expression: &Expression<'_>) -> bool {
        match expression {
            Expression::StringLiteral(_)
            | Expression::NumericLiteral(_)
            | Expression::BooleanLiteral(_)
            | Expression::NullLiteral(_)
            | Expression::BigIntLiteral(_) => true,
            Expression::TemplateLiteral(text) => {
                text.expressions.iter().all(|it| self.primitive(it))
            }
            Expression::ParenthesizedExpression(inner) => self.primitive(&inner.expression),
            Expression::BinaryExpression(both) => {
                self.primitive(&both.left) && self.primitive(&both.right)
            }
            Expression::UnaryExpression(one) => {
                one.operator != UnaryOperator::Delete && self.primitive(&one.argument)
            }
            Expression::Identifier(name) => match self.names.get(name.name.as_str()) {
                Some(what) => *what == Name::Primitive,
                None => matches!(name.name.as_str(), "undefined" | "NaN" | "Infinity"),
            },
            _ => false,
        }
    }
}

/// Whether an import is data, which has no module of its own that could freeze it.
fn is_data(source: &str) -> bool {
    source.ends_with(".json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lasting(code: &str) -> Option<Vec<String>> {
        lasting_bindings(&Allocator::default(), code)
    }

    #[test]
    fn what_is_frozen_is_all_that_outlives_a_call() {
        let found = lasting(
            "import { attr, provider, rule } from 'zako:rule';\n\
             import { mode } from './x.config.ts';\n\
             import data from './data.json';\n\
             const NAME = 'a' + `b${1}`, FLAGS = ['-O2', NAME], KEPT = Object.freeze({ FLAGS });\n\
             export const Info = provider('Info');\n\
             export const lib = rule({ name: 'lib', attrs: { s: attr.sources() }, ...KEPT,\n\
               implementation(ctx) { let n = 0; ctx.all.map(() => n++); return helper(); } });\n\
             function helper() { return /x/g; }\n\
             export { mode };",
        );
        let names = ["data", "helper", "FLAGS", "KEPT", "Info", "lib"];
        assert_eq!(found.unwrap(), names);
    }

    #[test]
    fn what_might_keep_something_is_not_said_to_keep_nothing() {
        for code in [
            "let n = 0; export function f() { return n++; }",
            "export var n; export function f() { n = 1; }",
            "const cache = new Map(); export const f = (x) => cache.get(x);",
            "const next = (() => { let n = 0; return () => n++; })();",
            "const f = ['a'].map((x) => { let n = 0; return () => n++; });",
            "class A { static #n = 0; static f() { return A.#n++; } }",
            "const words = /x/g;",
            "const o = { get x() { return 1; } };",
            "const o = { toString() { return 'x'; } }; const s = o + '';",
            "const o = { ['toString']() { return 'x'; } };",
            "const o = {}; const s = `${o}`;",
            "import { f } from './lib.ts'; const x = f();",
            "import * as rules from 'zako:rule'; const x = rules.rule();",
            "import { attr } from 'zako:rule'; const x = attr.string().check.call();",
            "const Object = { freeze(x) { return x; } }; const o = Object.freeze({});",
            "export const f = () => import.meta;",
            "export const f = () => import('./x.ts');",
            "for (const x of [1]) ;",
            "globalThis.x = 1;",
            "const r = RegExp.$1;",
            "export default { a: [] };",
            "export default function () {}",
            "const { a } = { a: 1 };",
            "const x = await 1;",
            "syntax error",
        ] {
            assert_eq!(lasting(code), None, "{code}");
        }
    }
}
