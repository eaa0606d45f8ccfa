//! Turns statements and expressions into closures that compute values with radii.
//!
//! As [`super::super::resolve`] does it, which finds positions and places here as well; but with one type of closure:
//! a [`Ball`] knows the type of its value.

use std::sync::Arc;

use super::ball::{self, Ball, Origin};
use super::dot::dot;
use super::precision;
use super::sum;
use super::{Radii, Rounded};
use crate::interp::dot::Dot;
use crate::interp::resolve::{self, IndexCode, Place, Position, Resolver, Result};
use crate::interp::value::{Undefined, Value};
use crate::interp::{Calls, InterpError, Mode};
use crate::nest::{BufId, Call, Expr, For, Index, Load, Nest, Program, Stmt};
use crate::ops::{BinOp, ReduceOp};
use crate::types::{DType, Scalar};
use crate::visit::Extents;

/// How many places an access whose index is uncertain may go to, before nothing is known of what it reads.
const MAX_PLACES: usize = 1024;

/// How many elements of a buffer are looked at for an access that may go anywhere.
const MAX_ELEMENTS: usize = 1 << 16;

/// The values of all variables and buffers, with radii.
pub(super) struct State {
    pub values: resolve::State,
    pub radii: Vec<Radii>,
    /// How many buffers have lived so far.
    pub lives: u32,
}

type Eval<'a> = Box<dyn Fn(&State) -> Result<Ball> + 'a>;
/// A statement, ready to run.
pub(super) type Step<'a> = Box<dyn Fn(&mut State) -> Result<()> + 'a>;

/// Turns a nest into steps.
pub(super) fn nest<'a>(
    program: &'a Program,
    nest: &'a Nest,
    calls: &'a Calls<'a>,
) -> std::result::Result<Vec<Step<'a>>, InterpError> {
    let (mode, undefined, extents) = (Mode::Exact, Undefined::Marked, Extents::of(&nest.body));
    let base = Resolver { program, nest, mode, calls, undefined, extents };
    Rounding { base }.block(&nest.body).map_err(|e| *e)
}

impl State {
    /// The element as it is held: a sum without what [`sum::settle`] adds.
    fn held(&self, buf: usize, at: usize) -> Option<Ball> {
        let value = self.values.bufs[buf].data.get(at)?;
        let radii = &self.radii[buf];
        let radius = radii.radius.get(at).map_or(0.0, |r| f64::from(*r));
        let ball = Ball { pending: (-radius).max(0.0), ..Ball::new(value, radius.max(0.0)) };
        let picked = radii.picked.get(at).copied().filter(|id| *id != 0);
        let id = picked.unwrap_or_else(|| self.place(buf, at));
        let ball = Ball { origin: Some(Origin { id, is_picked: picked.is_some() }), ..ball };
        match radii.magnitude.get(at) {
            Some(&magnitude) if magnitude != 0.0 => Some(Ball { magnitude, ..ball }),
            _ => Some(ball),
        }
    }

    /// A number for an element, as long as its buffer lives.
    fn place(&self, buf: usize, at: usize) -> u64 {
        (u64::from(self.radii[buf].life) << 32) | (at as u64 & u64::from(u32::MAX))
    }

    /// The element as operands read it.
    fn element(&self, buf: usize, at: usize) -> Option<Ball> {
        let ball = self.held(buf, at)?;
        let is_sum = self.radii[buf].magnitude.get(at).is_some_and(|magnitude| *magnitude != 0.0);
        Some(if is_sum { Ball { origin: ball.origin, ..sum::settle(ball) } } else { ball })
    }

    /// Writes an element; `is_sum` if more terms may be added to it.
    fn set(&mut self, buf: usize, at: usize, ball: Ball, is_sum: bool) -> Option<()> {
        let data = &mut self.values.bufs[buf].data;
        data.set(at, ball.value)?;
        let (n, radii) = (data.len(), &mut self.radii[buf]);
        let uncertain = ball.radius > 0.0 || ball.pending > 0.0;
        if uncertain && radii.radius.is_empty() {
            radii.radius = vec![0.0; n];
        }
        if let Some(radius) = radii.radius.get_mut(at) {
            let held = precision::held_radius(ball.operand().radius);
            *radius = if ball.radius > 0.0 { held } else { -held };
        }
        let picked = ball.origin.filter(|origin| origin.is_picked).map_or(0, |origin| origin.id);
        if picked != 0 && radii.picked.is_empty() {
            radii.picked = vec![0; n];
        }
        if let Some(place) = radii.picked.get_mut(at) {
            *place = picked;
        }
        if is_sum && radii.magnitude.is_empty() {
            radii.magnitude = vec![0.0; n];
        }
        if let Some(magnitude) = radii.magnitude.get_mut(at) {
            *magnitude = if is_sum { ball.magnitude } else { 0.0 };
        }
        Some(())
    }

    fn forget(&mut self, buf: usize) {
        self.values.bufs[buf].data.poison(Undefined::Marked);
        self.lives = self.lives.wrapping_add(1);
        self.radii[buf] = Radii { life: self.lives, ..Radii::default() };
    }

    /// A buffer that nothing reads any more.
    pub fn take(&mut self, id: BufId) -> Rounded {
        let buf = id.0 as usize;
        let n = self.values.bufs[buf].len();
        let radii = &self.radii[buf];
        // A half is rounded in any case. What is pending matters to what reads it.
        let is_half = self.values.bufs[buf].data.dtype().is_half();
        let own = |ball: Ball| if is_half { ball.radius } else { ball.operand().radius };
        let radius = if radii.radius.is_empty() && radii.magnitude.is_empty() {
            Vec::new()
        } else {
            (0..n)
                .map(|at| self.element(buf, at).map_or(0.0, |ball| precision::held_radius(own(ball))))
                .collect()
        };
        let nothing = Value { shape: Vec::new(), data: crate::interp::Data::Bool(Vec::new()) };
        let value = std::mem::replace(&mut self.values.bufs[buf], nothing);
        Rounded { value, radius }
    }
}

/// Where an access may go.
enum Places {
    /// To this element; to none of the buffer if it is `None`.
    One(Option<usize>),
    /// To this one, and with other roundings to these.
    Any(Option<usize>, Vec<Option<usize>>),
    /// To this one, and with other roundings anywhere.
    Anywhere(Option<usize>),
}

/// An index: an affine one, or a value.
enum At<'a> {
    Affine(resolve::Sum),
    Value(Eval<'a>),
}

struct Target<'a> {
    place: Place,
    /// The indices, if one of them is computed.
    computed: Option<Vec<At<'a>>>,
}

impl Target<'_> {
    fn places(&self, state: &State) -> Result<Places> {
        let Some(index) = &self.computed else {
            return Ok(Places::One(self.place.offset(&state.values)?));
        };
        let mut ranges = Vec::with_capacity(index.len());
        for i in index {
            let (value, radius) = match i {
                At::Affine(sum) => (sum.eval(&state.values.vars), 0.0),
                At::Value(eval) => {
                    let ball = eval(state)?;
                    (as_index(ball.value), ball.farthest().floor())
                }
            };
            ranges.push((value, radius));
        }
        let offset = |index: &[i64]| {
            index.iter().zip(&self.place.shape).try_fold(0usize, |offset, (i, extent)| {
                usize::try_from(*i).ok().filter(|i| i < extent).map(|i| offset * extent + i)
            })
        };
        let chosen: Vec<i64> = ranges.iter().map(|(i, _)| *i).collect();
        let here = offset(&chosen);
        // All indices outside of the buffer are alike.
        let around = |((i, radius), extent): (&(i64, f64), &usize)| {
            let (low, high) = (i.saturating_sub(*radius as i64), i.saturating_add(*radius as i64));
            low.max(-1)..=high.min(i64::try_from(*extent).unwrap_or(i64::MAX))
        };
        let ranges: Vec<_> = ranges.iter().zip(&self.place.shape).map(around).collect();
        let count = ranges.iter().fold(1usize, |n, range| n.saturating_mul(range.clone().count()));
        if count <= 1 {
            return Ok(Places::One(here));
        }
        if count > MAX_PLACES {
            return Ok(Places::Anywhere(here));
        }
        let mut all = vec![Vec::new()];
        for around in ranges {
            all = all
                .iter()
                .flat_map(|head: &Vec<i64>| around.clone().map(move |i| [head.as_slice(), &[i]].concat()))
                .collect();
        }
        Ok(Places::Any(here, all.iter().map(|index| offset(index)).collect()))
    }

    #[cold]
    fn out_of_bounds(&self, state: &State) -> Box<InterpError> {
        self.place.out_of_bounds(&state.values)
    }
}

/// Whether nothing was stored there yet; of types that are not floats nobody knows.
fn undefined(ball: Ball) -> bool {
    ball.value.as_f64().is_nan()
}

fn as_index(value: Scalar) -> i64 {
    let Scalar::I64(index) = crate::interp::eval_cast(DType::I64, value) else { return -1 };
    index
}

struct Rounding<'a> {
    base: Resolver<'a>,
}

impl<'a> Rounding<'a> {
    fn block(&self, body: &'a [Stmt]) -> Result<Vec<Step<'a>>> {
        body.iter().map(|s| self.stmt(s)).collect()
    }

    fn stmt(&self, stmt: &'a Stmt) -> Result<Step<'a>> {
        match stmt {
            Stmt::For(l) => self.for_loop(l),
            Stmt::Store(s) => self.update(s.buf, &s.index, &s.value, None),
            Stmt::Reduce(r) => self.update(r.buf, &r.index, &r.value, Some(r.op)),
            Stmt::Temp(id) => {
                self.base.buffer(*id)?;
                let buf = id.0 as usize;
                Ok(Box::new(move |state| {
                    state.forget(buf);
                    Ok(())
                }))
            }
            Stmt::Call(call) => self.call(call),
        }
    }

    fn for_loop(&self, l: &'a For) -> Result<Step<'a>> {
        let var = l.var.0 as usize;
        if var >= self.base.program.vars.len() {
            return self.base.malformed(format!("variable {var} does not exist"));
        }
        if let Some(sum) = Dot::<f32>::new(&self.base, l) {
            let nest = &self.base.nest.name;
            return Ok(Box::new(move |state| {
                dot(&sum, state).ok_or_else(|| {
                    let message = "an access that was proven to be inside is not".to_owned();
                    Box::new(InterpError::Malformed { nest: nest.clone(), message })
                })
            }));
        }
        let (extent, body) = (l.extent as i64, self.block(&l.body)?);
        Ok(Box::new(move |state| {
            for i in 0..extent {
                state.values.vars[var] = i;
                for step in &body {
                    step(state)?;
                }
            }
            Ok(())
        }))
    }

    fn update(
        &self,
        buf: BufId,
        index: &'a [Index],
        value: &'a Expr,
        op: Option<ReduceOp>,
    ) -> Result<Step<'a>> {
        let target = self.target(buf, index)?;
        let found = value.dtype(self.base.program);
        let dtype = self.base.buffer(buf)?.dtype;
        if found != dtype {
            let name = &target.place.buffer;
            return self
                .base
                .malformed(format!("a value of type {found} is stored into %{name} of type {dtype}"));
        }
        let value = self.expr(value)?;
        let (buf, is_sum) = (buf.0 as usize, op == Some(ReduceOp::Add) && dtype.is_float());
        let combine = move |old: Ball, new: Ball| match op {
            None => Some(new),
            Some(ReduceOp::Add) => sum::add(old, new),
            Some(ReduceOp::Mul) => ball::binary(BinOp::Mul, old, new),
            Some(ReduceOp::Max) => ball::binary(BinOp::Max, old, new),
            Some(ReduceOp::Min) => ball::binary(BinOp::Min, old, new),
        };
        // `bool` combines as the scalar operation of its type does.
        let combine = move |old: Ball, new: Ball| match (op, dtype) {
            (Some(ReduceOp::Add | ReduceOp::Max), DType::Bool) => ball::binary(BinOp::Or, old, new),
            (Some(ReduceOp::Mul | ReduceOp::Min), DType::Bool) => ball::binary(BinOp::And, old, new),
            _ => combine(old, new),
        };
        Ok(Box::new(move |state| {
            let new = value(state)?;
            let places = target.places(state)?;
            let (Places::One(at) | Places::Any(at, _) | Places::Anywhere(at)) = &places;
            let at = at.ok_or_else(|| target.out_of_bounds(state))?;
            let others: Vec<usize> = match &places {
                Places::One(_) => Vec::new(),
                Places::Any(_, list) => list.iter().flatten().copied().collect(),
                Places::Anywhere(_) => (0..state.values.bufs[buf].len()).collect(),
            };
            let missing = |state: &State| target.out_of_bounds(state);
            // What may be written somewhere else leaves what was there, or changes it there.
            for other in others {
                let old = state.held(buf, other).ok_or_else(|| missing(state))?;
                let changed = combine(old, new).ok_or_else(|| missing(state))?;
                let widened = if op.is_none() && undefined(old) {
                    changed
                } else {
                    Ball { radius: old.radius.max(old.reach(changed)), ..old }
                };
                state.set(buf, other, widened, is_sum).ok_or_else(|| missing(state))?;
            }
            let old = state.held(buf, at).ok_or_else(|| missing(state))?;
            let changed = combine(old, new).ok_or_else(|| missing(state))?;
            let uncertain = !matches!(places, Places::One(_));
            let stays = uncertain && !undefined(old);
            let radius = if stays { changed.radius.max(changed.reach(old)) } else { changed.radius };
            state.set(buf, at, Ball { radius, ..changed }, is_sum).ok_or_else(|| missing(state))
        }))
    }

    fn call(&self, call: &'a Call) -> Result<Step<'a>> {
        let run = self.base.call(call)?;
        Ok(Box::new(move |state| {
            run(&mut state.values)?;
            // The functions of programs move elements and do not compute.
            let radii = match (call.inputs.as_slice(), call.outputs.as_slice()) {
                ([x], [y]) => {
                    let (x, y) = (x.0 as usize, y.0 as usize);
                    let (from, to) = (&state.values.bufs[x], &state.values.bufs[y]);
                    (from.len() == to.len()).then(|| vec![(y, state.radii[x].clone())])
                }
                _ => None,
            };
            let unknown = || {
                let radii = |id: &BufId| {
                    let n = state.values.bufs[id.0 as usize].len();
                    (id.0 as usize, Radii { radius: vec![f32::INFINITY; n], ..Radii::default() })
                };
                call.outputs.iter().map(radii).collect()
            };
            for (buf, radii) in radii.unwrap_or_else(unknown) {
                state.lives = state.lives.wrapping_add(1);
                state.radii[buf] = Radii { life: state.lives, ..radii };
            }
            Ok(())
        }))
    }

    fn target(&self, buf: BufId, index: &'a [Index]) -> Result<Target<'a>> {
        let place = self.base.place(buf, index)?;
        let is_computed = match &place.at {
            Position::Inside(_) => false,
            Position::Checked(index) => index.iter().any(|i| matches!(i, IndexCode::Value(_))),
        };
        let at = |i: &'a Index| match i {
            Index::Affine(a) => Ok(At::Affine(self.base.sum(a)?)),
            Index::Value(e) => Ok(At::Value(self.expr(e)?)),
        };
        let computed = is_computed.then(|| index.iter().map(at).collect::<Result<_>>()).transpose()?;
        Ok(Target { place, computed })
    }

    fn load(&self, load: &'a Load) -> Result<Eval<'a>> {
        let target = self.target(load.buf, &load.index)?;
        let otherwise = load.otherwise.as_ref().map(|e| self.expr(e)).transpose()?;
        let buf = load.buf.0 as usize;
        let read = move |state: &State, at: Option<usize>| match (at, &otherwise) {
            (Some(at), _) => state.element(buf, at).map(Some).ok_or_else(|| target.out_of_bounds(state)),
            (None, Some(otherwise)) => otherwise(state).map(Some),
            (None, None) => Ok(None),
        };
        let target = self.target(load.buf, &load.index)?;
        Ok(Box::new(move |state| {
            let places = target.places(state)?;
            let (Places::One(at) | Places::Any(at, _) | Places::Anywhere(at)) = &places;
            let chosen = read(state, *at)?.ok_or_else(|| target.out_of_bounds(state))?;
            let mut radius = chosen.radius;
            match &places {
                Places::One(_) => return Ok(chosen),
                // Whatever it reads is one of the elements.
                Places::Anywhere(_) => {
                    let n = state.values.bufs[buf].len();
                    let reach =
                        |at| state.element(buf, at).map_or(f64::INFINITY, |other| chosen.reach(other));
                    let any =
                        if n <= MAX_ELEMENTS { (0..n).map(reach).fold(0.0, f64::max) } else { f64::INFINITY };
                    radius = radius.max(any);
                }
                Places::Any(_, others) => {
                    for other in others {
                        if let Some(other) = read(state, *other)? {
                            radius = radius.max(chosen.reach(other));
                        }
                    }
                }
            }
            Ok(Ball { radius, ..chosen })
        }))
    }

    fn expr(&self, expr: &'a Expr) -> Result<Eval<'a>> {
        match expr {
            Expr::Const(s) => {
                let ball = Ball::exact(*s);
                Ok(Box::new(move |_| Ok(ball)))
            }
            Expr::Load(l) => self.load(l),
            Expr::Index(a) => {
                let sum = self.base.sum(a)?;
                Ok(Box::new(move |state| Ok(Ball::exact(Scalar::I64(sum.eval(&state.values.vars))))))
            }
            Expr::Unary(op, a) => {
                let (undefined, op, a) = (self.undefined(op.name()), *op, self.expr(a)?);
                Ok(Box::new(move |state| ball::unary(op, a(state)?).ok_or_else(&undefined)))
            }
            Expr::Binary(op, a, b) => {
                let (undefined, op, a, b) = (self.undefined(op.name()), *op, self.expr(a)?, self.expr(b)?);
                Ok(Box::new(move |state| ball::binary(op, a(state)?, b(state)?).ok_or_else(&undefined)))
            }
            Expr::Select(c, a, b) => {
                let (c, a, b) = (self.expr(c)?, self.expr(a)?, self.expr(b)?);
                Ok(Box::new(move |state| Ok(ball::select(c(state)?, a(state)?, b(state)?))))
            }
            Expr::Cast(to, a) => {
                let (to, a) = (*to, self.expr(a)?);
                Ok(Box::new(move |state| Ok(ball::cast(to, a(state)?))))
            }
            Expr::Check(c) => {
                let value = self.expr(&c.value)?;
                Ok(Box::new(move |state| {
                    let ball = value(state)?;
                    let found = as_index(ball.value);
                    if found < c.low || found >= c.high {
                        return Err(Box::new(InterpError::OutOfRange {
                            site: Arc::clone(&c.site),
                            value: found,
                            range: (c.low, c.high),
                        }));
                    }
                    Ok(ball)
                }))
            }
        }
    }

    fn undefined(&self, op: &'static str) -> impl Fn() -> Box<InterpError> + use<> {
        let nest = self.base.nest.name.clone();
        move || {
            let message = format!("'{op}' is not defined on its operands");
            Box::new(InterpError::Malformed { nest: nest.clone(), message })
        }
    }
}
