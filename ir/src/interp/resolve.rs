//! Turns statements and expressions into closures: names become positions, types are checked once.
//!
//! Variables live in a vector indexed by [`Var`], so inner loops neither hash nor allocate. An access whose
//! indices are within bounds for every value of the surrounding loops' variables is checked here once and
//! then only adds up one offset; every other access checks each index each time.

use std::sync::Arc;

use super::dot::Dot;
use super::scalar::{Element, with_element};
use super::value::{Stored, Undefined, Value};
use super::{Calls, InterpError, Mode};
use crate::affine::Affine;
use crate::nest::{BufId, Buffer, Call, Expr, For, Index, Load, Nest, Program, Stmt};
use crate::ops::ReduceOp;
use crate::types::DType;
use crate::visit::Extents;

/// The values of all variables and buffers.
pub(super) struct State {
    pub vars: Vec<i64>,
    pub bufs: Vec<Value>,
}

pub(super) type Result<T> = std::result::Result<T, Box<InterpError>>;
pub(super) type Eval<T> = Box<dyn Fn(&State) -> Result<T>>;
/// A statement, ready to run.
pub(super) type Step<'a> = Box<dyn Fn(&mut State) -> Result<()> + 'a>;

/// An expression of one of the types.
enum Code {
    F32(Eval<f32>),
    F64(Eval<f64>),
    F16(Eval<half::f16>),
    BF16(Eval<half::bf16>),
    I64(Eval<i64>),
    I32(Eval<i32>),
    I8(Eval<i8>),
    U8(Eval<u8>),
    I16(Eval<i16>),
    U16(Eval<u16>),
    U32(Eval<u32>),
    U64(Eval<u64>),
    Bool(Eval<bool>),
}

/// Wrapping and unwrapping of [`Code`].
trait Typed: Stored {
    fn code(eval: Eval<Self>) -> Code;
    fn eval(code: Code) -> std::result::Result<Eval<Self>, DType>;
}

macro_rules! typed {
    ($($t:ty, $variant:ident;)*) => {
        $(impl Typed for $t {
            fn code(eval: Eval<$t>) -> Code {
                Code::$variant(eval)
            }
            fn eval(code: Code) -> std::result::Result<Eval<$t>, DType> {
                if let Code::$variant(eval) = code { Ok(eval) } else { Err(code.dtype()) }
            }
        })*
        impl Code {
            fn dtype(&self) -> DType {
                match self {
                    $(Code::$variant(_) => DType::$variant,)*
                }
            }
        }
        /// Evaluates `$body` with `$x` bound to the closure inside `$code`, whatever its type.
        macro_rules! with_code {
            ($code:expr, $x:ident => $body:expr) => {
                match $code {
                    $(Code::$variant($x) => $body,)*
                }
            };
        }
    };
}
typed! { f32, F32; f64, F64; half::f16, F16; half::bf16, BF16; i64, I64; i32, I32; i8, I8; u8, U8; i16, I16; u16, U16; u32, U32; u64, U64; bool, Bool; }

/// Turns a nest into steps.
pub(super) fn nest<'a>(
    program: &'a Program,
    nest: &'a Nest,
    mode: Mode,
    calls: &'a Calls<'a>,
    undefined: Undefined,
) -> std::result::Result<Vec<Step<'a>>, InterpError> {
    Resolver { program, nest, mode, calls, undefined, extents: Extents::of(&nest.body) }
        .block(&nest.body)
        .map_err(|e| *e)
}

/// What is known while a nest is being resolved.
pub(super) struct Resolver<'a> {
    pub program: &'a Program,
    pub nest: &'a Nest,
    pub mode: Mode,
    pub calls: &'a Calls<'a>,
    pub undefined: Undefined,
    pub extents: Extents,
}

/// An affine expression with its variables as positions in [`State::vars`].
pub(super) struct Sum {
    terms: Box<[(usize, i64)]>,
    constant: i64,
}

impl Sum {
    pub(super) fn eval(&self, vars: &[i64]) -> i64 {
        self.terms.iter().fold(self.constant, |acc, &(v, c)| acc.wrapping_add(c.wrapping_mul(vars[v])))
    }
}

pub(super) enum IndexCode {
    Affine(Sum),
    Value(Eval<i64>),
}

/// Where an access goes.
pub(super) struct Place {
    buf: usize,
    pub at: Position,
    nest: String,
    pub buffer: String,
    pub shape: Vec<usize>,
}

pub(super) enum Position {
    /// Proven to lie inside: the row-major offset.
    Inside(Sum),
    /// One index per dimension, each to be checked.
    Checked(Vec<IndexCode>),
}

impl Place {
    /// The row-major offset; `None` if an index is out of bounds.
    pub(super) fn offset(&self, state: &State) -> Result<Option<usize>> {
        match &self.at {
            Position::Inside(sum) => Ok(usize::try_from(sum.eval(&state.vars)).ok()),
            Position::Checked(index) => {
                let (mut offset, mut inside) = (0usize, true);
                for (i, &extent) in index.iter().zip(&self.shape) {
                    match usize::try_from(i.eval(state)?) {
                        Ok(i) if i < extent => offset = offset * extent + i,
                        _ => inside = false,
                    }
                }
                Ok(inside.then_some(offset))
            }
        }
    }

    #[cold]
    pub(super) fn out_of_bounds(&self, state: &State) -> Box<InterpError> {
        let index = match &self.at {
            Position::Inside(sum) => vec![sum.eval(&state.vars)],
            Position::Checked(index) => index.iter().map_while(|i| i.eval(state).ok()).collect(),
        };
        Box::new(InterpError::OutOfBounds {
            nest: self.nest.clone(),
            buffer: self.buffer.clone(),
            index,
            shape: self.shape.clone(),
        })
    }
}

impl IndexCode {
    fn eval(&self, state: &State) -> Result<i64> {
        match self {
            IndexCode::Affine(sum) => Ok(sum.eval(&state.vars)),
            IndexCode::Value(eval) => eval(state),
        }
    }
}

fn read<T: Stored>(state: &State, place: &Place, offset: usize) -> Result<T> {
    T::slice(&state.bufs[place.buf].data)
        .and_then(|s| s.get(offset))
        .copied()
        .ok_or_else(|| place.out_of_bounds(state))
}

fn write<T: Stored>(state: &mut State, place: &Place, offset: usize, f: impl FnOnce(T) -> T) -> Result<()> {
    match T::slice_mut(&mut state.bufs[place.buf].data).and_then(|s| s.get_mut(offset)) {
        Some(element) => {
            *element = f(*element);
            Ok(())
        }
        None => Err(place.out_of_bounds(state)),
    }
}

impl<'a> Resolver<'a> {
    pub(super) fn malformed<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(Box::new(InterpError::Malformed { nest: self.nest.name.clone(), message: message.into() }))
    }

    fn block(&self, body: &'a [Stmt]) -> Result<Vec<Step<'a>>> {
        body.iter().map(|s| self.stmt(s)).collect()
    }

    fn stmt(&self, stmt: &'a Stmt) -> Result<Step<'a>> {
        match stmt {
            Stmt::For(l) => self.for_loop(l),
            Stmt::Store(s) => self.update(s.buf, &s.index, &s.value, None),
            Stmt::Reduce(r) => self.update(r.buf, &r.index, &r.value, Some(r.op)),
            Stmt::Temp(id) => {
                self.buffer(*id)?;
                let (buf, undefined) = (id.0 as usize, self.undefined);
                Ok(Box::new(move |state| {
                    state.bufs[buf].data.poison(undefined);
                    Ok(())
                }))
            }
            Stmt::Call(call) => self.call(call),
        }
    }

    fn for_loop(&self, l: &'a For) -> Result<Step<'a>> {
        let var = l.var.0 as usize;
        if var >= self.program.vars.len() {
            return self.malformed(format!("variable {var} does not exist"));
        }
        let (extent, body) = (l.extent as i64, self.block(&l.body)?);
        if let Some(dot) = Dot::<f32>::new(self, l) {
            return self.dot(dot);
        }
        if let Some(dot) = Dot::<f64>::new(self, l) {
            return self.dot(dot);
        }
        Ok(Box::new(move |state| {
            for i in 0..extent {
                state.vars[var] = i;
                for step in &body {
                    step(state)?;
                }
            }
            Ok(())
        }))
    }

    fn dot<T>(&self, dot: Dot<T>) -> Result<Step<'a>>
    where
        T: Stored + std::ops::Add<Output = T> + std::ops::Mul<Output = T>,
    {
        let nest = &self.nest.name;
        Ok(Box::new(move |state| {
            dot.run(state).ok_or_else(|| {
                let message = "an access that was proven to be inside is not".to_owned();
                Box::new(InterpError::Malformed { nest: nest.clone(), message })
            })
        }))
    }

    /// `buf[index] = value`, or `buf[index] = op(buf[index], value)`.
    fn update(&self, buf: BufId, index: &[Index], value: &Expr, op: Option<ReduceOp>) -> Result<Step<'a>> {
        fn step<T: Stored>(place: Place, value: Eval<T>, op: Option<ReduceOp>) -> Step<'static> {
            let combine = op.map(T::reduce);
            Box::new(move |state| {
                let value = value(state)?;
                let offset = place.offset(state)?.ok_or_else(|| place.out_of_bounds(state))?;
                match combine {
                    None => write(state, &place, offset, |_| value),
                    Some(combine) => write(state, &place, offset, |old| combine(old, value)),
                }
            })
        }
        let place = self.place(buf, index)?;
        let value = self.expr(value)?;
        let dtype = self.mode.held(self.buffer(buf)?.dtype);
        if value.dtype() != dtype {
            return self.malformed(format!(
                "a value of type {} is stored into %{} of type {dtype}",
                value.dtype(),
                place.buffer
            ));
        }
        Ok(with_code!(value, v => step(place, v, op)))
    }

    pub(super) fn call(&self, call: &'a Call) -> Result<Step<'a>> {
        for &b in call.inputs.iter().chain(&call.outputs) {
            self.buffer(b)?;
        }
        let (program, nest, mode, calls) = (self.program, self.nest, self.mode, self.calls);
        Ok(Box::new(move |state| {
            let failed = |message| {
                Box::new(InterpError::Call {
                    nest: nest.name.clone(),
                    function: call.function.clone(),
                    message,
                })
            };
            let inputs: Vec<&Value> = call.inputs.iter().map(|b| &state.bufs[b.0 as usize]).collect();
            let outputs = calls(call, &inputs).map_err(failed)?;
            if outputs.len() != call.outputs.len() {
                return Err(failed(format!("{} outputs instead of {}", outputs.len(), call.outputs.len())));
            }
            for (&id, value) in call.outputs.iter().zip(outputs) {
                let buffer = program.buf(id);
                let dtype = mode.held(buffer.dtype);
                let fits = value.dtype() == dtype || value.dtype() == buffer.dtype;
                if !fits || value.shape != buffer.shape || value.len() != buffer.len() {
                    return Err(failed(format!(
                        "output %{} is {}{:?} instead of {dtype}{:?}",
                        buffer.name,
                        value.dtype(),
                        value.shape,
                        buffer.shape
                    )));
                }
                state.bufs[id.0 as usize] = if value.dtype() == dtype { value } else { value.cast(dtype) };
            }
            Ok(())
        }))
    }

    pub(super) fn buffer(&self, id: BufId) -> Result<&'a Buffer> {
        match self.program.buffers.get(id.0 as usize) {
            Some(b) => Ok(b),
            None => self.malformed(format!("buffer {} does not exist", id.0)),
        }
    }

    pub(super) fn sum(&self, affine: &Affine) -> Result<Sum> {
        match affine.vars().find(|&v| self.extents.get(v).is_none()) {
            Some(v) => self.malformed(format!("variable {} is not bound by a loop", v.0)),
            None if affine.is_overflow() => self.malformed("an index overflows"),
            None => Ok(Sum {
                terms: affine.terms().iter().map(|&(v, c)| (v.0 as usize, c)).collect(),
                constant: affine.offset(),
            }),
        }
    }

    pub(super) fn place(&self, buf: BufId, index: &[Index]) -> Result<Place> {
        let buffer = self.buffer(buf)?;
        if index.len() != buffer.shape.len() {
            return self.malformed(format!(
                "%{} has {} dimensions but is accessed with {} indices",
                buffer.name,
                buffer.shape.len(),
                index.len()
            ));
        }
        let at = match self.inside(buffer, index) {
            Some(offset) => Position::Inside(self.sum(&offset)?),
            None => Position::Checked(index.iter().map(|i| self.index(i)).collect::<Result<_>>()?),
        };
        Ok(Place {
            buf: buf.0 as usize,
            at,
            nest: self.nest.name.clone(),
            buffer: buffer.name.clone(),
            shape: buffer.shape.clone(),
        })
    }

    /// The row-major offset, if every index is within bounds whenever the access is executed.
    pub(super) fn inside(&self, buffer: &Buffer, index: &[Index]) -> Option<Affine> {
        let mut offset = Affine::constant(0);
        for (i, &extent) in index.iter().zip(&buffer.shape) {
            let i = i.as_affine()?;
            let (lo, hi) = self.extents.range(i)?;
            if lo < 0 || usize::try_from(hi).ok()? >= extent {
                return None;
            }
            offset = Affine::add(&offset.scale(i64::try_from(extent).ok()?), i);
        }
        (!offset.is_overflow()).then_some(offset)
    }

    fn index(&self, index: &Index) -> Result<IndexCode> {
        match index {
            Index::Affine(a) => Ok(IndexCode::Affine(self.sum(a)?)),
            Index::Value(e) => Ok(IndexCode::Value(self.typed::<i64>(e, "an index")?)),
        }
    }

    fn load<T: Stored>(&self, load: &Load, otherwise: Option<Eval<T>>) -> Result<Eval<T>> {
        let place = self.place(load.buf, &load.index)?;
        Ok(Box::new(move |state| match (place.offset(state)?, &otherwise) {
            (Some(offset), _) => read(state, &place, offset),
            (None, Some(otherwise)) => otherwise(state),
            (None, None) => Err(place.out_of_bounds(state)),
        }))
    }

    /// An expression that must have type `T`.
    fn typed<T: Typed>(&self, expr: &Expr, what: &str) -> Result<Eval<T>> {
        T::eval(self.expr(expr)?)
            .or_else(|found| self.malformed(format!("{what} of type {found} where {} is needed", T::DTYPE)))
    }

    fn expr(&self, expr: &Expr) -> Result<Code> {
        match expr {
            Expr::Const(s) => {
                let s = *s;
                with_element!(self.mode.held(s.dtype()), T => {
                    let value = T::cast_from(s);
                    Ok(T::code(Box::new(move |_| Ok(value))))
                })
            }
            Expr::Load(l) => with_element!(self.mode.held(self.buffer(l.buf)?.dtype), T => {
                let otherwise = l.otherwise.as_ref().map(|e| self.typed::<T>(e, "'otherwise'")).transpose()?;
                Ok(T::code(self.load(l, otherwise)?))
            }),
            Expr::Index(a) => {
                let sum = self.sum(a)?;
                Ok(Code::I64(Box::new(move |state| Ok(sum.eval(&state.vars)))))
            }
            Expr::Unary(op, a) => {
                fn unary<T: Typed>(op: crate::UnOp, a: Eval<T>) -> Option<Code> {
                    if let Some(f) = T::unary(op) {
                        return Some(T::code(Box::new(move |state| Ok(f(a(state)?)))));
                    }
                    let f = T::predicate(op)?;
                    Some(Code::Bool(Box::new(move |state| Ok(f(a(state)?)))))
                }
                let a = self.expr(a)?;
                let dtype = a.dtype();
                match with_code!(a, a => unary(*op, a)) {
                    Some(code) => Ok(code),
                    None => self.malformed(format!("'{}' is not defined on {dtype}", op.name())),
                }
            }
            Expr::Binary(op, a, b) => {
                fn binary<T: Typed>(op: crate::BinOp, a: Eval<T>, b: Eval<T>) -> Option<Code> {
                    if let Some(f) = T::binary(op) {
                        return Some(T::code(Box::new(move |state| Ok(f(a(state)?, b(state)?)))));
                    }
                    let f = T::compare(op)?;
                    Some(Code::Bool(Box::new(move |state| Ok(f(a(state)?, b(state)?)))))
                }
                let a = self.expr(a)?;
                let dtype = a.dtype();
                match with_code!(a, a => binary(*op, a, self.typed(b, "an operand")?)) {
                    Some(code) => Ok(code),
                    None => self.malformed(format!("'{}' is not defined on {dtype}", op.name())),
                }
            }
            Expr::Select(c, a, b) => {
                fn select<T: Typed>(c: Eval<bool>, a: Eval<T>, b: Eval<T>) -> Code {
                    T::code(Box::new(move |state| {
                        let (c, a, b) = (c(state)?, a(state)?, b(state)?);
                        Ok(if c { a } else { b })
                    }))
                }
                let c = self.typed(c, "a condition")?;
                let a = self.expr(a)?;
                Ok(with_code!(a, a => select(c, a, self.typed(b, "an operand")?)))
            }
            Expr::Cast(to, a) => {
                fn cast<T: Typed, U: Typed>(a: Eval<T>) -> Code {
                    U::code(Box::new(move |state| Ok(U::cast_from(a(state)?.scalar()))))
                }
                let a = self.expr(a)?;
                Ok(with_code!(a, a => with_element!(self.mode.held(*to), U => cast::<_, U>(a))))
            }
            Expr::Check(c) => {
                let value = self.typed::<i64>(&c.value, "a checked value")?;
                let (range, site) = ((c.low, c.high), Arc::clone(&c.site));
                Ok(Code::I64(Box::new(move |state| {
                    let value = value(state)?;
                    match (range.0..range.1).contains(&value) {
                        true => Ok(value),
                        false => {
                            Err(Box::new(InterpError::OutOfRange { site: Arc::clone(&site), value, range }))
                        }
                    }
                })))
            }
        }
    }
}
