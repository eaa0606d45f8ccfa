//! `vcode`: code at the level of SIMD registers, between nests and machine code.
//!
//! A [`Kernel`] is structured code (counted loops, no jumps) on virtual registers that are mutable and hold
//! [`Kernel::lanes`] lanes of 32 bits each, or half as many of 64 bits (see [`Class`]); what is narrower in memory is
//! widened when it is loaded and narrowed when it is stored (see [`MemType`]). Addresses are a kernel argument plus an
//! affine expression of loop counters.
//! `select` makes kernels from nests, once for all instruction sets; an emitter (`clif`: Cranelift, 4 lanes)
//! turns them into machine code. A new instruction set is a new emitter, and nothing else.

pub(super) mod build;
pub(super) mod clif;
mod guard;
mod hoist;
mod kernel;
mod ops;
pub(super) mod prefetch;
mod print;
pub(super) mod select;
mod split;
pub(super) mod tiles;
pub(super) mod x86;

use std::rc::Rc;

use nestjit_ir::{Affine, BufId, Expr};
use smallvec::SmallVec;

use self::tiles::TileInst;

pub(super) use self::guard::Guard;
pub(super) use self::kernel::Kernel;
pub(super) use self::ops::{BinaryOp, Cmp, Combine, DotKind, Narrowing, ShiftOp, Shuffle, UnaryOp, Widening};

/// A virtual vector register.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) struct Reg(pub u32);

/// The registers that an instruction reads.
pub(super) type Operands = SmallVec<[Reg; 4]>;

/// The counters of an address and their coefficients, sorted by counter. Most accesses of a kernel differ in constants
/// only and share them.
pub(super) type Terms = Rc<[(Counter, i64)]>;

/// A loop counter; counts up from its loop's start.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) struct Counter(pub u32);

/// A position in [`Kernel::args`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) struct ArgId(pub u32);

/// What the lanes of a register are. A value of 64-bit lanes takes two registers: the lower half of the lanes is in the
/// first, the upper half in the second.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Class {
    /// Floating-point numbers of 32 bits.
    F32,
    /// Integers of 32 bits, or narrower ones extended to 32 bits by their sign or by zeros.
    I32,
    /// Truth values of lanes of 32 bits.
    Mask,
    /// Floating-point numbers of 64 bits.
    F64,
    /// Integers of 64 bits.
    I64,
    /// Truth values of lanes of 64 bits.
    Mask64,
}

impl Class {
    /// Whether a register has half as many lanes.
    pub fn is_wide(self) -> bool {
        match self {
            Class::F32 | Class::I32 | Class::Mask => false,
            Class::F64 | Class::I64 | Class::Mask64 => true,
        }
    }

    /// Whether lanes are truth values.
    pub fn is_mask(self) -> bool {
        match self {
            Class::Mask | Class::Mask64 => true,
            Class::F32 | Class::I32 | Class::F64 | Class::I64 => false,
        }
    }
}

/// How an element lies in memory, and with that what becomes of it in a register.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum MemType {
    F32,
    F64,
    /// 32 bits of any integer, or what [`Inst::Dot`] takes of an operand at once.
    I32,
    /// 64 bits of any integer.
    I64,
    /// Extended by its sign to [`Class::I32`]; the low bits are stored. So are the next three.
    I8,
    /// Extended by zeros.
    U8,
    /// What is stored are numbers of 32 bits without a sign, 255 instead of those that are larger. Only adjacent lanes of 512-bit
    /// code are, none is loaded.
    SaturatedU8,
    I16,
    U16,
    /// The half type of IEEE 754, widened to [`Class::F32`] when it is loaded, rounded to nearest even when it is stored; a NaN
    /// becomes a quiet one.
    F16,
    /// The upper 16 bits of [`Class::F32`]; the others are zeros when it is loaded, and lost when it is stored.
    BF16,
    /// A byte that is 0 or 1, as a mask.
    Bool,
}

impl MemType {
    /// Bytes in memory.
    pub fn bytes(self) -> i64 {
        match self {
            MemType::I8 | MemType::U8 | MemType::SaturatedU8 | MemType::Bool => 1,
            MemType::I16 | MemType::U16 | MemType::F16 | MemType::BF16 => 2,
            MemType::F32 | MemType::I32 => 4,
            MemType::F64 | MemType::I64 => 8,
        }
    }

    /// Whether elements are in memory as they are in registers.
    pub fn is_plain(self) -> bool {
        match self {
            MemType::F32 | MemType::F64 | MemType::I32 | MemType::I64 => true,
            MemType::I8 | MemType::U8 | MemType::I16 | MemType::U16 | MemType::Bool => false,
            MemType::F16 | MemType::BF16 | MemType::SaturatedU8 => false,
        }
    }

    /// The class of a register that it is loaded into.
    pub fn class(self) -> Class {
        match self {
            MemType::F32 | MemType::F16 | MemType::BF16 => Class::F32,
            MemType::I32 | MemType::I8 | MemType::U8 | MemType::I16 | MemType::U16 => Class::I32,
            MemType::SaturatedU8 => Class::I32,
            MemType::F64 => Class::F64,
            MemType::I64 => Class::I64,
            MemType::Bool => Class::Mask,
        }
    }
}

/// Indices that are computed at run time, by dimension.
pub(super) type Computed = Vec<(usize, Expr)>;

/// A value that the caller of a kernel passes: 64 bits each.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Arg {
    /// The address of a buffer plus these bytes; the variables are those of loops around the kernel.
    Pointer(BufId, Affine),
    /// The same from an element on: these dimensions have an index that is computed, and checked, at run time;
    /// the others have index 0.
    Element(BufId, Computed, Affine),
    /// The address of [`Kernel::scratch_bytes`] bytes, aligned to 64.
    Scratch,
    /// An integer that the loops around the kernel determine.
    Int(Affine),
    /// Where the segment's range of this one of its parallel loops begins.
    Begin(usize),
    /// Where it ends.
    End(usize),
}

/// `args[base] + sum(coefficient * counter) + offset`, in bytes. Terms are sorted by counter.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Address {
    pub base: ArgId,
    pub terms: Terms,
    pub offset: i64,
}

/// `args[arg] + sum(coefficient * counter) + offset`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Int {
    pub arg: Option<ArgId>,
    pub terms: Terms,
    pub offset: i64,
}

/// Where the lanes of an access lie: the first at `address`, each `stride` bytes after the one before; only
/// the first `lanes` exist. A stride of the element's size is contiguous; stride 0 is one element for all lanes (which
/// guards may still tell apart).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Access {
    pub address: Address,
    pub stride: i64,
    pub ty: MemType,
    pub lanes: usize,
    /// The buffer accessed, for alias analysis. Different buffers
    /// do not overlap.
    pub buf: BufId,
}

impl Access {
    /// Whether lanes are neighbours.
    pub fn is_contiguous(&self) -> bool {
        self.stride == self.ty.bytes()
    }
}

/// A bound of a loop.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Bound {
    Const(i64),
    Arg(ArgId),
}

/// A level of the caches.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Cache {
    First,
    Second,
}

/// An instruction.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Inst {
    /// All lanes are this constant, given by its bits: the low 32 of them unless lanes are wide. All ones are true.
    Const {
        dst: Reg,
        bits: u64,
    },
    /// Lanes that do not exist are 0 (with stride 0, all lanes exist).
    Load {
        dst: Reg,
        from: Access,
    },
    /// Lanes for which a guard fails are those of `otherwise`, and memory is not touched for them.
    LoadGuarded {
        dst: Reg,
        from: Access,
        guards: Vec<Guard>,
        otherwise: Reg,
    },
    /// Stores the lanes that exist. With stride 0, lane 0.
    Store {
        src: Reg,
        to: Access,
    },
    /// Of a matrix product. Only where [`select::Machine::tiles`] says so.
    Tile(TileInst),
    /// Brings the line of an address, which need not exist, into a cache.
    Prefetch {
        at: Access,
        to: Cache,
    },
    Copy {
        dst: Reg,
        a: Reg,
    },
    Unary {
        op: UnaryOp,
        dst: Reg,
        a: Reg,
    },
    Binary {
        op: BinaryOp,
        dst: Reg,
        a: Reg,
        b: Reg,
    },
    Shift {
        op: ShiftOp,
        dst: Reg,
        a: Reg,
        amount: u8,
    },
    /// On `f32`.
    Shuffle {
        op: Shuffle,
        dst: Reg,
        a: Reg,
        b: Reg,
    },
    /// `a * b + c`, rounded once.
    Fma {
        dst: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },
    /// The bits of `c` and those that `a` and `b`, integers of 32 bits, have in common: of the class of `c`. Only where
    /// [`select::Machine::ternary`] says so.
    AndOr {
        dst: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },
    /// `c` plus the products of what each lane of `a` and of `b`, which are integers of 32 bits, is made of. Only where
    /// [`select::Machine::dot`] or [`select::Machine::bf16`] says so.
    Dot {
        kind: DotKind,
        dst: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },
    /// Lanes are the bytes of a table of 256, which begins at `table`, that the low 8 bits of the lanes of `index` count;
    /// extended by zeros.
    Lookup {
        dst: Reg,
        index: Reg,
        table: Access,
    },
    /// Lane `l` is the element that is in lane `l` of `from`, but so many bytes further on as lane `first + l` of `offsets` says,
    /// or lane 0 for all lanes if there is no `first`: integers of 32 bits that are not negative. Lanes that do not exist are 0
    /// (with stride 0 and no `first`, all lanes exist).
    Gather {
        dst: Reg,
        offsets: Reg,
        from: Access,
        first: Option<usize>,
    },
    /// Converts the lower half of the lanes of `a`, or the upper one.
    Widen {
        op: Widening,
        dst: Reg,
        a: Reg,
        upper: bool,
    },
    /// Converts the lanes of `a`, which become the lower half, and of `b`.
    Narrow {
        op: Narrowing,
        dst: Reg,
        a: Reg,
        b: Reg,
    },
    /// Compares floating-point lanes, or integer lanes as signed.
    Compare {
        op: Cmp,
        dst: Reg,
        a: Reg,
        b: Reg,
    },
    /// `mask ? a : b`.
    Select {
        dst: Reg,
        mask: Reg,
        a: Reg,
        b: Reg,
    },
    /// All lanes of the result are the combination of the first `lanes` of `a`. On `f32`.
    Reduce {
        op: Combine,
        dst: Reg,
        a: Reg,
        lanes: usize,
    },
    /// Lane `l` is `value + l * step`, as `i32`.
    Iota {
        dst: Reg,
        value: Int,
        step: i64,
    },
    /// Applies a function of the runtime table to each lane. Operands and result are of the class that its signature says.
    Call {
        function: usize,
        dst: Reg,
        args: Vec<Reg>,
    },
    /// Executes `body` if the mask is true in any lane.
    IfAny {
        mask: Reg,
        body: Vec<Inst>,
    },
    /// Executes `body` for each value of `counter` in `begin..end`.
    Loop {
        counter: Counter,
        begin: Bound,
        end: Bound,
        body: Vec<Inst>,
    },
}

impl Inst {
    /// The register assigned, if there is one.
    #[inline]
    pub fn dst(&self) -> Option<Reg> {
        match self {
            Inst::Store { .. } | Inst::Tile(_) | Inst::Prefetch { .. } => None,
            Inst::IfAny { .. } | Inst::Loop { .. } => None,
            Inst::Const { dst, .. }
            | Inst::Load { dst, .. }
            | Inst::LoadGuarded { dst, .. }
            | Inst::Copy { dst, .. }
            | Inst::Unary { dst, .. }
            | Inst::Binary { dst, .. }
            | Inst::Shift { dst, .. }
            | Inst::Shuffle { dst, .. }
            | Inst::Fma { dst, .. }
            | Inst::AndOr { dst, .. }
            | Inst::Dot { dst, .. }
            | Inst::Lookup { dst, .. }
            | Inst::Gather { dst, .. }
            | Inst::Widen { dst, .. }
            | Inst::Narrow { dst, .. }
            | Inst::Compare { dst, .. }
            | Inst::Select { dst, .. }
            | Inst::Reduce { dst, .. }
            | Inst::Iota { dst, .. }
            | Inst::Call { dst, .. } => Some(*dst),
        }
    }

    /// The registers read, those of inner instructions aside.
    pub fn operands(&self) -> Operands {
        let mut operands = Operands::new();
        self.each_operand(|r| operands.push(r));
        operands
    }

    /// Calls `f` on the registers read, those of inner instructions aside.
    #[inline]
    pub fn each_operand(&self, mut f: impl FnMut(Reg)) {
        match self {
            Inst::Const { .. }
            | Inst::Load { .. }
            | Inst::Tile(_)
            | Inst::Prefetch { .. }
            | Inst::Iota { .. }
            | Inst::Loop { .. } => {}
            Inst::LoadGuarded { otherwise: a, .. }
            | Inst::Store { src: a, .. }
            | Inst::Copy { a, .. }
            | Inst::Unary { a, .. }
            | Inst::Shift { a, .. }
            | Inst::Reduce { a, .. }
            | Inst::Widen { a, .. }
            | Inst::Lookup { index: a, .. }
            | Inst::Gather { offsets: a, .. }
            | Inst::IfAny { mask: a, .. } => f(*a),
            Inst::Binary { a, b, .. }
            | Inst::Compare { a, b, .. }
            | Inst::Shuffle { a, b, .. }
            | Inst::Narrow { a, b, .. } => {
                [*a, *b].into_iter().for_each(f);
            }
            Inst::Fma { a, b, c, .. } | Inst::AndOr { a, b, c, .. } | Inst::Dot { a, b, c, .. } => {
                [*a, *b, *c].into_iter().for_each(f);
            }
            Inst::Select { mask, a, b, .. } => [*mask, *a, *b].into_iter().for_each(f),
            Inst::Call { args, .. } => args.iter().copied().for_each(f),
        }
    }
}

impl Inst {
    /// Calls `f` on the registers read, those of inner instructions aside.
    pub fn operands_mut(&mut self, f: &mut dyn FnMut(&mut Reg)) {
        match self {
            Inst::Const { .. }
            | Inst::Load { .. }
            | Inst::Tile(_)
            | Inst::Prefetch { .. }
            | Inst::Iota { .. }
            | Inst::Loop { .. } => {}
            Inst::LoadGuarded { otherwise: a, .. }
            | Inst::Store { src: a, .. }
            | Inst::Copy { a, .. }
            | Inst::Unary { a, .. }
            | Inst::Shift { a, .. }
            | Inst::Reduce { a, .. }
            | Inst::Widen { a, .. }
            | Inst::Lookup { index: a, .. }
            | Inst::Gather { offsets: a, .. }
            | Inst::IfAny { mask: a, .. } => f(a),
            Inst::Binary { a, b, .. }
            | Inst::Compare { a, b, .. }
            | Inst::Shuffle { a, b, .. }
            | Inst::Narrow { a, b, .. } => {
                [a, b].into_iter().for_each(f);
            }
            Inst::Fma { a, b, c, .. } | Inst::AndOr { a, b, c, .. } | Inst::Dot { a, b, c, .. } => {
                [a, b, c].into_iter().for_each(f);
            }
            Inst::Select { mask, a, b, .. } => [mask, a, b].into_iter().for_each(f),
            Inst::Call { args, .. } => args.iter_mut().for_each(f),
        }
    }
}
