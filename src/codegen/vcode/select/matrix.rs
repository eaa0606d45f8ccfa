//! Matrix products in tiles (AMX): the loops of a block of sums become loads of tiles and products of them.
//!
//! Recognised by strides, whatever the nest computes:
//!
//! ```text
//! for k.. {                              // any number of loops, the last one over groups
//!   for r { for c vector { for g unrolled {
//!     %sum[r,c] += i32(%a[.., group*k + g]) * i32(%b[group*k + g, ..])
//!   } } }
//! }
//! ```
//!
//! One factor differs by row and has the elements of a group side by side, and groups; the other one differs by column and has
//! the groups of neighbouring columns side by side. The sums are in memory before and after it, and in tiles in between:
//! two by two of up to 16 rows and columns, or fewer. Sums of integers are exact, so that tiles give the same as vectors; those of
//! `bf16` are in another order.

use nestjit_ir::{Affine, BufId, DType, For, Index, Load, LoopKind, Reduce, ReduceOp, Stmt, Var};
use smallvec::SmallVec;

use super::{Result, Selector, Stop};
use crate::codegen::vcode::tiles::{ROW_BYTES, ROWS, Shapes, TILES, TileInst, TileProduct};
use crate::codegen::vcode::{Access, Bound, MemType};
use crate::lanes;

/// Bytes of a group: what is multiplied for one sum and one row of the second factor.
const GROUP_BYTES: usize = 4;
/// Columns of a tile.
const COLUMNS: usize = ROW_BYTES / GROUP_BYTES;

/// A variable that a loop counts and how far.
type Counted = (Var, usize);

/// A block of sums that a loop adds to.
struct Matrix<'l> {
    /// The loops of the reduction, outermost first.
    reduction: SmallVec<[Counted; 4]>,
    /// The rows: none if there is one row.
    rows: Option<Counted>,
    columns: Counted,
    /// The loop over a group.
    group: Var,
    reduce: &'l Reduce,
    a: &'l Load,
    b: &'l Load,
    of: TileProduct,
    /// How far apart rows are, in bytes: of the sums, and of both factors.
    strides: [i64; 3],
}

impl Selector<'_> {
    /// Emits the loops of a reduction as products of tiles; false if they are something else.
    pub(super) fn matrix_loop(&mut self, l: &For) -> Result<bool> {
        if !self.b.has_tiles() || l.kind != LoopKind::Serial {
            return Ok(false);
        }
        let Some(matrix) = self.matrix(l)? else { return Ok(false) };
        let groups = matrix.reduction.last().map_or(1, |k| k.1);
        if groups == 0 {
            return Ok(false);
        }
        let at_once = lanes::tile_groups(groups);
        if groups % at_once != 0 && matrix.reduction.len() > 1 {
            // What remains belongs to each iteration of the loops around.
            return Ok(false);
        }
        let (rows, columns) = (matrix.rows.map_or(1, |r| r.1), matrix.columns.1);
        let (high, wide) = (rows.div_ceil(ROWS), columns.div_ceil(COLUMNS));
        if high * wide + high + wide > TILES {
            return Ok(false);
        }
        if self.is_in_registers(matrix.reduce.buf) {
            return Err(Stop::Spill(matrix.reduce.buf));
        }
        self.emit_matrix(&matrix, at_once)?;
        for k in groups - groups % at_once..groups {
            let Some(&(var, _)) = matrix.reduction.last() else { break };
            self.bound.set(var, Affine::constant(k as i64));
            self.block(&l.body)?;
            self.bound.remove(var);
        }
        Ok(true)
    }

    /// The product that a loop is, if it is one.
    fn matrix<'l>(&self, l: &'l For) -> Result<Option<Matrix<'l>>> {
        let mut loops: SmallVec<[&For; 8]> = SmallVec::new();
        let mut current = l;
        let reduce = loop {
            loops.push(current);
            match current.body.as_slice() {
                [Stmt::For(next)] => current = next,
                [Stmt::Reduce(r)] => break r,
                _ => return Ok(None),
            }
        };
        let [outer @ .., columns, group] = loops.as_slice() else { return Ok(None) };
        let moves = |l: &For| reduce.index.iter().any(|i| i.as_affine().is_none_or(|a| a.uses(l.var)));
        let (rows, reduction) = match outer {
            [reduction @ .., rows] if moves(rows) => (Some(*rows), reduction),
            reduction => (None, reduction),
        };
        let counted = |l: &For| l.kind == LoopKind::Serial && l.extent > 0 && !moves(l);
        let Some(last) = reduction.last().filter(|_| reduction.iter().all(|l| counted(l))) else {
            return Ok(None);
        };
        if columns.kind != LoopKind::Vector
            || rows.is_some_and(|r| r.kind == LoopKind::Vector)
            || moves(group)
        {
            return Ok(None);
        }
        let program = self.region.program;
        let Some([(first, first_type), (second, second_type)]) =
            self.factors(&reduce.value, program.buf(reduce.buf).dtype)
        else {
            return Ok(None);
        };
        // How far an access moves with the rows, the columns, the group, and the last loop of the reduction.
        let steps = |buf: BufId, index: &[Index]| {
            let form = self.region.facts.form(buf, index);
            let at = form.offset.as_ref().filter(|_| form.affine && form.unsure.is_empty())?;
            let step = |l: &For| at.coeff(l.var) * program.buf(buf).dtype.size() as i64;
            Some([rows.map_or(0, step), step(columns), step(group), step(last)])
        };
        let (Some(sums), Some(x), Some(y)) = (
            steps(reduce.buf, &reduce.index),
            steps(first.buf, &first.index),
            steps(second.buf, &second.index),
        ) else {
            return Ok(None);
        };
        let size = first_type.size() as i64;
        let group_bytes = GROUP_BYTES as i64;
        if group.extent as i64 * size != group_bytes || reduce.op != ReduceOp::Add {
            return Ok(None);
        }
        let is_a = |s: [i64; 4]| s[1] == 0 && s[2] == size && s[3] == group_bytes;
        let is_b = |s: [i64; 4]| s[0] == 0 && s[1] == group_bytes && s[2] == size;
        let (a, b, types, strides) = match () {
            () if is_a(x) && is_b(y) => (first, second, (first_type, second_type), [x[0], y[3]]),
            () if is_a(y) && is_b(x) => (second, first, (second_type, first_type), [y[0], x[3]]),
            () => return Ok(None),
        };
        let of = match (types, program.buf(reduce.buf).dtype) {
            ((DType::U8, DType::I8), DType::I32) => TileProduct::UnsignedSigned,
            ((DType::I8, DType::U8), DType::I32) => TileProduct::SignedUnsigned,
            ((DType::BF16, DType::BF16), DType::F32) if self.b.has_bf16_tiles() => TileProduct::Halves,
            _ => return Ok(None),
        };
        let known =
            |l: &Load| l.otherwise.is_none() || self.region.facts.form(l.buf, &l.index).unsure.is_empty();
        let in_memory = |b: BufId| !self.is_in_registers(b);
        if sums[1] != group_bytes || sums[2..] != [0, 0] || !known(a) || !known(b) {
            return Ok(None);
        }
        if let Some(buf) = [a.buf, b.buf].into_iter().find(|b| !in_memory(*b)) {
            return Err(Stop::Spill(buf));
        }
        Ok(Some(Matrix {
            reduction: reduction.iter().map(|l| (l.var, l.extent)).collect(),
            rows: rows.map(|l| (l.var, l.extent)),
            columns: (columns.var, columns.extent),
            group: group.var,
            reduce,
            a,
            b,
            of,
            strides: [sums[0], strides[0], strides[1]],
        }))
    }

    fn emit_matrix(&mut self, m: &Matrix<'_>, at_once: usize) -> Result<()> {
        let parts = |extent: usize, size: usize| -> SmallVec<[usize; 4]> {
            (0..extent).step_by(size).map(|first| (extent - first).min(size)).collect()
        };
        let (rows, columns) = (parts(m.rows.map_or(1, |r| r.1), ROWS), parts(m.columns.1, COLUMNS));
        let (high, wide) = (rows.len(), columns.len());
        let sum = |i: usize, j: usize| i * wide + j;
        let (a, b) = (|i: usize| high * wide + i, |j: usize| high * wide + high + j);
        let mut shapes = Shapes::default();
        let bytes = |count: usize| (count * GROUP_BYTES) as u8;
        for (i, height) in rows.iter().enumerate() {
            shapes.0[a(i)] = (*height as u8, bytes(at_once));
            for (j, width) in columns.iter().enumerate() {
                shapes.0[sum(i, j)] = (*height as u8, bytes(*width));
                shapes.0[b(j)] = (at_once as u8, bytes(*width));
            }
        }
        self.b.tile(TileInst::Configure(shapes));
        let sums = (m.reduce.buf, m.reduce.index.as_slice(), m.strides[0]);
        let all = || (0..high).flat_map(|i| (0..wide).map(move |j| (i, j)));
        for (i, j) in all() {
            let from = self.tile(m, sums, (i, j))?;
            self.b.tile(TileInst::Load { tile: sum(i, j) as u8, from });
        }
        let mut open = Vec::new();
        for (at, &(var, extent)) in m.reduction.iter().enumerate() {
            let step = if at + 1 == m.reduction.len() { at_once } else { 1 };
            let count = extent / step;
            if count == 1 {
                self.bound.set(var, Affine::constant(0));
                continue;
            }
            let (value, counter) = self.new_counter(count);
            self.bound.set(var, Affine::term(value, step as i64));
            self.b.begin_loop();
            open.push((counter, count));
        }
        let (left, right) =
            ((m.a.buf, m.a.index.as_slice(), m.strides[1]), (m.b.buf, m.b.index.as_slice(), m.strides[2]));
        for (i, j) in all() {
            if j == 0 {
                let from = self.tile(m, left, (i, 0))?;
                self.b.tile(TileInst::Load { tile: a(i) as u8, from });
            }
            if i == 0 {
                let from = self.tile(m, right, (0, j))?;
                self.b.tile(TileInst::Load { tile: b(j) as u8, from });
            }
            let (sum, a, b) = (sum(i, j) as u8, a(i) as u8, b(j) as u8);
            self.b.tile(TileInst::Dot { of: m.of, sum, a, b });
        }
        for (counter, count) in open.into_iter().rev() {
            self.b.end_loop(counter, Bound::Const(0), Bound::Const(count as i64));
        }
        m.reduction.iter().for_each(|r| self.bound.remove(r.0));
        for (i, j) in all() {
            let to = self.tile(m, sums, (i, j))?;
            self.b.tile(TileInst::Store { tile: sum(i, j) as u8, to });
        }
        Ok(())
    }

    /// The access to a tile of a buffer: that of these rows and columns.
    fn tile(
        &mut self,
        m: &Matrix<'_>,
        (buf, index, stride): (BufId, &[Index], i64),
        (i, j): (usize, usize),
    ) -> Result<Access> {
        let vars = [m.rows.map(|r| (r.0, i * ROWS)), Some((m.columns.0, j * COLUMNS)), Some((m.group, 0))];
        for (var, first) in vars.into_iter().flatten() {
            self.bound.set(var, Affine::constant(first as i64));
        }
        let element = self.region.facts.element(buf, index);
        let access = self.inside(&element);
        for (var, _) in vars.into_iter().flatten() {
            self.bound.remove(var);
        }
        Ok(Access { stride, ty: MemType::I32, ..access? })
    }
}
