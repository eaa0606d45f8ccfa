//! From nests to kernels: one selection for all instruction sets.
//!
//! Takes statements on elements of any type with affine indices. Serial loops become counted
//! loops, unrolled ones are replicated, a vector loop becomes as many registers as it has lanes for, the last
//! one partly filled. A statement of a vector loop is emitted for all of its registers before the next
//! statement, which is legal because lanes are independent. Local buffers that are only accessed at known
//! places become registers. Whatever does not fit is [`Unsupported`]: the scalar compiler takes it.
//!
//! `expr` selects expressions of what `value` says about them, with `float`, `half`, `integer`, `cast` and `field` (bits as numbers); `reduce` selects
//! reductions, `access` addresses, `gather` loads from where lanes say, `memory` loads and stores, `locals` places local buffers, `nested` decides which of
//! nested vector loops has the lanes, `dot` emits products of bytes that are added up, `matrix` those in matrix tiles, `groups` stores of
//! bytes for them, `transpose` emits blocks that are transposed in registers, `spills` finds the
//! locals that need memory, `plan` the statements to select. `facts` keeps what is the same in every iteration, `bindings`
//! what the variables of loops are in the one at hand.

mod access;
mod bindings;
mod cast;
mod dot;
mod expr;
mod facts;
mod field;
mod float;
mod gather;
mod groups;
mod half;
mod integer;
mod locals;
mod matrix;
mod memory;
mod nested;
pub(in crate::codegen) mod plan;
mod reduce;
mod saturate;
mod spills;
mod transpose;
mod value;

use nestjit_ir::visit::{Extents, walk_stmts};
use nestjit_ir::{Affine, BufId, DType, For, LoopKind, Program, Stmt, Store, Var};

use self::access::Placed;
use self::bindings::Bindings;
use self::facts::{Facts, Form};
use self::locals::Local;
use self::value::Regs;
use super::build::Builder;
use super::{Arg, Bound, Counter, Kernel, Reg};
use crate::codegen::hash::{FastMap, FastSet};
use crate::lanes::Refusal;

/// Registers that a vector loop may spread over; a longer loop is emitted as a counted loop of groups.
const MAX_CHUNKS: usize = 16;
/// Registers of a group of such a loop.
const GROUP_CHUNKS: usize = 4;
/// Instructions above which a region is left to the scalar compiler.
const MAX_INSTRUCTIONS: usize = 20_000;

/// Instructions up to which the body of an innermost loop is emitted several times per iteration, and how
/// often. (The loop of a register tile is long enough, and its registers are scarce.)
const UNROLL: [(usize, usize); 2] = [(8, 4), (16, 2)];

/// The variable that stands for the lane within a register.
const LANE: Var = Var(u32::MAX);

/// Why a selection was given up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::codegen) enum Stop {
    /// The construct has no SIMD form.
    Unsupported(Refusal),
    /// A local buffer cannot live in registers; selection starts again with it in memory.
    Spill(BufId),
}

type Result<T> = std::result::Result<T, Stop>;

fn unsupported<T>(why: Refusal) -> Result<T> {
    Err(Stop::Unsupported(why))
}

fn is_f64(dtype: DType) -> bool {
    dtype == DType::F64
}

/// What to select for.
#[derive(Clone, Copy)]
pub(in crate::codegen) struct Machine {
    /// Lanes of a vector register.
    pub lanes: usize,
    /// Vector registers.
    pub registers: usize,
    /// Whether there is fused multiply-add.
    pub fma: bool,
    /// Whether there is [`BinaryOp::Scale`].
    pub scale: bool,
    /// Whether there is [`super::Inst::AndOr`].
    pub ternary: bool,
    /// Whether there is [`super::DotKind::Bytes`].
    pub dot: bool,
    /// Whether there is [`super::DotKind::Bf16`].
    pub bf16: bool,
    /// Whether there are matrix tiles: see [`super::tiles`].
    pub tiles: bool,
    /// Whether these may multiply `bf16`.
    pub bf16_tiles: bool,
}

/// The statements to select, and what surrounds them.
pub(in crate::codegen) struct Region<'a> {
    pub program: &'a Program,
    pub facts: &'a Facts<'a>,
    pub body: &'a [Stmt],
    /// The variables of the segment's parallel loops, which run over the ranges that the caller asks for.
    pub ranges: &'a [Var],
    /// Locals that nothing outside the body accesses.
    pub private: &'a FastSet<BufId>,
}

/// Selects a kernel.
///
/// # Errors
/// [`Stop::Unsupported`] if the region has no SIMD form.
pub(in crate::codegen) fn select(region: &Region<'_>, machine: Machine) -> Result<Kernel> {
    let mut spilled = spills::spilled(region, machine.lanes);
    let inside = Inside::of(region.body);
    loop {
        let mut selector = Selector {
            b: Builder::new(machine),
            region,
            extents: region.facts.extents.clone(),
            bound: Bindings::default(),
            placed: Vec::new(),
            places: FastMap::default(),
            group: None,
            rows: None,
            chunk: 0,
            bound_chunk: None,
            lanes: 0,
            locals: FastMap::default(),
            wide_masks: FastMap::default(),
            spilled: &spilled,
            inside: &inside,
            scratch_top: 0,
            scratch_max: 0,
        };
        match selector.block(region.body) {
            Ok(()) => return Ok(selector.b.finish(selector.scratch_max, machine.registers)),
            // Each round spills one more local, so this ends.
            Err(Stop::Spill(buf)) if !spilled.contains(&buf) => {
                spilled.insert(buf);
            }
            Err(stop) => return Err(stop),
        }
    }
}

/// What changes within a region.
#[derive(Default)]
struct Inside {
    /// The variables of its loops.
    vars: FastSet<Var>,
    /// The buffers that it writes.
    written: FastSet<BufId>,
}

impl Inside {
    fn of(body: &[Stmt]) -> Inside {
        let mut inside = Inside::default();
        walk_stmts(body, &mut |s| {
            match s {
                Stmt::For(l) => drop(inside.vars.insert(l.var)),
                Stmt::Store(s) => drop(inside.written.insert(s.buf)),
                Stmt::Reduce(r) => drop(inside.written.insert(r.buf)),
                Stmt::Call(c) => inside.written.extend(&c.outputs),
                Stmt::Temp(_) => {}
            };
        });
        inside
    }
}

/// The vector loop around the current statement, or a part of it.
#[derive(Clone)]
struct Group {
    var: Var,
    /// The value of the loop variable at the first lane.
    start: Affine,
    lanes: usize,
}

struct Selector<'a> {
    b: Builder,
    region: &'a Region<'a>,
    extents: Extents,
    /// What the variables of the region's loops are, in terms of counters and [`LANE`].
    bound: Bindings,
    /// Offsets of accesses in bytes or elements, taken apart, and where those of a form are, by what they are counted in.
    placed: Vec<Placed>,
    places: FastMap<(*const Form, i64), usize>,
    group: Option<Group>,
    /// The block of iterations that is emitted, if they are transposed.
    rows: Option<transpose::Block>,
    /// The register of the group that is being emitted.
    chunk: usize,
    /// The one that the group's variable is bound to, if it is.
    bound_chunk: Option<usize>,
    /// The lanes in use of the register, which are the extent of [`LANE`]; 0 before the first vector loop.
    lanes: usize,
    locals: FastMap<BufId, Local>,
    /// The pairs that masks were made of.
    wide_masks: FastMap<Reg, Regs>,
    spilled: &'a FastSet<BufId>,
    inside: &'a Inside,
    scratch_top: usize,
    scratch_max: usize,
}

impl Selector<'_> {
    fn block(&mut self, body: &[Stmt]) -> Result<()> {
        let top = self.scratch_top;
        for stmt in body {
            if self.b.count() > MAX_INSTRUCTIONS {
                return unsupported(Refusal::TooLong);
            }
            match stmt {
                Stmt::For(l) => self.for_loop(l)?,
                Stmt::Temp(buf) => self.declare(*buf)?,
                Stmt::Store(s) => self.store(s)?,
                Stmt::Reduce(r) => self.reduce(r)?,
                Stmt::Call(_) => return unsupported(Refusal::Call),
            }
        }
        self.scratch_top = top;
        Ok(())
    }

    fn for_loop(&mut self, l: &For) -> Result<()> {
        if let Some(at) = self.region.ranges.iter().position(|var| *var == l.var) {
            let (begin, end) = (self.b.arg(Arg::Begin(at)), self.b.arg(Arg::End(at)));
            return self.counted(l, Bound::Arg(begin), Bound::Arg(end));
        }
        if let Some(v) = self.in_blocks(l) {
            return self.blocks(l, v);
        }
        if self.group.is_some() && (self.dot_loop(l)? || self.group_loop(l)?) {
            return Ok(());
        }
        if self.group.is_none() && self.matrix_loop(l)? {
            return Ok(());
        }
        // Of nested vector loops, one has the lanes; the others are loops like any other.
        let lanes =
            l.kind == LoopKind::Vector && self.group.is_none() && !self.region.facts.inner_has_lanes(l);
        match l.kind {
            _ if lanes => self.vector_loop(l),
            LoopKind::Serial | LoopKind::Parallel(_) | LoopKind::Vector if l.extent > 1 => {
                self.counted(l, Bound::Const(0), Bound::Const(l.extent as i64))
            }
            _ => {
                for i in 0..l.extent {
                    self.bound.set(l.var, Affine::constant(i as i64));
                    self.block(&l.body)?;
                }
                self.bound.remove(l.var);
                Ok(())
            }
        }
    }

    fn counted(&mut self, l: &For, begin: Bound, end: Bound) -> Result<()> {
        let (var, counter) = self.new_counter(l.extent);
        self.bound.set(l.var, Affine::var(var));
        self.b.begin_loop();
        self.block(&l.body)?;
        let factor = match (end, self.b.straight_line()) {
            (Bound::Const(_), Some(size)) => {
                UNROLL.iter().find(|u| size <= u.0 && l.extent >= 2 * u.1).map(|u| u.1)
            }
            _ => None,
        };
        if let Some(factor) = factor {
            self.b.abandon_loop();
            self.unrolled(l, factor)?;
        } else {
            self.b.end_loop(counter, begin, end);
        }
        self.bound.remove(l.var);
        Ok(())
    }

    /// A loop with `factor` iterations of `l` in each of its own, and the remaining iterations.
    fn unrolled(&mut self, l: &For, factor: usize) -> Result<()> {
        let rounds = l.extent / factor;
        let (var, counter) = self.new_counter(rounds);
        self.b.begin_loop();
        for i in 0..factor {
            self.bound.set(l.var, Affine::term(var, factor as i64).plus(i as i64));
            self.block(&l.body)?;
        }
        self.b.end_loop(counter, Bound::Const(0), Bound::Const(rounds as i64));
        for i in rounds * factor..l.extent {
            self.bound.set(l.var, Affine::constant(i as i64));
            self.block(&l.body)?;
        }
        Ok(())
    }

    /// A counter, and the variable that stands for it.
    fn new_counter(&mut self, extent: usize) -> (Var, Counter) {
        let counter = self.b.new_counter();
        let var = Var(self.region.program.vars.len() as u32 + counter.0);
        self.extents.set(var, extent);
        (var, counter)
    }

    /// The counter that a variable stands for.
    fn counter_of(&self, var: Var) -> Option<Counter> {
        if var == LANE {
            return None;
        }
        var.0.checked_sub(self.region.program.vars.len() as u32).map(Counter)
    }

    fn vector_loop(&mut self, l: &For) -> Result<()> {
        let vl = self.b.lanes();
        if l.extent <= MAX_CHUNKS * vl {
            return self.group(l, Affine::constant(0), l.extent);
        }
        let size = GROUP_CHUNKS * vl;
        let groups = l.extent / size;
        let (var, counter) = self.new_counter(groups);
        self.b.begin_loop();
        self.group(l, Affine::term(var, size as i64), size)?;
        self.b.end_loop(counter, Bound::Const(0), Bound::Const(groups as i64));
        match l.extent % size {
            0 => Ok(()),
            rest => self.group(l, Affine::constant((groups * size) as i64), rest),
        }
    }

    fn group(&mut self, l: &For, start: Affine, lanes: usize) -> Result<()> {
        if lanes == 0 {
            return Ok(());
        }
        self.set_group(Some(Group { var: l.var, start, lanes }));
        let result = self.block(&l.body);
        self.set_group(None);
        self.bound.remove(l.var);
        result
    }

    fn set_group(&mut self, group: Option<Group>) {
        (self.group, self.bound_chunk) = (group, None);
    }

    /// The registers that the current statement is emitted for.
    fn chunks(&self) -> usize {
        self.group.as_ref().map_or(1, |g| g.lanes.div_ceil(self.b.lanes()))
    }

    /// Turns to one of them.
    fn set_chunk(&mut self, chunk: usize) {
        if self.bound_chunk == Some(chunk) {
            return;
        }
        (self.chunk, self.bound_chunk) = (chunk, Some(chunk));
        if let Some(group) = &self.group {
            let first = chunk * self.b.lanes();
            let mut at = group.start.plus(first as i64);
            at.add_term(LANE, 1);
            self.bound.set(group.var, at);
            let lanes = (group.lanes - first).min(self.b.lanes());
            if self.lanes != lanes {
                self.lanes = lanes;
                self.extents.set(LANE, lanes);
            }
        }
    }

    /// The lanes in use of the current register.
    fn lanes(&self) -> usize {
        if self.group.is_some() { self.lanes } else { 1 }
    }

    fn store(&mut self, s: &Store) -> Result<()> {
        let target = self.region.facts.element(s.buf, &s.index);
        let dtype = self.region.program.buf(s.buf).dtype;
        for chunk in 0..self.chunks() {
            self.set_chunk(chunk);
            if dtype == DType::U8 && !self.is_in_registers(s.buf) {
                let access = self.inside(&target)?;
                if let Some((bytes, access)) = self.byte_to_store(&s.value, &s.index, &access)? {
                    if !self.store_transposed(bytes, &s.index, &access) {
                        self.b.store(bytes, access);
                    }
                    continue;
                }
            }
            let value = match self.half_to_store(&s.value, s.buf)? {
                Some(value) => value,
                None => self.expr_of(&s.value, dtype)?,
            };
            if let Some(cell) = self.cell(&target)? {
                if value.varying && !cell.varying {
                    return unsupported(Refusal::StoresToOneElement);
                }
                self.assign(cell.regs, value);
                continue;
            }
            let access = self.inside(&target)?;
            if access.stride == 0 {
                if value.varying {
                    return unsupported(Refusal::StoresToOneElement);
                }
                if chunk > 0 {
                    continue;
                }
            }
            let value = self.full(value);
            if !self.store_transposed(value.reg(), &s.index, &access) {
                self.store_regs(value.regs, &access);
            }
        }
        Ok(())
    }
}
