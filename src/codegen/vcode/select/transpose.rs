//! Transposition in registers.
//!
//! In an unrolled loop around a vector loop, an access whose lanes lie apart may be adjacent along the unrolled
//! loop. Blocks of such accesses, as many iterations as a register has lanes, move whole rows: what the lanes of all
//! iterations read is loaded as rows and exchanged by shuffles, what they write is exchanged and stored as rows.
//! Everything else in the loops is emitted as it stands. Whatever has 32 bits in registers is transposed
//! ([`lanes::exchanged`]): halves and narrow integers are converted as rows are loaded and stored.

use nestjit_ir::visit::{declared_temps, walk_expr, walk_exprs};
use nestjit_ir::{Affine, BufId, Expr, For, Index, Load, LoopKind, Stmt, Var};

use super::locals::Local;
use super::{Group, MAX_CHUNKS, Result, Selector};
use crate::codegen::address::{allowed, inside};
use crate::codegen::vcode::{Access, Bound, Class, Guard, Reg, Shuffle, UnaryOp};
use crate::lanes;

/// Registers of a vector loop from which on blocks are emitted in a counted loop, if they can be.
const COUNTED: usize = 3;

/// Some iterations of the unrolled loop, which one block holds.
pub(super) struct Block {
    var: Var,
    /// How many, and which of them is emitted.
    len: usize,
    at: usize,
    /// Where the first iteration loads, and what all of them loaded.
    loaded: Vec<(Access, Vec<Reg>)>,
    /// Where the first iteration stores, and what all of them store.
    stored: Vec<(Access, Vec<Reg>)>,
}

/// How far apart elements are for neighbouring values of the unrolled variable and of the lanes.
type Strides = (i64, i64);

impl Selector<'_> {
    /// The vector loop in an unrolled one, if both are better emitted as blocks.
    pub(super) fn in_blocks<'l>(&self, l: &'l For) -> Option<&'l For> {
        let [Stmt::For(v)] = l.body.as_slice() else { return None };
        let kinds = (l.kind, v.kind) == (LoopKind::Unrolled, LoopKind::Vector);
        if !kinds || l.extent < 2 || v.extent < 2 || self.group.is_some() {
            return None;
        }
        let own = declared_temps(&v.body);
        let (mut found, mut fine) = (false, true);
        let (mut stored, mut loaded): (Vec<BufId>, Vec<BufId>) = (Vec::new(), Vec::new());
        for stmt in &v.body {
            let s = match stmt {
                Stmt::Temp(_) => continue,
                Stmt::Store(s) => s,
                Stmt::For(_) | Stmt::Reduce(_) | Stmt::Call(_) => return None,
            };
            if own.contains(&s.buf) {
                // Every lane of every iteration has its own.
            } else if self.is_in_memory(s.buf) {
                let (along, across) = self.strides(s.buf, &s.index, l.var, v.var)?;
                // No two iterations store to one element, so that their order does not matter.
                fine &= along.abs() >= across.abs().saturating_mul(v.extent as i64)
                    || across.abs() >= along.abs().saturating_mul(l.extent as i64);
                found |= self.is_transposed(s.buf, (along, across));
                stored.push(s.buf);
            } else {
                // What an iteration leaves to later ones would have to be kept for each.
                fine = false;
            }
            walk_expr(&s.value, &mut |e| {
                if let Expr::Load(load) = e
                    && !own.contains(&load.buf)
                    && self.is_in_memory(load.buf)
                {
                    loaded.push(load.buf);
                    let strides = self.strides(load.buf, &load.index, l.var, v.var);
                    found |= strides.is_some_and(|strides| self.is_transposed(load.buf, strides))
                        && self.is_uniform(load, [l.var, v.var]);
                }
            });
        }
        // Stores come after all loads, those to one buffer in any order.
        let apart = stored.iter().enumerate().all(|(i, b)| !loaded.contains(b) && !stored[..i].contains(b));
        (found && fine && apart).then_some(v)
    }

    /// Whether it is the same for all values of these variables whether a load is inside its buffer.
    fn is_uniform(&self, load: &Load, vars: [Var; 2]) -> bool {
        let buffer = self.region.program.buf(load.buf);
        load.index.iter().enumerate().all(|(dim, i)| {
            let Some(a) = i.as_affine() else { return false };
            let varies = vars.iter().any(|v| a.uses(*v));
            !varies || inside(a, allowed(buffer, dim, load.otherwise.as_deref()), &self.extents)
        })
    }

    /// Whether a buffer is in memory, where all lanes share it.
    fn is_in_memory(&self, buf: BufId) -> bool {
        !self.region.private.contains(&buf) || matches!(self.locals.get(&buf), Some(Local::Memory(_)))
    }

    fn strides(&self, buf: BufId, index: &[Index], along: Var, across: Var) -> Option<Strides> {
        let form = self.region.facts.form(buf, index);
        form.offset.as_ref().map(|at| (at.coeff(along), at.coeff(across)))
    }

    /// Whether an access is adjacent along the unrolled loop, apart along the lanes, and of a type that can be exchanged.
    fn is_transposed(&self, buf: BufId, (along, across): Strides) -> bool {
        along == 1 && !matches!(across, 0 | 1) && lanes::exchanged(self.region.program.buf(buf).dtype)
    }

    /// Emits an unrolled loop and the vector loop in it in blocks.
    pub(super) fn blocks(&mut self, l: &For, v: &For) -> Result<()> {
        let vl = self.b.lanes();
        let chunks = v.extent.div_ceil(vl);
        // Registers cannot be indexed by a counter.
        let counted = chunks > MAX_CHUNKS || (chunks >= COUNTED && !self.uses_registers(&v.body));
        let full = if counted { v.extent / vl } else { 0 };
        if counted {
            let (var, counter) = self.new_counter(full);
            self.b.begin_loop();
            self.column_of_blocks(l, v, &Affine::term(var, vl as i64), vl)?;
            self.b.end_loop(counter, Bound::Const(0), Bound::Const(full as i64));
        }
        for chunk in full..chunks {
            let first = chunk * vl;
            let start = Affine::constant(first as i64);
            self.column_of_blocks(l, v, &start, vl.min(v.extent - first))?;
        }
        Ok(())
    }

    /// Whether statements read locals in registers that are declared before them.
    fn uses_registers(&self, body: &[Stmt]) -> bool {
        let own = declared_temps(body);
        let mut found = false;
        walk_exprs(body, &mut |e| {
            found |= matches!(e, Expr::Load(l) if self.is_in_registers(l.buf) && !own.contains(&l.buf));
        });
        found
    }

    /// All iterations of the unrolled loop for one register of lanes.
    fn column_of_blocks(&mut self, l: &For, v: &For, start: &Affine, lanes: usize) -> Result<()> {
        let vl = self.b.lanes();
        for first in (0..l.extent).step_by(vl) {
            let len = vl.min(l.extent - first);
            let (loaded, stored) = (Vec::new(), Vec::new());
            self.rows = Some(Block { var: l.var, len, at: 0, loaded, stored });
            self.set_group(Some(Group { var: v.var, start: start.clone(), lanes }));
            let result = self.rows_of_block(l, v, first, len);
            self.set_group(None);
            self.rows = None;
            self.bound.remove(v.var);
            self.bound.remove(l.var);
            result?;
        }
        Ok(())
    }

    fn rows_of_block(&mut self, l: &For, v: &For, first: usize, len: usize) -> Result<()> {
        for at in 0..len {
            self.bound.set(l.var, Affine::constant((first + at) as i64));
            if let Some(block) = &mut self.rows {
                block.at = at;
            }
            self.block(&v.body)?;
        }
        let stored = self.rows.as_mut().map(|b| std::mem::take(&mut b.stored)).unwrap_or_default();
        for (base, values) in stored {
            let columns = self.transposed(&values, base.lanes);
            for (lane, src) in columns.into_iter().enumerate() {
                self.b.store(src, row(&base, lane, len));
            }
        }
        Ok(())
    }

    /// Where the block's first iteration accesses memory, if an access of the current one is to be transposed.
    pub(super) fn transposed_access(&self, index: &[Index], access: &Access) -> Option<Access> {
        let block = self.rows.as_ref()?;
        let group = self.group.as_ref()?;
        if block.len < 2 || access.lanes < 2 || !self.is_in_memory(access.buf) {
            return None;
        }
        let strides = self.strides(access.buf, index, block.var, group.var)?;
        if !self.is_transposed(access.buf, strides) {
            return None;
        }
        let mut base = access.clone();
        base.address.offset -= access.ty.bytes() * block.at as i64;
        Some(base)
    }

    /// The value of a load of the current iteration, if it is to be transposed.
    pub(super) fn load_transposed(
        &mut self,
        load: &Load,
        access: &Access,
        guarded: Option<(&[Guard], Reg)>,
    ) -> Option<Reg> {
        let base = self.transposed_access(&load.index, access)?;
        let (var, at, len) = self.rows.as_ref().map(|b| (b.var, b.at, b.len))?;
        if guarded.is_some() && !self.is_uniform(load, [var, self.group.as_ref()?.var]) {
            return None;
        }
        let known = |b: &Block| b.loaded.iter().find(|l| l.0 == base).map(|l| l.1[at]);
        if let Some(value) = self.rows.as_ref().and_then(known) {
            return Some(value);
        }
        let mut load = |row: Access| match guarded {
            Some((guards, otherwise)) => self.b.load_guarded(row, guards.to_vec(), otherwise),
            None => self.b.load(row),
        };
        let rows: Vec<Reg> = (0..base.lanes).map(|lane| load(row(&base, lane, len))).collect();
        let columns = self.transposed(&rows, len);
        let value = columns[at];
        if let Some(block) = &mut self.rows {
            block.loaded.push((base, columns));
        }
        Some(value)
    }

    /// Takes what the current iteration stores, if it is to be transposed; whether it is.
    pub(super) fn store_transposed(&mut self, value: Reg, index: &[Index], access: &Access) -> bool {
        let Some(base) = self.transposed_access(index, access) else { return false };
        let Some(block) = &mut self.rows else { return false };
        match block.stored.iter_mut().find(|s| s.0 == base) {
            Some((_, values)) => values.push(value),
            None => block.stored.push((base, vec![value])),
        }
        true
    }

    /// The first `wanted` columns of the matrix that has the lanes of each register as a row.
    ///
    /// Four rows at a time become four columns within each block of four lanes; then whole blocks change places.
    /// Pairs of registers are replaced by pairs, so that few more registers are needed than there are rows.
    fn transposed(&mut self, rows: &[Reg], wanted: usize) -> Vec<Reg> {
        let vl = self.b.lanes();
        // Shuffles take `f32`, and leave bits alone.
        let is_int = rows.first().is_some_and(|row| self.b.class(*row) == Class::I32);
        let bits = |s: &mut Self, reg| if is_int { s.b.unary(UnaryOp::FromBits, reg) } else { reg };
        let mut rows: Vec<Option<Reg>> = rows.iter().map(|row| Some(bits(self, *row))).collect();
        rows.resize(vl, None);
        let mut columns: Vec<Vec<Option<Reg>>> = vec![Vec::new(); 4];
        for four in rows.chunks(4) {
            let pairs = [(four[0], four[1]), (four[2], four[3])];
            let halves = pairs.map(|(a, b)| {
                [false, true].map(|upper| {
                    let op = Shuffle::Interleave { unit: 1, upper };
                    if upper && wanted <= 2 { None } else { self.shuffled(op, a, b) }
                })
            });
            for (c, column) in columns.iter_mut().enumerate().take(wanted) {
                let op = Shuffle::Interleave { unit: 2, upper: c % 2 == 1 };
                column.push(self.shuffled(op, halves[0][c / 2], halves[1][c / 2]));
            }
        }
        let mut result: Vec<Option<Reg>> = vec![None; vl];
        for (c, column) in columns.into_iter().enumerate().take(wanted) {
            let needed = (wanted - c).div_ceil(4);
            for (block, reg) in self.exchanged(column, needed).into_iter().enumerate() {
                result[4 * block + c] = reg;
            }
        }
        result.truncate(wanted);
        let zero = self.b.constant(Class::F32, 0u32);
        let back = |s: &mut Self, reg| if is_int { s.b.unary(UnaryOp::Bits, reg) } else { reg };
        result.into_iter().map(|reg| back(self, reg.unwrap_or(zero))).collect()
    }

    /// The first `wanted` registers that have one block each of all of these, in their order.
    fn exchanged(&mut self, regs: Vec<Option<Reg>>, wanted: usize) -> Vec<Option<Reg>> {
        if regs.len() == 1 {
            return regs;
        }
        let mut halves = [Vec::new(), Vec::new()];
        for pair in regs.chunks(2) {
            for (odd, half) in [false, true].into_iter().zip(&mut halves) {
                let needed = wanted > usize::from(odd);
                half.push(if needed {
                    self.shuffled(Shuffle::Blocks { odd }, pair[0], pair[1])
                } else {
                    None
                });
            }
        }
        let [even, odd] = halves;
        let even = self.exchanged(even, wanted.div_ceil(2));
        let odd = self.exchanged(odd, wanted / 2);
        even.into_iter().zip(odd).flat_map(|(e, o)| [e, o]).collect()
    }

    /// A shuffle of two registers; those that are nothing are zero.
    fn shuffled(&mut self, op: Shuffle, a: Option<Reg>, b: Option<Reg>) -> Option<Reg> {
        if a.is_none() && b.is_none() {
            return None;
        }
        let zero = |s: &mut Self| s.b.constant(Class::F32, 0u32);
        let a = a.unwrap_or_else(|| zero(self));
        let b = b.unwrap_or_else(|| zero(self));
        Some(self.b.shuffle(op, a, b))
    }
}

/// The row of a block that one lane accesses.
fn row(base: &Access, lane: usize, len: usize) -> Access {
    let mut access = base.clone();
    access.address.offset += lane as i64 * base.stride;
    Access { stride: base.ty.bytes(), lanes: len, ..access }
}
