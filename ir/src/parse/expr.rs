//! Parses expressions, indices and literals.

use std::sync::Arc;

use half::{bf16, f16};

use super::lex::Tok;
use super::{ParseError, Parser};
use crate::affine::Affine;
use crate::check::{Check, CheckKind, Site};
use crate::nest::{Expr, Index, Load};
use crate::ops::{BinOp, UnOp};
use crate::print::precedence;
use crate::types::{DType, Scalar};

/// How deep expressions and loops may nest: deep enough for any chain of operations worth fusing, and shallow
/// enough that recursive walks fit into a small stack.
pub(super) const MAX_DEPTH: usize = 1000;

/// An expression and the height of its tree.
type Tree = (Expr, usize);

impl Parser {
    pub(super) fn expr(&mut self) -> Result<Expr, ParseError> {
        Ok(self.binary(1)?.0)
    }

    fn grow(&self, height: usize) -> Result<usize, ParseError> {
        if height >= MAX_DEPTH {
            return self.error(format!("this expression is more than {MAX_DEPTH} operations deep"));
        }
        Ok(height + 1)
    }

    /// Infix operators that bind at least as strongly as `min`.
    fn binary(&mut self, min: u8) -> Result<Tree, ParseError> {
        let (mut left, mut height) = self.primary()?;
        let mut compared = false;
        while let Tok::Punct(p) = self.peek() {
            let Some(op) = BinOp::ALL.into_iter().find(|op| op.name() == *p) else { break };
            let Some(level) = precedence(op).filter(|&level| level >= min) else { break };
            if op.is_comparison() && compared {
                return self.error("comparisons do not associate: use parentheses");
            }
            compared = op.is_comparison();
            self.advance();
            let (right, right_height) = self.binary(level + 1)?;
            height = self.grow(height.max(right_height))?;
            left = left.binary(op, right);
        }
        Ok((left, height))
    }

    fn primary(&mut self) -> Result<Tree, ParseError> {
        self.nested(|s| s.primary_unlimited())
    }

    fn primary_unlimited(&mut self) -> Result<Tree, ParseError> {
        if let Some(scalar) = self.literal()? {
            return Ok((Expr::Const(scalar), 1));
        }
        match self.peek().clone() {
            Tok::Punct("-") => {
                self.advance();
                let (operand, height) = self.primary()?;
                Ok((operand.unary(UnOp::Neg), self.grow(height)?))
            }
            Tok::Punct("(") => {
                self.advance();
                let (inner, height) = self.binary(1)?;
                if !matches!(self.peek(), Tok::Ident(i) if i == "else") {
                    self.expect(")")?;
                    return Ok((inner, height));
                }
                let Expr::Load(mut load @ Load { otherwise: None, .. }) = inner else {
                    return self.error("only a load can have an 'else', and only one");
                };
                self.advance();
                let (otherwise, other) = self.binary(1)?;
                self.expect(")")?;
                load.otherwise = Some(Box::new(otherwise));
                Ok((Expr::Load(load), self.grow(height.max(other))?))
            }
            Tok::Buf(_) => {
                let buf = self.buf_use()?;
                let (index, height) = self.index_list()?;
                Ok((Expr::load(buf, index), self.grow(height)?))
            }
            Tok::Ident(name) => self.call_like(&name),
            _ => self.expected("an expression"),
        }
    }

    /// `name(...)`: an operation, conversion, selection or index.
    fn call_like(&mut self, name: &str) -> Result<Tree, ParseError> {
        let unary = UnOp::ALL.into_iter().find(|op| op.name() == name);
        let binary = BinOp::ALL.into_iter().find(|op| op.name() == name);
        let cast = DType::from_name(name);
        if unary.is_none()
            && binary.is_none()
            && cast.is_none()
            && !matches!(name, "select" | "idx" | "check")
        {
            return self.error(format!("there is no function '{name}'"));
        }
        self.advance();
        self.expect("(")?;
        if name == "idx" {
            let affine = self.affine()?;
            self.expect(")")?;
            return Ok((Expr::Index(affine), 1));
        }
        let (a, mut height) = self.binary(1)?;
        if name == "check" {
            let check = self.check(a)?;
            self.expect(")")?;
            return Ok((Expr::Check(Box::new(check)), self.grow(height)?));
        }
        let mut more = |s: &mut Parser| {
            s.expect(",")?;
            let (e, h) = s.binary(1)?;
            height = height.max(h);
            Ok(e)
        };
        let result = if let Some(op) = unary {
            a.unary(op)
        } else if let Some(op) = binary {
            a.binary(op, more(self)?)
        } else if let Some(dtype) = cast {
            a.cast(dtype)
        } else {
            let (b, c) = (more(self)?, more(self)?);
            a.select(b, c)
        };
        self.expect(")")?;
        Ok((result, self.grow(height)?))
    }

    /// `, low, high, kind, "node", "op", "input"`: what follows the value of a check.
    fn check(&mut self, value: Expr) -> Result<Check, ParseError> {
        let bound = |s: &mut Parser| {
            s.expect(",")?;
            let negative = s.eat("-");
            s.signed(negative)
        };
        let (low, high) = (bound(self)?, bound(self)?);
        self.expect(",")?;
        let kind = match self.peek() {
            Tok::Ident(name) => CheckKind::ALL.into_iter().find(|kind| kind.name() == name),
            _ => None,
        };
        let Some(kind) = kind else {
            return self.expected("what is checked: index, index_from_end, length or position");
        };
        self.advance();
        let text = |s: &mut Parser| {
            s.expect(",")?;
            s.string()
        };
        let (node, op, input) = (text(self)?, text(self)?, text(self)?);
        Ok(Check { value, low, high, site: Arc::new(Site { node, op, input, kind }) })
    }

    /// `[index, ...]`, or nothing.
    pub(super) fn index_list(&mut self) -> Result<(Vec<Index>, usize), ParseError> {
        let (mut list, mut height) = (Vec::new(), 0);
        if self.eat("[") {
            loop {
                if self.eat("(") {
                    let (value, h) = self.binary(1)?;
                    self.expect(")")?;
                    height = height.max(h);
                    list.push(Index::Value(Box::new(value)));
                } else {
                    list.push(Index::Affine(self.affine()?));
                }
                if !self.eat(",") {
                    break;
                }
            }
            self.expect("]")?;
        }
        Ok((list, height))
    }

    /// `2*i + j - 1`.
    fn affine(&mut self) -> Result<Affine, ParseError> {
        let mut sum = Affine::constant(0);
        let mut negative = self.eat("-");
        loop {
            sum = Affine::add(&sum, &self.affine_term(negative)?);
            if self.eat("+") {
                negative = false;
            } else if self.eat("-") {
                negative = true;
            } else {
                return Ok(sum);
            }
        }
    }

    fn affine_term(&mut self, negative: bool) -> Result<Affine, ParseError> {
        match self.peek() {
            Tok::Number { .. } => {
                let factor = self.signed(negative)?;
                if !self.eat("*") {
                    return Ok(Affine::constant(factor));
                }
                Ok(Affine::term(self.var_use()?, factor))
            }
            Tok::Ident(_) => {
                let var = self.var_use()?;
                let factor = if self.eat("*") { self.signed(negative)? } else { 1 - 2 * i64::from(negative) };
                Ok(Affine::term(var, factor))
            }
            _ => self.expected("an index: a number, a loop variable, or an expression in parentheses"),
        }
    }

    /// A literal with its sign, if there is one here.
    pub(super) fn literal(&mut self) -> Result<Option<Scalar>, ParseError> {
        let negative = *self.peek() == Tok::Punct("-");
        let value = match self.peek_at(usize::from(negative)) {
            Tok::Number { digits, suffix } => (digits.clone(), suffix.clone()),
            Tok::Ident(name) => {
                let sign = |v: Scalar| match v {
                    Scalar::F32(v) if negative => Scalar::F32(-v),
                    Scalar::F64(v) if negative => Scalar::F64(-v),
                    Scalar::F16(v) if negative => Scalar::F16(-v),
                    Scalar::BF16(v) if negative => Scalar::BF16(-v),
                    Scalar::F32(_) | Scalar::F64(_) | Scalar::F16(_) | Scalar::BF16(_) => v,
                    Scalar::I64(_) | Scalar::I32(_) | Scalar::I16(_) | Scalar::I8(_) => v,
                    Scalar::U64(_) | Scalar::U32(_) | Scalar::U16(_) | Scalar::U8(_) => v,
                    Scalar::Bool(_) => v,
                };
                let scalar = match name.as_str() {
                    "inf" => Scalar::F32(f32::INFINITY),
                    "nan" => Scalar::F32(f32::NAN),
                    "inf_f64" => Scalar::F64(f64::INFINITY),
                    "nan_f64" => Scalar::F64(f64::NAN),
                    "inf_f16" => Scalar::F16(f16::INFINITY),
                    "nan_f16" => Scalar::F16(f16::NAN),
                    "inf_bf16" => Scalar::BF16(bf16::INFINITY),
                    "nan_bf16" => Scalar::BF16(bf16::NAN),
                    "true" if !negative => Scalar::Bool(true),
                    "false" if !negative => Scalar::Bool(false),
                    "bits_f32" if !negative => return self.bits(DType::F32).map(Some),
                    "bits_f64" if !negative => return self.bits(DType::F64).map(Some),
                    "bits_f16" if !negative => return self.bits(DType::F16).map(Some),
                    "bits_bf16" if !negative => return self.bits(DType::BF16).map(Some),
                    _ => return Ok(None),
                };
                self.skip(1 + usize::from(negative));
                return Ok(Some(sign(scalar)));
            }
            _ => return Ok(None),
        };
        let (digits, suffix) = value;
        self.skip(usize::from(negative));
        let is_float = digits.contains(['.', 'e']) && !digits.starts_with("0x");
        let dtype = match suffix.as_str() {
            "" if is_float => Some(DType::F32),
            "" => {
                return self
                    .error(format!("the literal {digits} needs a fraction or a type, such as {digits}i64"));
            }
            name => DType::from_name(name),
        };
        let text = if negative { format!("-{digits}") } else { digits };
        let scalar = match dtype {
            Some(DType::F32) => text.parse().ok().map(Scalar::F32),
            Some(DType::F64) => text.parse().ok().map(Scalar::F64),
            Some(half @ (DType::F16 | DType::BF16)) => text.parse().ok().map(|v| Scalar::from_f64(half, v)),
            Some(DType::I64) => text.parse().ok().map(Scalar::I64),
            Some(DType::I32) => text.parse().ok().map(Scalar::I32),
            Some(DType::I8) => text.parse().ok().map(Scalar::I8),
            Some(DType::U8) => text.parse().ok().map(Scalar::U8),
            Some(DType::I16) => text.parse().ok().map(Scalar::I16),
            Some(DType::U16) => text.parse().ok().map(Scalar::U16),
            Some(DType::U32) => text.parse().ok().map(Scalar::U32),
            Some(DType::U64) => text.parse().ok().map(Scalar::U64),
            Some(DType::Bool) | None => return self.error(format!("there is no literal of type '{suffix}'")),
        };
        match scalar {
            Some(scalar) => {
                self.advance();
                Ok(Some(scalar))
            }
            None => self.error(format!("{text} is not a value of type {suffix}")),
        }
    }

    /// `bits_f32(0x7fc00001)`.
    fn bits(&mut self, dtype: DType) -> Result<Scalar, ParseError> {
        self.advance();
        self.expect("(")?;
        let Tok::Number { digits, suffix } = self.peek() else {
            return self.expected("a hexadecimal number");
        };
        let value = digits.strip_prefix("0x").and_then(|d| u64::from_str_radix(d, 16).ok());
        let scalar = value.filter(|_| suffix.is_empty()).and_then(|bits| match dtype {
            DType::F64 => Some(Scalar::F64(f64::from_bits(bits))),
            DType::F32 => u32::try_from(bits).ok().map(|b| Scalar::F32(f32::from_bits(b))),
            DType::F16 => u16::try_from(bits).ok().map(|b| Scalar::F16(f16::from_bits(b))),
            DType::BF16 => u16::try_from(bits).ok().map(|b| Scalar::BF16(bf16::from_bits(b))),
            DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::Bool => None,
            DType::U64 | DType::U32 | DType::U16 | DType::U8 => None,
        });
        let Some(scalar) = scalar else { return self.error(format!("these are not the bits of an {dtype}")) };
        self.advance();
        self.expect(")")?;
        Ok(scalar)
    }
}
