//! The grammar of queries.
//!
//! Owns words, precedence (`intersect` binds tighter than `union` and `except`, which go from left
//! to right) and the errors. Does not know which targets exist.
//! Invariant: nesting is bounded, so that no query exhausts the stack.

use super::QueryError;
use crate::lang::label::LabelPattern;
use crate::lang::packages::Packages;
use crate::lang::suggest::did_you_mean;

/// Parentheses within parentheses.
const DEEPEST: usize = 200;
/// Operators in a query: each makes the answer one call deeper.
const LONGEST: usize = 1000;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// The targets that a label or a wildcard names.
    Targets(LabelPattern),
    /// These and what they need, up to a number of steps away.
    Deps(Box<Self>, Option<u32>),
    /// These and what needs them.
    Dependants(Box<Self>, Option<u32>),
    /// One chain of dependencies from the first to the second.
    SomePath(Box<Self>, Box<Self>),
    /// Everything on any such chain.
    AllPaths(Box<Self>, Box<Self>),
    /// Those of one kind.
    Kind(String, Box<Self>),
    /// Those with an attribute that contains a text.
    Attribute(String, String, Box<Self>),
    /// Those that are tests.
    Tests(Box<Self>),
    /// Both.
    Union(Box<Self>, Box<Self>),
    /// The first without the second.
    Except(Box<Self>, Box<Self>),
    /// What is in both.
    Intersect(Box<Self>, Box<Self>),
}

const FUNCTIONS: [&str; 7] = [
    "deps", "rdeps", "somepath", "allpaths", "kind", "attr", "tests",
];

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Open,
    Close,
    Comma,
    Word(String),
}

/// Reads a query typed in directory `here` of the workspace, which declares these `packages`.
///
/// # Errors
/// When the text breaks the grammar, with the column.
pub fn parse(text: &str, here: &str, packages: &Packages) -> Result<Expr, QueryError> {
    let mut parser = Parser {
        tokens: tokens(text)?,
        at: 0,
        depth: 0,
        operators: 0,
        end: text.chars().count() + 1,
        here,
        packages,
    };
    if parser.tokens.is_empty() {
        return Err(parser.wrong("the query is empty; write a label or `deps(//a:b)`"));
    }
    let expr = parser.sum()?;
    match parser.peek() {
        None => Ok(expr),
        Some(_) => {
            Err(parser.wrong("expected `union` (+), `except` (-), `intersect` (^) or the end"))
        }
    }
}

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, QueryError> {
    let mut found = Vec::new();
    let mut chars = text.chars().enumerate().peekable();
    while let Some((index, c)) = chars.next() {
        let column = index + 1;
        let token = match c {
            '(' => Token::Open,
            ')' => Token::Close,
            ',' => Token::Comma,
            '"' | '\'' => {
                let mut word = String::new();
                loop {
                    match chars.next() {
                        Some((_, end)) if end == c => break,
                        Some((_, inside)) => word.push(inside),
                        None => {
                            return Err(QueryError::Grammar {
                                message: format!("the closing {c} is missing"),
                                column,
                            });
                        }
                    }
                }
                Token::Word(word)
            }
            space if space.is_whitespace() => continue,
            first => {
                let mut word = String::from(first);
                while let Some((_, next)) =
                    chars.next_if(|(_, next)| !next.is_whitespace() && !"(),\"'".contains(*next))
                {
                    word.push(next);
                }
                Token::Word(word)
            }
        };
        found.push((column, token));
    }
    Ok(found)
}

struct Parser<'a> {
    tokens: Vec<(usize, Token)>,
    at: usize,
    depth: usize,
    operators: usize,
    end: usize,
    here: &'a str,
    packages: &'a Packages,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(_, token)| token)
    }

    fn wrong(&self, message: impl Into<String>) -> QueryError {
        let column = self
            .tokens
            .get(self.at)
            .map_or(self.end, |(column, _)| *column);
        QueryError::Grammar {
            message: message.into(),
            column,
        }
    }

    fn operator(&mut self, names: [&str; 2]) -> Result<bool, QueryError> {
        let found =
            matches!(self.peek(), Some(Token::Word(word)) if names.contains(&word.as_str()));
        self.at += usize::from(found);
        self.operators += usize::from(found);
        if self.operators > LONGEST {
            return Err(self.wrong("the query joins too many parts; ask for subtrees, `//dir/...`"));
        }
        Ok(found)
    }

    fn sum(&mut self) -> Result<Expr, QueryError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.wrong("the query is nested too deeply"));
        }
        let mut expr = self.product()?;
        loop {
            if self.operator(["union", "+"])? {
                expr = Expr::Union(Box::new(expr), Box::new(self.product()?));
            } else if self.operator(["except", "-"])? {
                expr = Expr::Except(Box::new(expr), Box::new(self.product()?));
            } else {
                self.depth -= 1;
                return Ok(expr);
            }
        }
    }

    fn product(&mut self) -> Result<Expr, QueryError> {
        let mut expr = self.term()?;
        while self.operator(["intersect", "^"])? {
            expr = Expr::Intersect(Box::new(expr), Box::new(self.term()?));
        }
        Ok(expr)
    }

    fn term(&mut self) -> Result<Expr, QueryError> {
        match self.peek().cloned() {
            Some(Token::Open) => {
                self.at += 1;
                let expr = self.sum()?;
                self.expect(&Token::Close, "`)` is missing")?;
                Ok(expr)
            }
            Some(Token::Word(word)) => {
                let next = self.tokens.get(self.at + 1).map(|(_, token)| token);
                if next == Some(&Token::Open) {
                    return self.function(&word);
                }
                let pattern = self.packages.pattern(&word, self.here)?;
                self.at += 1;
                Ok(Expr::Targets(pattern))
            }
            _ => Err(self.wrong("expected a label or a function")),
        }
    }

    fn function(&mut self, name: &str) -> Result<Expr, QueryError> {
        if !FUNCTIONS.contains(&name) {
            let hint = did_you_mean(name, FUNCTIONS);
            let known = FUNCTIONS.join(", ");
            return Err(self.wrong(format!(
                "there is no function `{name}`{hint}; functions are {known}"
            )));
        }
        self.at += 2;
        let expr = match name {
            "kind" => {
                let kind = self.word(
                    "a kind: command, script, test, transpile, group or the name of a rule",
                )?;
                self.comma()?;
                Expr::Kind(kind, self.argument()?)
            }
            "attr" => {
                let attribute = self.word("the name of an attribute")?;
                self.comma()?;
                let text = self.word("the text to look for")?;
                self.comma()?;
                Expr::Attribute(attribute, text, self.argument()?)
            }
            "tests" => Expr::Tests(self.argument()?),
            "somepath" | "allpaths" => {
                let from = self.argument()?;
                self.comma()?;
                let to = self.argument()?;
                if name == "somepath" {
                    Expr::SomePath(from, to)
                } else {
                    Expr::AllPaths(from, to)
                }
            }
            _ => {
                let of = self.argument()?;
                let depth = self.depth()?;
                if name == "deps" {
                    Expr::Deps(of, depth)
                } else {
                    Expr::Dependants(of, depth)
                }
            }
        };
        self.expect(&Token::Close, "`)` is missing")?;
        Ok(expr)
    }

    fn argument(&mut self) -> Result<Box<Expr>, QueryError> {
        self.sum().map(Box::new)
    }

    fn depth(&mut self) -> Result<Option<u32>, QueryError> {
        if self.peek() != Some(&Token::Comma) {
            return Ok(None);
        }
        self.at += 1;
        let word = self.word("a number of steps")?;
        match word.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => {
                self.at -= 1;
                Err(self.wrong(format!("`{word}` is not a number of steps")))
            }
        }
    }

    fn word(&mut self, what: &str) -> Result<String, QueryError> {
        match self.peek().cloned() {
            Some(Token::Word(word)) => {
                self.at += 1;
                Ok(word)
            }
            _ => Err(self.wrong(format!("expected {what}"))),
        }
    }

    fn comma(&mut self) -> Result<(), QueryError> {
        self.expect(&Token::Comma, "expected `,` and another argument")
    }

    fn expect(&mut self, token: &Token, message: &str) -> Result<(), QueryError> {
        if self.peek() == Some(token) {
            self.at += 1;
            return Ok(());
        }
        Err(self.wrong(message))
    }
}
