//! What vector lanes can compute: the table that passes ask before they make vector loops or merge nests, and that
//! instruction selection takes its refusals from. Whatever it allows is selected.
//!
//! Every element type has lanes (see docs/SCHEDULING.md), so the table lists exceptions. It looks at types and operations only; where
//! elements lie, which loops carry what and what pays are questions of the passes.

use nestjit_ir::{BinOp, BufId, DType, Expr, Index, Kind, Load, Program, Role, Scalar, Stmt, layout};

/// Why something cannot be computed in lanes: what there is in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No machine divides integers of 64 bits in lanes; up to 32 bits, floating-point numbers do it exactly.
    WideDivision,
    /// Powers of integers, by anything but 1, 2 and 3: a loop in each lane.
    Power,
    /// Where an element lies is computed for each element, and needs a check, or is stored to: kernels address memory by
    /// loop counters, and load from where lanes say that are known to be inside.
    ComputedIndex,
    /// A value with a check of its range, which ends the run with an error.
    CheckedValue,
    /// A call of a function of the runtime.
    Call,
    /// An operation that floating-point numbers do not have.
    NotOnFloats,
    /// An operation that truth values do not have.
    NotOnBools,
    /// An operation that integers do not have.
    NotOnIntegers,
    /// A buffer whose elements do not lie at multiples of strides.
    AddressNotAffine,
    /// An index that may leave its buffer.
    CheckedIndex,
    /// A gather from a buffer whose offsets do not fit 32 bits.
    GatherTooFar,
    /// More instructions than a kernel may have.
    TooLong,
    /// All lanes store to one element.
    StoresToOneElement,
    /// An operand of another type than its operation.
    OperandType,
    /// A product of bytes of which one is of another type.
    ByteType,
    /// A loop that nothing is computed in.
    NoIteration,
    /// A local buffer that does not fit the registers and the stack of a kernel.
    LocalTooLarge,
    /// A local buffer that fits neither registers nor memory.
    LocalWithoutPlace,
    /// An index that does not fit 32 bits.
    WideIndex,
    /// An access with another number of indices than its buffer has dimensions.
    Rank,
    /// An index that may leave 64 bits.
    IndexTooLarge,
    /// A guard whose limits are too far apart for an immediate.
    GuardTooFar,
    /// Padding whose place is computed.
    PaddedComputedIndex,
    /// A local buffer in registers whose index is computed.
    LocalComputedIndex,
    /// A local buffer in registers that each lane indexes in its own way.
    LocalByLane,
    /// A local buffer in registers that is indexed by a loop around the kernel.
    LocalFromOutside,
}

/// Whether lanes can apply a binary operation that is defined on a type.
///
/// # Errors
/// The reason why they cannot.
pub fn binary(program: &Program, op: BinOp, left: &Expr, right: &Expr) -> Result<(), Refusal> {
    let dtype = left.dtype(program);
    let narrow = |e| is_narrow(program, e);
    match (op, dtype.kind()) {
        (_, Kind::Float | Kind::Bool) => Ok(()),
        (BinOp::Div | BinOp::Rem | BinOp::Mod, Kind::Signed | Kind::Unsigned) => {
            let fits = dtype.size() < 8 || (dtype == DType::I64 && narrow(left) && narrow(right));
            if fits { Ok(()) } else { Err(Refusal::WideDivision) }
        }
        (BinOp::Pow, Kind::Signed | Kind::Unsigned) => match right.as_const().map(|e| e.as_f64()) {
            Some(1.0 | 2.0 | 3.0) => Ok(()),
            _ => Err(Refusal::Power),
        },
        _ => Ok(()),
    }
}

/// Whether an `i64` is known to fit 32 bits, as far as the expression alone says: division of 64 bits has no lanes.
fn is_narrow(program: &Program, e: &Expr) -> bool {
    let narrow = |e: &Expr| is_narrow(program, e);
    match e {
        Expr::Const(Scalar::I64(v)) => i32::try_from(*v).is_ok(),
        // Selection asks for the range of the variables.
        Expr::Index(_) => true,
        Expr::Cast(_, a) => match a.dtype(program) {
            DType::I32 | DType::I16 | DType::I8 | DType::U16 | DType::U8 | DType::Bool => true,
            DType::I64 => narrow(a),
            DType::F32 | DType::F64 | DType::F16 | DType::BF16 | DType::U64 | DType::U32 => false,
        },
        // The smallest number divided by -1 has a bit more.
        Expr::Binary(BinOp::Div, a, b) => {
            narrow(a) && narrow(b) && b.as_const().is_some_and(|b| b != Scalar::I64(-1))
        }
        Expr::Binary(BinOp::Rem | BinOp::Mod | BinOp::Max | BinOp::Min, a, b) => narrow(a) && narrow(b),
        Expr::Select(_, a, b) => narrow(a) && narrow(b),
        Expr::Const(_) | Expr::Unary(..) | Expr::Binary(..) | Expr::Load(_) | Expr::Check(_) => false,
    }
}

/// The elements of tables that lanes look up.
pub const TABLE: usize = 256;

/// The unsigned byte that counts the element of a constant table of bytes, if an access is a lookup in one: permutations of
/// registers that hold the table do it, and the byte needs no check.
pub fn lookup<'e>(program: &Program, buf: BufId, index: &'e [Index]) -> Option<&'e Expr> {
    let table = program.buf(buf);
    let [Index::Value(index)] = index else { return None };
    let Expr::Cast(DType::I64, byte) = &**index else { return None };
    let bytes = table.dtype == DType::U8 && byte.dtype(program) == DType::U8;
    let whole = matches!(table.shape.as_slice(), [n] if *n >= TABLE);
    (bytes && whole && table.role == Role::Const).then_some(byte)
}

/// About how many instructions a lookup takes for a vector, whatever lies where.
pub const LOOKUP: f64 = 10.0;

/// From so many bytes on, offsets of lanes do not fit 32 bits.
const FARTHEST: usize = 1 << 30;

/// Whether the indices of a load that are computed are known to be inside the buffer, so that each lane can load from where its
/// own says.
pub fn gathers(program: &Program, l: &Load) -> bool {
    let buffer = program.buf(l.buf);
    let inside = |(i, extent): (&Index, &usize)| match i {
        Index::Affine(_) => true,
        Index::Value(e) => {
            let (least, most) = e.limits(program);
            least >= 0 && usize::try_from(most).is_ok_and(|most| most < *extent)
        }
    };
    l.otherwise.is_none()
        && l.index.len() == buffer.shape.len()
        && l.index.iter().zip(&buffer.shape).all(inside)
        && buffer.storage_bytes() <= FARTHEST
        && layout::strides(buffer).is_some()
}

/// Rows of a matrix tile (AMX), and the most groups of products that a tile multiplies at a time.
pub const TILE_ROWS: usize = 16;

/// How few groups at a time are worth tiles, if more do not divide them.
const LEAST_TILE_GROUPS: usize = 8;

/// How many of the groups of a reduction matrix tiles multiply at a time: as few steps as possible, all of the same length;
/// or what remains is left to vectors.
pub fn tile_groups(groups: usize) -> usize {
    match groups {
        0..=TILE_ROWS => groups,
        _ => {
            let even = (LEAST_TILE_GROUPS..=TILE_ROWS).rev().find(|n| groups.is_multiple_of(*n));
            even.unwrap_or(TILE_ROWS)
        }
    }
}

/// What is asked of one computation.
struct Question<'a> {
    program: &'a Program,
    /// Whether a computed index is the same for all lanes, so that it can be computed before them.
    constant: &'a dyn Fn(&Expr) -> bool,
}

impl Question<'_> {
    fn access(&self, index: &[Index]) -> Result<(), Refusal> {
        let fine = |i: &Index| match i {
            Index::Affine(_) => true,
            Index::Value(e) => (self.constant)(e),
        };
        if index.iter().all(fine) { Ok(()) } else { Err(Refusal::ComputedIndex) }
    }

    fn expr(&self, e: &Expr) -> Result<(), Refusal> {
        match e {
            Expr::Index(_) | Expr::Const(_) => Ok(()),
            Expr::Load(l) => {
                if let Some(byte) = lookup(self.program, l.buf, &l.index) {
                    return self.expr(byte);
                }
                match self.access(&l.index) {
                    Err(_) if gathers(self.program, l) => l.index.iter().try_for_each(|i| match i {
                        Index::Affine(_) => Ok(()),
                        Index::Value(e) => self.expr(e),
                    })?,
                    other => other?,
                }
                l.otherwise.as_ref().map_or(Ok(()), |e| self.expr(e))
            }
            Expr::Check(_) => Err(Refusal::CheckedValue),
            Expr::Unary(_, a) | Expr::Cast(_, a) => self.expr(a),
            Expr::Binary(op, a, b) => {
                // Only these operations have exceptions.
                if matches!(op, BinOp::Div | BinOp::Rem | BinOp::Mod | BinOp::Pow) {
                    binary(self.program, *op, a, b)?;
                }
                self.expr(a)?;
                self.expr(b)
            }
            Expr::Select(c, a, b) => {
                self.expr(c)?;
                self.expr(a)?;
                self.expr(b)
            }
        }
    }

    fn stmts(&self, body: &[Stmt]) -> Result<(), Refusal> {
        body.iter().try_for_each(|s| match s {
            Stmt::Store(s) => self.access(&s.index).and_then(|()| self.expr(&s.value)),
            Stmt::Reduce(r) => self.access(&r.index).and_then(|()| self.expr(&r.value)),
            Stmt::Temp(_) => Ok(()),
            Stmt::For(l) => self.stmts(&l.body),
            Stmt::Call(_) => Err(Refusal::Call),
        })
    }
}

/// Whether lanes can execute statements, whatever loops are among them.
///
/// # Errors
/// The first reason why they cannot.
pub fn stmts(program: &Program, body: &[Stmt]) -> Result<(), Refusal> {
    stmts_with(program, body, &|_| false)
}

/// The same where some computed indices are the same for all lanes: those for which `constant` holds.
///
/// # Errors
/// The first reason why they cannot.
pub fn stmts_with(program: &Program, body: &[Stmt], constant: &dyn Fn(&Expr) -> bool) -> Result<(), Refusal> {
    Question { program, constant }.stmts(body)
}

/// Whether blocks of elements can be transposed in registers: what takes one register of 32 bits for each lane, however many
/// bits an element has in memory.
pub const fn exchanged(dtype: DType) -> bool {
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 => true,
        DType::I32 | DType::I16 | DType::I8 | DType::U32 | DType::U16 | DType::U8 => true,
        // Pairs of registers, and masks.
        DType::F64 | DType::I64 | DType::U64 | DType::Bool => false,
    }
}

/// Registers that a value takes, in units of those of an `f32`.
pub const fn registers(dtype: DType) -> usize {
    match dtype {
        DType::F64 | DType::I64 | DType::U64 => 2,
        DType::F32 | DType::I32 | DType::I16 | DType::I8 => 1,
        DType::U32 | DType::U16 | DType::U8 | DType::Bool | DType::F16 | DType::BF16 => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_divided_in_lanes_and_other_wide_integers_are_not() {
        let p = Program::default();
        let expr = |p: &Program, e: &Expr| Question { program: p, constant: &|_| false }.expr(e);
        let index = || Expr::index(nestjit_ir::Affine::constant(3));
        let by = |e: Expr, d: i64| e.binary(BinOp::Div, Expr::i64(d));
        assert_eq!(expr(&p, &by(by(index(), 4), 5)), Ok(()));
        assert_eq!(expr(&p, &by(index(), -1)), Ok(()));
        assert_eq!(expr(&p, &by(by(index(), -1), 5)), Err(Refusal::WideDivision));
        assert_eq!(expr(&p, &by(index(), 1 << 40)), Err(Refusal::WideDivision));
        assert_eq!(expr(&p, &by(index() * index(), 4)), Err(Refusal::WideDivision));
        assert_eq!(expr(&p, &Expr::i64(7).pow(Expr::i64(2))), Ok(()));
        assert_eq!(expr(&p, &Expr::i64(7).pow(index())), Err(Refusal::Power));
    }
}
