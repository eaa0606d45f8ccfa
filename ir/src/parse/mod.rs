//! Reads the textual IR; the grammar is in the [crate documentation](crate).
//!
//! The parser knows names and scopes but not types: what it accepts may still be wrong, which is for
//! [`crate::verify`] to say. It returns an error for any text that it does not understand and never panics.

mod expr;
mod lex;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use crate::affine::Var;
use crate::nest::{BufId, Buffer, Call, For, Layout, LoopKind, Nest, Program, Reduce, Role, Stmt, Store};
use crate::ops::ReduceOp;
use crate::types::{DType, Scalar};
use expr::MAX_DEPTH;
use lex::{Tok, Token};

/// Why a text is not a program, and where. Lines and columns count from 1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseError {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for ParseError {}

/// Reads a program. The result is in [canonical](Program::canonical) form.
pub fn parse(text: &str) -> Result<Program, ParseError> {
    let mut parser = Parser {
        tokens: lex::lex(text)?,
        at: 0,
        depth: 0,
        program: Program::default(),
        globals: HashMap::new(),
        nests: HashSet::new(),
        bufs: Vec::new(),
        vars: Vec::new(),
    };
    parser.program()?;
    Ok(parser.program.canonical())
}

impl FromStr for Program {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Program, ParseError> {
        parse(text)
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    /// How many expressions and loops are open.
    depth: usize,
    program: Program,
    /// The buffers that nests share, by name.
    globals: HashMap<String, BufId>,
    nests: HashSet<String>,
    /// The buffers in scope: the nest's signature, then locals.
    bufs: Vec<(String, BufId)>,
    /// The loop variables in scope.
    vars: Vec<(String, Var)>,
}

impl Parser {
    fn peek(&self) -> &Tok {
        self.peek_at(0)
    }

    fn peek_at(&self, ahead: usize) -> &Tok {
        // The last token is the end of the text, which is never passed.
        &self.tokens[(self.at + ahead).min(self.tokens.len() - 1)].tok
    }

    fn advance(&mut self) {
        self.skip(1);
    }

    fn skip(&mut self, n: usize) {
        self.at = (self.at + n).min(self.tokens.len() - 1);
    }

    fn error<T>(&self, message: impl Into<String>) -> Result<T, ParseError> {
        let Token { line, column, .. } = self.tokens[self.at];
        Err(ParseError { line, column, message: message.into() })
    }

    fn expected<T>(&self, what: &str) -> Result<T, ParseError> {
        self.error(format!("expected {what}, found {}", self.peek()))
    }

    fn eat(&mut self, punct: &str) -> bool {
        let found = matches!(self.peek(), Tok::Punct(p) if *p == punct);
        self.skip(usize::from(found));
        found
    }

    fn expect(&mut self, punct: &str) -> Result<(), ParseError> {
        if self.eat(punct) { Ok(()) } else { self.expected(&format!("'{punct}'")) }
    }

    fn eat_ident(&mut self, name: &str) -> bool {
        let found = matches!(self.peek(), Tok::Ident(i) if i == name);
        self.skip(usize::from(found));
        found
    }

    /// Runs `f` one level deeper.
    fn nested<T>(&mut self, f: impl FnOnce(&mut Parser) -> Result<T, ParseError>) -> Result<T, ParseError> {
        if self.depth >= MAX_DEPTH {
            return self.error(format!("loops and expressions are nested more than {MAX_DEPTH} deep"));
        }
        self.depth += 1;
        let result = f(self);
        self.depth -= 1;
        result
    }

    /// `item, item, ...` up to `close`, which is taken too; possibly nothing.
    fn list<T>(
        &mut self,
        close: &str,
        mut item: impl FnMut(&mut Parser) -> Result<T, ParseError>,
    ) -> Result<Vec<T>, ParseError> {
        let mut items = Vec::new();
        if self.eat(close) {
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            if !self.eat(",") {
                self.expect(close)?;
                return Ok(items);
            }
        }
    }

    /// A plain number.
    fn size(&mut self) -> Result<usize, ParseError> {
        match self.peek() {
            Tok::Number { digits, suffix }
                if suffix.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) =>
            {
                match digits.parse() {
                    Ok(n) => {
                        self.advance();
                        Ok(n)
                    }
                    Err(_) => self.error(format!("{digits} is too large")),
                }
            }
            _ => self.expected("a whole number"),
        }
    }

    /// A plain number whose sign has been read.
    fn signed(&mut self, negative: bool) -> Result<i64, ParseError> {
        let at = self.at;
        let value = i128::try_from(self.size()?).unwrap_or(i128::MAX);
        match i64::try_from(if negative { -value } else { value }) {
            Ok(value) => Ok(value),
            Err(_) => {
                self.at = at;
                self.error(format!("{value} is too large"))
            }
        }
    }

    /// A quoted string.
    fn string(&mut self) -> Result<String, ParseError> {
        match self.peek().clone() {
            Tok::Str(text) => {
                self.advance();
                Ok(text)
            }
            _ => self.expected("a string"),
        }
    }

    fn program(&mut self) -> Result<(), ParseError> {
        loop {
            if self.eat_ident("buffer") {
                self.global()?;
            } else if self.eat_ident("nest") {
                self.nest()?;
            } else if *self.peek() == Tok::End {
                return Ok(());
            } else {
                return self.expected("'nest' or 'buffer'");
            }
        }
    }

    /// `role %name: type`, new or the same as before.
    fn global(&mut self) -> Result<(String, BufId), ParseError> {
        let role = match self.peek() {
            Tok::Ident(i) if i == "in" => Role::In,
            Tok::Ident(i) if i == "out" => Role::Out,
            Tok::Ident(i) if i == "const" => Role::Const,
            Tok::Ident(i) if i == "temp" => Role::Temp,
            _ => return self.expected("one of 'in', 'out', 'const' and 'temp'"),
        };
        self.advance();
        let at = self.at;
        let buffer = self.declaration(role)?;
        let name = buffer.name.clone();
        let id = match self.globals.get(&name) {
            None => {
                let id = self.program.add_buffer(buffer);
                self.globals.insert(name.clone(), id);
                id
            }
            Some(&id) => {
                let before = self.program.buf(id);
                if *before != buffer {
                    let before = format!("{} {}", before.role.name(), self.program.show_buffer(before));
                    self.at = at;
                    return self.error(format!("this differs from the earlier declaration '{before}'"));
                }
                id
            }
        };
        Ok((name, id))
    }

    /// `%name: f32[2,3] layout(1,0) panel(1,16) interleave(0,4) halo(0:0,1:1 = 0.0)`.
    fn declaration(&mut self, role: Role) -> Result<Buffer, ParseError> {
        let Tok::Buf(name) = self.peek().clone() else { return self.expected("a buffer, such as %x") };
        self.advance();
        self.expect(":")?;
        let dtype = match self.peek() {
            Tok::Ident(i) => DType::from_name(i),
            _ => None,
        };
        let Some(dtype) = dtype else { return self.expected("an element type, such as f32") };
        self.advance();
        let shape = if self.eat("[") { self.list("]", Parser::size)? } else { Vec::new() };
        let mut buffer = Buffer::new(name, dtype, &shape, role);
        if self.eat_ident("layout") {
            self.expect("(")?;
            buffer.layout = Layout::ordered(self.list(")", Parser::size)?);
        }
        if self.eat_ident("panel") {
            buffer.layout.panel = Some(self.cut()?);
        }
        if self.eat_ident("interleave") {
            buffer.layout.interleave = Some(self.cut()?);
        }
        if self.eat_ident("halo") {
            self.expect("(")?;
            buffer.halo = self.list("=", |s| {
                let before = s.size()?;
                s.expect(":")?;
                Ok((before, s.size()?))
            })?;
            buffer.halo_fill = self.needed_literal()?;
            self.expect(")")?;
        }
        Ok(buffer)
    }

    /// `(dim,block)`.
    fn cut(&mut self) -> Result<(usize, usize), ParseError> {
        self.expect("(")?;
        let dim = self.size()?;
        self.expect(",")?;
        let block = self.size()?;
        self.expect(")")?;
        Ok((dim, block))
    }

    fn needed_literal(&mut self) -> Result<Scalar, ParseError> {
        match self.literal()? {
            Some(scalar) => Ok(scalar),
            None => self.expected("a literal"),
        }
    }

    fn nest(&mut self) -> Result<(), ParseError> {
        let Tok::Nest(name) = self.peek().clone() else {
            return self.expected("a nest's name, such as @dense");
        };
        if !self.nests.insert(name.clone()) {
            return self.error(format!("there is already a nest @{name}"));
        }
        self.advance();
        self.expect("(")?;
        self.bufs.clear();
        let signature = self.list(")", |s| {
            let at = s.at;
            let (name, id) = s.global()?;
            if s.bufs.iter().any(|(n, _)| *n == name) {
                s.at = at;
                return s.error(format!("%{name} is listed twice"));
            }
            s.bufs.push((name, id));
            Ok(())
        })?;
        let mut ops = Vec::new();
        if self.eat_ident("ops") {
            self.expect("(")?;
            ops = self.list(")", Parser::string)?;
        }
        let body = self.block()?;
        debug_assert_eq!(self.bufs.len(), signature.len(), "a block ends with the scope it began with");
        self.program.nests.push(Nest { name, body, ops });
        Ok(())
    }

    fn block(&mut self) -> Result<Vec<Stmt>, ParseError> {
        self.expect("{")?;
        let in_scope = self.bufs.len();
        let mut body = Vec::new();
        while !self.eat("}") {
            body.push(self.nested(Parser::stmt)?);
        }
        self.bufs.truncate(in_scope);
        Ok(body)
    }

    fn stmt(&mut self) -> Result<Stmt, ParseError> {
        if self.eat_ident("for") {
            return self.for_loop();
        }
        if self.eat_ident("temp") {
            let at = self.at;
            let buffer = self.declaration(Role::Local)?;
            let name = buffer.name.clone();
            if self.bufs.iter().any(|(n, _)| *n == name) {
                self.at = at;
                return self.error(format!("%{name} is already declared"));
            }
            let id = self.program.add_buffer(buffer);
            self.bufs.push((name, id));
            return Ok(Stmt::Temp(id));
        }
        if self.eat_ident("call") {
            return self.call();
        }
        if !matches!(self.peek(), Tok::Buf(_)) {
            return self.expected("a statement or '}'");
        }
        let buf = self.buf_use()?;
        let (index, _) = self.index_list()?;
        let Some(op) = self.assignment() else {
            return self.expected("one of '=', '+=', '*=', 'max=' and 'min='");
        };
        let value = self.expr()?;
        Ok(match op {
            None => Stmt::Store(Store { buf, index, value }),
            Some(op) => Stmt::Reduce(Reduce { op, buf, index, value }),
        })
    }

    /// `=`, or the operation of a reduction.
    fn assignment(&mut self) -> Option<Option<ReduceOp>> {
        let (op, length) = match (self.peek(), self.peek_at(1)) {
            (Tok::Punct("="), _) => (None, 1),
            (Tok::Punct("+="), _) => (Some(ReduceOp::Add), 1),
            (Tok::Punct("*="), _) => (Some(ReduceOp::Mul), 1),
            (Tok::Ident(i), Tok::Punct("=")) if i == "max" => (Some(ReduceOp::Max), 2),
            (Tok::Ident(i), Tok::Punct("=")) if i == "min" => (Some(ReduceOp::Min), 2),
            _ => return None,
        };
        self.skip(length);
        Some(op)
    }

    fn for_loop(&mut self) -> Result<Stmt, ParseError> {
        let Tok::Ident(name) = self.peek().clone() else { return self.expected("a loop variable") };
        if self.vars.iter().any(|(n, _)| *n == name) {
            return self.error(format!("a loop around this one already binds '{name}'"));
        }
        self.advance();
        self.expect("<")?;
        let extent = self.size()?;
        let parts = if self.eat_ident("in") { Some(self.parts()?) } else { None };
        let parallel = LoopKind::Parallel(parts);
        let kind = match self.peek() {
            Tok::Ident(i) if i == parallel.name() => parallel,
            _ if parts.is_some() => return self.expected("'parallel'"),
            Tok::Punct("{") => LoopKind::Serial,
            Tok::Ident(i) if i == LoopKind::Vector.name() => LoopKind::Vector,
            Tok::Ident(i) if i == LoopKind::Unrolled.name() => LoopKind::Unrolled,
            _ => return self.expected("'{', 'parallel', 'vector' or 'unrolled'"),
        };
        self.skip(usize::from(kind != LoopKind::Serial));
        let var = self.program.add_var(name.clone());
        self.vars.push((name, var));
        let body = self.block()?;
        self.vars.pop();
        Ok(Stmt::For(For { var, extent, kind, body }))
    }

    /// The number of parts of a parallel loop.
    fn parts(&mut self) -> Result<NonZeroU32, ParseError> {
        let wrong = self.error("a loop is cut into 1 to 4294967295 parts");
        let parts = self.size()?;
        u32::try_from(parts).ok().and_then(NonZeroU32::new).map_or(wrong, Ok)
    }

    fn call(&mut self) -> Result<Stmt, ParseError> {
        let (Tok::Ident(function) | Tok::Str(function)) = self.peek().clone() else {
            return self.expected("a function's name");
        };
        self.advance();
        self.expect("(")?;
        let inputs = self.list(")", Parser::buf_use)?;
        self.expect("->")?;
        self.expect("(")?;
        let outputs = self.list(")", Parser::buf_use)?;
        let mut attrs = Vec::new();
        if self.eat_ident("attrs") {
            self.expect("(")?;
            attrs = self.list(")", |s| {
                let negative = s.eat("-");
                s.signed(negative)
            })?;
        }
        Ok(Stmt::Call(Call { function, inputs, outputs, attrs }))
    }

    /// A buffer in scope.
    fn buf_use(&mut self) -> Result<BufId, ParseError> {
        let Tok::Buf(name) = self.peek() else { return self.expected("a buffer, such as %x") };
        match self.bufs.iter().rev().find(|(n, _)| n == name) {
            Some(&(_, id)) => {
                self.advance();
                Ok(id)
            }
            None => self.error(format!("%{name} is neither in the nest's signature nor a temp in scope")),
        }
    }

    /// A loop variable in scope.
    fn var_use(&mut self) -> Result<Var, ParseError> {
        let Tok::Ident(name) = self.peek() else { return self.expected("a loop variable") };
        match self.vars.iter().rev().find(|(n, _)| n == name) {
            Some(&(_, var)) => {
                self.advance();
                Ok(var)
            }
            None => self.error(format!("no loop around this binds '{name}'")),
        }
    }
}
