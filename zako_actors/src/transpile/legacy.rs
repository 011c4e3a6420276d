//! Decorators of `experimentalDecorators`, called as TypeScript calls them.
//!
//! Owns: the order of the calls that oxc makes for the members of one class, and one call for both halves of an accessor.
//! Does not know how a call is made, nor which decorators are refused (`decorators`).
//! Invariants: only calls that oxc has made are moved, and only past each other; what their keys are made of was computed in the
//! class, so that nothing else changes places.

use oxc::allocator::{TakeIn, Vec as ArenaVec};
use oxc::ast::ast::*;
use oxc::ast::builder::AstBuilder;
use oxc::ast_visit::{VisitMut, walk_mut};
use oxc::span::Span;
use oxc::str::Str;

use super::decorators::first_of_class;
use super::helpers::local_name;

/// Gives a decorated class without a name, which can only be the default export, the one that `tsc` gives it: oxc loses its own
/// where static fields are lowered.
pub(super) fn name_default_class<'a>(program: &mut Program<'a>, builder: &AstBuilder<'a>) {
    let source = program.source_text;
    let Some(class) = default_class(program) else {
        return;
    };
    if class.id.is_none() && first_of_class(class).is_some() {
        let names = (1..).map(|count| format!("default_{count}"));
        let name = names.into_iter().find(|name| !source.contains(&**name));
        let name = Str::from_str_in(&name.unwrap_or_default(), builder);
        let span = Span::empty(class.span.start);
        class.id = Some(BindingIdentifier::new(span, name, builder));
    }
}

/// The class that is the default export.
pub(super) fn default_class<'p, 'a>(program: &'p mut Program<'a>) -> Option<&'p mut Class<'a>> {
    program.body.iter_mut().find_map(|statement| {
        let Statement::ExportDefaultDeclaration(export) = statement else {
            return None;
        };
        match &mut export.declaration {
            ExportDefaultDeclarationKind::ClassDeclaration(class) => Some(&mut **class),
            _ => None,
        }
    })
}

/// Brings the calls for the members of each class into TypeScript's order: those of instances, then static ones.
pub(super) fn reorder<'a>(program: &mut Program<'a>, builder: &AstBuilder<'a>) {
    let name = |helper| local_name(program, helper).map(str::to_owned);
    if let Some(decorate) = name("decorate") {
        let mut order = Order {
            decorate,
            parameter: name("decorateParam"),
            metadata: name("decorateMetadata"),
            builder,
        };
        order.visit_program(program);
    }
}

struct Order<'a, 'b> {
    /// What the helper is called that decorates.
    decorate: String,
    /// What the one is called that makes a decorator out of a parameter's.
    parameter: Option<String>,
    /// What the one is called that makes a decorator out of types.
    metadata: Option<String>,
    builder: &'b AstBuilder<'a>,
}

impl<'a> VisitMut<'a> for Order<'a, '_> {
    fn visit_statements(&mut self, statements: &mut ArenaVec<'a, Statement<'a>>) {
        walk_mut::walk_statements(self, statements);
        for run in statements.chunk_by_mut(|a, b| self.is_of_one_class(a, b)) {
            run.sort_by_key(|call| self.member(call).is_some_and(|member| member.is_static));
            self.join_accessors(run);
        }
        statements.retain(|statement| {
            let member = self.member(statement);
            member.is_none_or(|member| !member.decorators.is_empty())
        });
    }
}

/// The call for one member.
struct Member<'s, 'a> {
    class: &'s str,
    is_static: bool,
    decorators: &'s [ArrayExpressionElement<'a>],
    /// Its name where it is an accessor, or a method, and no expression.
    name: Option<&'s str>,
}

impl<'a> Order<'a, '_> {
    fn member<'s>(&self, statement: &'s Statement<'a>) -> Option<Member<'s, 'a>> {
        let Statement::ExpressionStatement(statement) = statement else {
            return None;
        };
        let Expression::CallExpression(call) = &statement.expression else {
            return None;
        };
        let [Argument::ArrayExpression(list), target, key, descriptor] = call.arguments.as_slice()
        else {
            return None;
        };
        let (class, is_static) = match target {
            Argument::Identifier(class) => (class, true),
            Argument::StaticMemberExpression(prototype) => match &prototype.object {
                Expression::Identifier(class) => (class, false),
                _ => return None,
            },
            _ => return None,
        };
        let name = match (key, descriptor) {
            (Argument::StringLiteral(name), Argument::NullLiteral(_)) => Some(name.value.as_str()),
            _ => None,
        };
        is_named(&call.callee, Some(&self.decorate)).then(|| Member {
            class: class.name.as_str(),
            is_static,
            decorators: &list.elements,
            name,
        })
    }

    fn is_of_one_class(&self, a: &Statement<'a>, b: &Statement<'a>) -> bool {
        let members = self.member(a).zip(self.member(b));
        members.is_some_and(|(a, b)| a.class == b.class)
    }

    /// Takes the decorators of a setter's parameter to those of the getter: `tsc` makes one call of both. No decorators are
    /// left of the setter.
    fn join_accessors(&self, run: &mut [Statement<'a>]) {
        for at in 0..run.len() {
            let partner = run
                .iter()
                .position(|other| self.is_other_half(&run[at], other));
            let setter = partner.and_then(|_| decorators_mut(&mut run[at]));
            let Some(taken) = setter.map(|list| list.take_in(self.builder)) else {
                continue;
            };
            if let Some(own) = partner.and_then(|partner| decorators_mut(&mut run[partner])) {
                let types = own
                    .iter()
                    .position(|it| is_call(it, self.metadata.as_deref()));
                let types = types.unwrap_or(own.len());
                let types = own.split_off(types);
                own.extend(taken);
                own.extend(types);
            }
        }
    }

    /// Whether `call` has decorators of parameters only, and `other` those of the accessor of the same name.
    fn is_other_half(&self, call: &Statement<'a>, other: &Statement<'a>) -> bool {
        let (Some(call), Some(other)) = (self.member(call), self.member(other)) else {
            return false;
        };
        let of_parameter = |member: &Member<'_, 'a>| {
            let first = member.decorators.first();
            first.map(|first| is_call(first, self.parameter.as_deref()))
        };
        let is_same = call.name.is_some() && call.name == other.name;
        is_same
            && call.is_static == other.is_static
            && of_parameter(&call) == Some(true)
            && of_parameter(&other) == Some(false)
    }
}

fn is_named(callee: &Expression<'_>, name: Option<&str>) -> bool {
    matches!(callee, Expression::Identifier(it) if Some(it.name.as_str()) == name)
}

fn is_call(element: &ArrayExpressionElement<'_>, of: Option<&str>) -> bool {
    matches!(element, ArrayExpressionElement::CallExpression(call) if is_named(&call.callee, of))
}

fn decorators_mut<'s, 'a>(
    statement: &'s mut Statement<'a>,
) -> Option<&'s mut ArenaVec<'a, ArrayExpressionElement<'a>>> {
    let Statement::ExpressionStatement(statement) = statement else {
        return None;
    };
    let Expression::CallExpression(call) = &mut statement.expression else {
        return None;
    };
    match call.arguments.first_mut() {
        Some(Argument::ArrayExpression(list)) => Some(&mut list.elements),
        _ => None,
    }
}
