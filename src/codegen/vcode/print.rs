//! The textual form of kernels, for dumps and tests.

use std::fmt::{Display, Formatter, Result, Write};

use super::tiles::TileInst;
use super::{
    Access, Arg, ArgId, Bound, Class, Counter, DotKind, Guard, Inst, Int, Kernel, MemType, Reg, Shuffle,
};

impl Display for Reg {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "v{}", self.0)
    }
}

impl Display for Counter {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "i{}", self.0)
    }
}

impl Display for ArgId {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "a{}", self.0)
    }
}

impl Display for Bound {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Bound::Const(c) => write!(f, "{c}"),
            Bound::Arg(a) => write!(f, "{a}"),
        }
    }
}

fn sum(f: &mut Formatter<'_>, arg: Option<ArgId>, terms: &[(Counter, i64)], offset: i64) -> Result {
    let mut separator = "";
    if let Some(arg) = arg {
        write!(f, "{arg}")?;
        separator = " + ";
    }
    for (counter, c) in terms {
        write!(f, "{separator}{c}*{counter}")?;
        separator = " + ";
    }
    if offset != 0 || separator.is_empty() {
        write!(f, "{separator}{offset}")?;
    }
    Ok(())
}

impl Display for Int {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        sum(f, self.arg, &self.terms, self.offset)
    }
}

impl Display for Access {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_char('[')?;
        sum(f, Some(self.address.base), &self.address.terms, self.address.offset)?;
        f.write_char(']')?;
        if self.ty != MemType::F32 {
            write!(f, " {:?}", self.ty)?;
        }
        match self.stride {
            0 => write!(f, " x1"),
            _ if self.is_contiguous() => write!(f, " x{}", self.lanes),
            stride => write!(f, " x{} by {stride}", self.lanes),
        }
    }
}

impl Display for Guard {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{} <= {}", self.lo, self.value)?;
        if self.step != 0 {
            write!(f, " + {}*lane", self.step)?;
        }
        write!(f, " <= {}", self.hi)
    }
}

impl Display for Kernel {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "kernel x{}", self.lanes)?;
        for (i, arg) in self.args.iter().enumerate() {
            write!(f, "  a{i} = ")?;
            match arg {
                Arg::Pointer(buf, offset) => writeln!(f, "buffer {} + {}", buf.0, Outer(offset))?,
                Arg::Element(buf, at, offset) => {
                    write!(f, "buffer {}", buf.0)?;
                    for (dim, _) in at {
                        write!(f, ", element of dimension {dim}")?;
                    }
                    writeln!(f, " + {}", Outer(offset))?;
                }
                Arg::Scratch => writeln!(f, "scratch, {} bytes", self.scratch_bytes)?,
                Arg::Int(value) => writeln!(f, "{}", Outer(value))?,
                Arg::Begin(at) => writeln!(f, "begin {at}")?,
                Arg::End(at) => writeln!(f, "end {at}")?,
            }
        }
        block(f, self, &self.body, 1)
    }
}

/// An affine expression of the variables around a kernel.
struct Outer<'a>(&'a nestjit_ir::Affine);

impl Display for Outer<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        for (v, c) in self.0.terms() {
            write!(f, "{c}*var{} + ", v.0)?;
        }
        write!(f, "{}", self.0.offset())
    }
}

fn block(f: &mut Formatter<'_>, kernel: &Kernel, body: &[Inst], depth: usize) -> Result {
    for inst in body {
        write!(f, "{:width$}", "", width = depth * 2)?;
        match inst {
            Inst::Const { dst, bits } => match kernel.class(*dst) {
                Class::F32 => writeln!(f, "{dst} = {:?}", f32::from_bits(*bits as u32))?,
                Class::F64 => writeln!(f, "{dst} = {:?}", f64::from_bits(*bits))?,
                Class::I32 | Class::I64 | Class::Mask | Class::Mask64 => writeln!(f, "{dst} = {bits:#x}")?,
            },
            Inst::Load { dst, from } => writeln!(f, "{dst} = load {from}")?,
            Inst::LoadGuarded { dst, from, guards, otherwise } => {
                write!(f, "{dst} = load {from}")?;
                for (i, guard) in guards.iter().enumerate() {
                    write!(f, "{} {guard}", if i == 0 { " if" } else { "," })?;
                }
                writeln!(f, " else {otherwise}")?;
            }
            Inst::Store { src, to } => writeln!(f, "store {src}, {to}")?,
            Inst::Tile(tile) => writeln!(f, "{tile}")?,
            Inst::Prefetch { at, to } => writeln!(f, "prefetch {at} to {to:?}")?,
            Inst::Copy { dst, a } => writeln!(f, "{dst} = {a}")?,
            Inst::Unary { op, dst, a } => writeln!(f, "{dst} = {op:?} {a}")?,
            Inst::Binary { op, dst, a, b } => writeln!(f, "{dst} = {op:?} {a}, {b}")?,
            Inst::Shift { op, dst, a, amount } => writeln!(f, "{dst} = Shift{op:?} {a}, {amount}")?,
            Inst::Shuffle { op, dst, a, b } => {
                let name = match op {
                    Shuffle::Interleave { unit, upper: false } => format!("InterleaveLower{unit}"),
                    Shuffle::Interleave { unit, upper: true } => format!("InterleaveUpper{unit}"),
                    Shuffle::Blocks { odd: false } => "EvenBlocks".to_owned(),
                    Shuffle::Blocks { odd: true } => "OddBlocks".to_owned(),
                };
                writeln!(f, "{dst} = {name} {a}, {b}")?;
            }
            Inst::Fma { dst, a, b, c } => writeln!(f, "{dst} = Fma {a}, {b}, {c}")?,
            Inst::AndOr { dst, a, b, c } => writeln!(f, "{dst} = AndOr {a}, {b}, {c}")?,
            Inst::Dot { kind: DotKind::Bytes, dst, a, b, c } => writeln!(f, "{dst} = Dot {a}, {b}, {c}")?,
            Inst::Dot { kind: DotKind::Bf16, dst, a, b, c } => {
                writeln!(f, "{dst} = DotBf16 {a}, {b}, {c}")?;
            }
            Inst::Lookup { dst, index, table } => writeln!(f, "{dst} = lookup {index} in {table}")?,
            Inst::Gather { dst, offsets, from, first: None } => {
                writeln!(f, "{dst} = gather {from} by {offsets}.0")?;
            }
            Inst::Gather { dst, offsets, from, first: Some(first) } => {
                writeln!(f, "{dst} = gather {from} by {offsets}.{first}..")?;
            }
            Inst::Widen { op, dst, a, upper } => {
                let half = if *upper { "Upper" } else { "Lower" };
                writeln!(f, "{dst} = Widen{op:?}{half} {a}")?;
            }
            Inst::Narrow { op, dst, a, b } => writeln!(f, "{dst} = Narrow{op:?} {a}, {b}")?,
            Inst::Compare { op, dst, a, b } => writeln!(f, "{dst} = {op:?} {a}, {b}")?,
            Inst::Select { dst, mask, a, b } => writeln!(f, "{dst} = Select {mask}, {a}, {b}")?,
            Inst::Reduce { op, dst, a, lanes } => writeln!(f, "{dst} = Reduce{op:?} {a} x{lanes}")?,
            Inst::Iota { dst, value, step } => writeln!(f, "{dst} = Iota {value} + {step}*lane")?,
            Inst::Call { function, dst, args } => {
                write!(f, "{dst} = call {}(", super::super::runtime_fns::TABLE[*function].name)?;
                for (i, a) in args.iter().enumerate() {
                    write!(f, "{}{a}", if i == 0 { "" } else { ", " })?;
                }
                writeln!(f, ")")?;
            }
            Inst::IfAny { mask, body } => {
                writeln!(f, "if any {mask} {{")?;
                block(f, kernel, body, depth + 1)?;
                writeln!(f, "{:width$}}}", "", width = depth * 2)?;
            }
            Inst::Loop { counter, begin, end, body } => {
                writeln!(f, "for {counter} in {begin}..{end} {{")?;
                block(f, kernel, body, depth + 1)?;
                writeln!(f, "{:width$}}}", "", width = depth * 2)?;
            }
        }
    }
    Ok(())
}

impl Display for TileInst {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            TileInst::Configure(shapes) => {
                write!(f, "tiles")?;
                shapes.0.iter().try_for_each(|(rows, bytes)| write!(f, " {rows}x{bytes}"))
            }
            TileInst::Release => write!(f, "release tiles"),
            TileInst::Load { tile, from } => write!(f, "t{tile} = load {from} rows {} apart", from.stride),
            TileInst::Store { tile, to } => write!(f, "store t{tile}, {to} rows {} apart", to.stride),
            TileInst::Dot { of, sum, a, b } => write!(f, "t{sum} += {of:?} t{a}, t{b}"),
        }
    }
}
