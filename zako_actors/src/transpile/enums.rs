//! Values of enums' members that oxc computes as no engine does.
//!
//! Owns: finding `+`, `-` and `~` before a text, and keeping oxc from computing them: it takes `+"3"` for `"3"`, `-"3"` for `NaN`.
//! Does not know how members are computed; what oxc does not compute is left to the engine, as `tsc` leaves it.
//! Invariant: a program without enums is not looked at, and of one whose enums all stand at the top only statements are.

use oxc::allocator::TakeIn;
use oxc::ast::ast::*;
use oxc::ast::builder::AstBuilder;
use oxc::ast_visit::{VisitMut, walk_mut};
use oxc::semantic::{Scoping, SymbolId};
use oxc::span::SPAN;
use oxc::str::Ident;
use oxc::syntax::constant_value::ConstantValue;
use oxc::syntax::scope::ScopeFlags;

/// Leaves signs before texts to the engine. Whether there were some: what is known about the members has to be found anew.
pub(super) fn leave_signed_texts<'a>(
    program: &mut Program<'a>,
    scoping: &Scoping,
    builder: &AstBuilder<'a>,
) -> bool {
    let enums = scoping.symbol_ids();
    let mut enums = enums.filter(|symbol| scoping.symbol_flags(*symbol).is_enum());
    let Some(first) = enums.next() else {
        return false;
    };
    let is_inside = |symbol| {
        let flags = scoping.scope_flags(scoping.symbol_scope_id(symbol));
        !flags.is_top() && !flags.is_ts_module_block()
    };
    let mut signs = Signs {
        builder,
        scoping,
        everywhere: is_inside(first) || enums.any(is_inside),
        in_enum: None,
        is_changed: false,
    };
    signs.visit_program(program);
    signs.is_changed
}

struct Signs<'a, 'b> {
    builder: &'b AstBuilder<'a>,
    scoping: &'b Scoping,
    /// Whether enums stand in functions and the like.
    everywhere: bool,
    /// The enum whose members' values are visited.
    in_enum: Option<SymbolId>,
    is_changed: bool,
}

impl<'a> Signs<'a, '_> {
    /// Whether oxc has a text for `expression`.
    fn is_text(&self, expression: &Expression<'a>) -> bool {
        match expression {
            Expression::StringLiteral(_) | Expression::TemplateLiteral(_) => true,
            Expression::ParenthesizedExpression(inner) => self.is_text(&inner.expression),
            Expression::UnaryExpression(unary) => {
                unary.operator == UnaryOperator::UnaryPlus && self.is_text(&unary.argument)
            }
            Expression::BinaryExpression(binary) => {
                binary.operator == BinaryOperator::Addition
                    && (self.is_text(&binary.left) || self.is_text(&binary.right))
            }
            Expression::Identifier(name) => {
                let member = self.symbol(name).is_some_and(|it| self.is_text_member(it));
                member || self.has_text(self.in_enum, name.name)
            }
            Expression::StaticMemberExpression(member) => match &member.object {
                Expression::Identifier(object) => {
                    self.has_text(self.symbol(object), member.property.name)
                }
                _ => false,
            },
            Expression::ComputedMemberExpression(member) => {
                match (&member.object, &member.expression) {
                    (Expression::Identifier(object), Expression::StringLiteral(name)) => {
                        self.has_text(self.symbol(object), Ident::from(name.value.as_str()))
                    }
                    _ => false,
                }
            }
            _ => false,
        }
    }

    fn symbol(&self, name: &IdentifierReference<'a>) -> Option<SymbolId> {
        self.scoping
            .get_reference(name.reference_id.get()?)
            .symbol_id()
    }

    /// Whether the enum has such a member, and it is a text.
    fn has_text(&self, of: Option<SymbolId>, name: Ident<'_>) -> bool {
        let scopes = of.and_then(|symbol| self.scoping.get_enum_body_scopes(symbol));
        let mut scopes = scopes.into_iter().flatten();
        scopes.any(|scope| {
            let member = self.scoping.get_binding(*scope, name);
            member.is_some_and(|member| self.is_text_member(member))
        })
    }

    fn is_text_member(&self, member: SymbolId) -> bool {
        let value = self.scoping.get_enum_member_value(member);
        matches!(value, Some(ConstantValue::String(_)))
    }
}

impl<'a> VisitMut<'a> for Signs<'a, '_> {
    fn visit_ts_enum_declaration(&mut self, declaration: &mut TSEnumDeclaration<'a>) {
        let outer = std::mem::replace(&mut self.in_enum, declaration.id.symbol_id.get());
        walk_mut::walk_ts_enum_declaration(self, declaration);
        self.in_enum = outer;
    }

    fn visit_expression(&mut self, expression: &mut Expression<'a>) {
        if self.everywhere || self.in_enum.is_some() {
            walk_mut::walk_expression(self, expression);
        }
    }

    fn visit_function(&mut self, function: &mut Function<'a>, flags: ScopeFlags) {
        if self.everywhere || self.in_enum.is_some() {
            walk_mut::walk_function(self, function, flags);
        }
    }

    fn visit_class(&mut self, class: &mut Class<'a>) {
        if self.everywhere || self.in_enum.is_some() {
            walk_mut::walk_class(self, class);
        }
    }

    fn visit_unary_expression(&mut self, unary: &mut UnaryExpression<'a>) {
        let is_sign = matches!(
            unary.operator,
            UnaryOperator::UnaryPlus | UnaryOperator::UnaryNegation | UnaryOperator::BitwiseNot
        );
        if is_sign && self.in_enum.is_some() && self.is_text(&unary.argument) {
            // `+("3"!)` is `+"3"` in the output, and nothing that oxc computes.
            let text = unary.argument.take_in(self.builder);
            unary.argument = Expression::new_ts_non_null_expression(SPAN, text, self.builder);
            self.is_changed = true;
        }
        walk_mut::walk_unary_expression(self, unary);
    }
}
