//! Dot products: a short loop that adds up products of bytes, one factor unsigned and the other signed, or of `bf16` becomes
//! one instruction per register of sums.
//!
//! Recognised by strides: along the loop both factors are neighbours in memory; one is the same for all lanes, the lanes
//! of the other are as far apart as a dot product has products. A loop of fewer iterations multiplies what is left over by
//! zeros.
//!
//! Where lanes hold one byte each, extended to 32 bits, a dot product is their product: the upper bytes of the unsigned
//! factor are zeros. That is one instruction where multiplying and adding are two.

use nestjit_ir::{Affine, BinOp, BufId, DType, Expr, For, Index, Load, Reduce, ReduceOp, Role, Stmt, Var};

use super::locals::Local;
use super::{Result, Selector, Stop};
use crate::codegen::vcode::{Access, BinaryOp, Class, DotKind, Guard, MemType, Reg, ShiftOp};
use crate::unit::MemoryPlan;

/// What a lane takes of an operand of a dot product.
pub(super) const BYTES: usize = 4;

/// A load of some neighbouring elements.
pub(super) struct Neighbours {
    /// The access to the first of them.
    pub access: Access,
    pub guards: Vec<Guard>,
    /// What is loaded if a guard fails: four bytes.
    otherwise: u32,
    /// Bytes of an element.
    size: usize,
    /// Whether there are as many bytes in the buffer as a lane takes, whatever the iteration.
    room: bool,
}

impl Selector<'_> {
    /// Emits a loop as dot products; false if it is another loop.
    pub(super) fn dot_loop(&mut self, l: &For) -> Result<bool> {
        match l.body.as_slice() {
            [Stmt::Reduce(r)] => self.dot(r, Some((l.var, l.extent))),
            _ => Ok(false),
        }
    }

    /// Emits a sum along such a loop, or of one product, as dot products; false if it is something else.
    pub(super) fn dot(&mut self, r: &Reduce, along: Option<(Var, usize)>) -> Result<bool> {
        let program = self.region.program;
        if self.group.is_none() || cfg!(target_endian = "big") || r.op != ReduceOp::Add {
            return Ok(false);
        }
        let Some([(a, a_type), (b, b_type)]) = self.factors(&r.value, program.buf(r.buf).dtype) else {
            return Ok(false);
        };
        let (kind, a_is_first) = match (a_type, b_type) {
            (DType::U8, DType::I8) => (DotKind::Bytes, true),
            (DType::I8, DType::U8) => (DotKind::Bytes, false),
            (DType::BF16, DType::BF16) if self.b.has_bf16_dot() => (DotKind::Bf16, true),
            _ => return Ok(false),
        };
        let group = kind.products();
        let var = along.map(|l| l.0);
        let count = along.map_or(1, |l| l.1);
        if !(1..=group).contains(&count) {
            return Ok(false);
        }
        let target = self.region.facts.element(r.buf, &r.index);
        let moves = |v: Var| r.index.iter().any(|i| i.as_affine().is_none_or(|a| a.uses(v)));
        if var.is_some_and(moves) || !self.target_varies(&target)? {
            return Ok(false);
        }
        // Nothing is emitted before it is known that all registers can be.
        let mut products = Vec::new();
        for chunk in 0..self.chunks() {
            self.set_chunk(chunk);
            let (Some(first), Some(second)) = (self.neighbours(a, var)?, self.neighbours(b, var)?) else {
                return Ok(false);
            };
            let is_shared = |b: &Neighbours| b.access.stride == 0 && b.guards.iter().all(|g| g.step == 0);
            let is_apart = |b: &Neighbours| b.access.stride == BYTES as i64 && b.guards.is_empty();
            let (shared, apart, a_is_shared) = match () {
                () if is_shared(&first) && is_apart(&second) => (first, second, true),
                () if is_shared(&second) && is_apart(&first) => (second, first, false),
                () => return Ok(false),
            };
            let packed = if a_is_shared { b } else { a };
            if count < group && !self.in_whole_group(packed.buf, &packed.index, var)? {
                return Ok(false);
            }
            // What is read too much is multiplied by the zeros that pad the last group of a constant.
            let padded = program.buf(packed.buf).role == Role::Const
                && program.buf(packed.buf).halo_fill.to_bits() == 0;
            let whole = padded && shared.room && shared.guards.is_empty();
            products.push((shared, if whole { group } else { count }, apart, a_is_shared));
        }
        for (chunk, (shared, count, apart, a_is_shared)) in products.into_iter().enumerate() {
            self.set_chunk(chunk);
            let shared = self.load_neighbours(&shared, count);
            let apart = self.b.load(Access { ty: MemType::I32, ..apart.access });
            let (first, second) = if a_is_shared == a_is_first { (shared, apart) } else { (apart, shared) };
            if let Some(cell) = self.cell(&target)? {
                self.b.dot_accumulate(kind, cell.reg(), first, second);
            } else {
                let access = self.inside(&target)?;
                let old = self.b.load(access.clone());
                let new = self.b.dot(kind, first, second, old);
                self.b.store(new, access);
            }
        }
        Ok(true)
    }

    /// The factors of a product of bytes that is added to a sum, the unsigned one first, if a dot product of lanes with one
    /// byte each makes it faster.
    pub(super) fn byte_product<'r>(&self, r: &'r Reduce) -> Option<(&'r Expr, &'r Expr)> {
        let program = self.region.program;
        let Expr::Binary(BinOp::Mul, a, b) = &r.value else { return None };
        let (Expr::Cast(DType::I32, a), Expr::Cast(DType::I32, b)) = (&**a, &**b) else { return None };
        if !self.b.has_dot() || r.op != ReduceOp::Add {
            return None;
        }
        match (a.dtype(program), b.dtype(program)) {
            (DType::U8, DType::I8) => Some((a, b)),
            (DType::I8, DType::U8) => Some((b, a)),
            _ => None,
        }
    }

    /// The loads of a product that are extended to the type of the sum, and their types.
    pub(super) fn factors<'e>(&self, value: &'e Expr, sum: DType) -> Option<[(&'e Load, DType); 2]> {
        let Expr::Binary(BinOp::Mul, a, b) = value else { return None };
        let factor = |e: &'e Expr| match e {
            Expr::Cast(to, inner) if *to == sum => match &**inner {
                Expr::Load(l) => Some((l, self.region.program.buf(l.buf).dtype)),
                _ => None,
            },
            _ => None,
        };
        Some([factor(a)?, factor(b)?])
    }

    /// The elements that a load reads in the iterations of a loop, if they are neighbours.
    fn neighbours(&mut self, load: &Load, along: Option<Var>) -> Result<Option<Neighbours>> {
        self.neighbours_at(load.buf, &load.index, load.otherwise.as_deref(), along)
    }

    /// The elements that are accessed in the iterations of a loop, if they are neighbours in memory.
    pub(super) fn neighbours_at(
        &mut self,
        buf: BufId,
        index: &[Index],
        otherwise: Option<&Expr>,
        along: Option<Var>,
    ) -> Result<Option<Neighbours>> {
        let element = self.region.facts.element(buf, index);
        let uses = |dim: &usize| along.is_some_and(|v| index[*dim].as_affine().is_none_or(|a| a.uses(v)));
        if !element.form.affine || element.form.unsure.iter().any(uses) {
            return Ok(None);
        }
        let Some(at) = self.offset(&element)? else { return Ok(None) };
        let neighbours = along.is_none_or(|v| at.coeff(v) == 1);
        // Where the loop begins: what it adds to that is no more than a dot product takes.
        let mut begin = at.into_owned();
        along.iter().for_each(|v| begin.add_term(*v, -1));
        let last = self.extents.range(&begin).and_then(|(_, last)| usize::try_from(last).ok());
        let buffer = self.region.program.buf(buf);
        let size = buffer.dtype.size();
        // What follows a buffer in the arena may be read too.
        let in_arena = buffer.role == Role::Temp && !self.locals.contains_key(&buf);
        let readable = if in_arena { MemoryPlan::bytes_of(buffer) } else { buffer.storage_bytes() };
        let room = last.is_some_and(|last| last * size + BYTES <= readable);
        let fill = match otherwise {
            None => 0,
            Some(Expr::Const(s)) => (0..BYTES / size).map(|i| (s.to_bits() as u32) << (8 * size * i)).sum(),
            Some(_) => return Ok(None),
        };
        if !neighbours || matches!(self.locals.get(&buf), Some(Local::LaneMemory(_))) {
            return Ok(None);
        }
        if self.is_in_registers(buf) {
            return Err(Stop::Spill(buf));
        }
        if let Some(v) = along {
            self.bound.set(v, Affine::constant(0));
        }
        let access = self.access(&element, otherwise);
        if let Some(v) = along {
            self.bound.remove(v);
        }
        let (access, guards) = access?;
        let known = otherwise.is_some() || guards.is_empty();
        Ok(known.then_some(Neighbours { access, guards, otherwise: fill, size, room }))
    }

    /// Whether the elements that are accessed in the iterations of a loop, fewer than a lane takes, begin a group of
    /// an interleaved buffer, so that the rest of the group is there.
    pub(super) fn in_whole_group(&self, buf: BufId, index: &[Index], along: Option<Var>) -> Result<bool> {
        let buffer = self.region.program.buf(buf);
        let group = BYTES / buffer.dtype.size();
        let grouped = buffer.layout.interleave.is_some_and(|(_, n)| n == group);
        let element = self.region.facts.element(buf, index);
        let whole = |c: i64| c % group as i64 == 0;
        let begins = self.offset(&element)?.is_some_and(|at| {
            whole(at.offset()) && at.terms().iter().all(|&(v, c)| Some(v) == along || whole(c))
        });
        Ok(grouped && begins)
    }

    /// A register with so many elements in each lane; what is left is 0.
    fn load_neighbours(&mut self, from: &Neighbours, count: usize) -> Reg {
        let mut part = |ty: MemType, at: usize| {
            let mut access = Access { ty, ..from.access.clone() };
            access.address.offset += at as i64;
            if from.guards.is_empty() {
                return self.b.load(access);
            }
            let fill = u64::from(from.otherwise) & (u64::MAX >> (64 - 8 * ty.bytes()));
            let fill = self.b.constant(Class::I32, fill);
            self.b.load_guarded(access, from.guards.clone(), fill)
        };
        match count * from.size {
            1 => part(MemType::U8, 0),
            2 => part(MemType::U16, 0),
            3 => {
                let (low, high) = (part(MemType::U16, 0), part(MemType::U8, 2));
                let high = self.b.shift(ShiftOp::Left, high, 16);
                self.b.binary(BinaryOp::Or, low, high)
            }
            _ => part(MemType::I32, 0),
        }
    }
}
