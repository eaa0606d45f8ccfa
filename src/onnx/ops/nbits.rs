//! ONNX Runtime's operators on weights of few bits, in blocks that have a scale and a zero point each.

use nestjit_ir::DType;

use super::gather::gather_by_input;
use super::quantize::{dequantized, expect_zero_like};
use super::{Halt, NodeCx, OpEntry, Result, axis, contrib, extent, missing, one};
use crate::graph::{Binary, Op, ValueId};

pub(super) const OPS: &[OpEntry] = &[
    contrib("GatherBlockQuantized", gather_block_quantized).in_f32(&[2]),
    contrib("MatMulNBits", matmul_nbits).in_f32(&[0]),
];

/// How integers lie in their bytes.
#[derive(Clone, Copy)]
struct Packing {
    bits: usize,
    block: usize,
}

impl Packing {
    /// What the attributes say; some operators have a block size of their own.
    fn of(cx: &NodeCx<'_>, default: Option<i64>) -> Result<Packing> {
        let bits = cx.int("bits", 4)?;
        if !matches!(bits, 2 | 4 | 8) {
            return Err(Halt::unsupported(format!("bits is {bits}, but only 2, 4 and 8 are supported")));
        }
        let block = cx.attributes.int("block_size")?.or(default).ok_or_else(|| missing("block_size"))?;
        if block < 16 || block.count_ones() != 1 {
            let message = format!("block_size is {block}, but it must be a power of 2 and at least 16");
            return Err(Halt::invalid(message));
        }
        Ok(Packing { bits: bits as usize, block: extent(block, "block_size")? })
    }
}

/// An error that says which shape a value has, and which ones are possible.
fn misfit<T>(cx: &NodeCx<'_>, x: ValueId, needed: &str) -> Result<T> {
    let value = cx.sink.graph.value(x);
    let (name, shape) = (value.name.escape_debug(), &value.shape);
    Err(Halt::shape(format!("'{name}' has the shape {shape:?}, but {needed} is needed")))
}

/// A positive attribute.
fn count(cx: &NodeCx<'_>, name: &'static str) -> Result<usize> {
    match cx.required_int(name)? {
        n if n > 0 => Ok(extent(n, name)?),
        n => Err(Halt::invalid(format!("{name} must be positive, but is {n}"))),
    }
}

/// A parameter with one element for each of `n` columns and each block, in rows for blocks. It may be given as a list.
fn by_block(cx: &mut NodeCx<'_>, x: ValueId, n: usize, blocks: usize) -> Result<ValueId> {
    let shape = cx.shape(x);
    if shape != [n, blocks] && (shape.len() != 1 || Some(shape[0]) != n.checked_mul(blocks)) {
        return misfit(cx, x, &format!("[{n}, {blocks}]"));
    }
    let x = cx.reshape(x, &[n, blocks])?;
    cx.transpose(x, &[1, 0])
}

/// Zero points of few bits, which begin a byte for each column, as `u8`, in rows for blocks.
fn packed_zeros(cx: &mut NodeCx<'_>, zero: ValueId, n: usize, blocks: usize, bits: usize) -> Result<ValueId> {
    let bytes = blocks.checked_mul(bits).map_or(usize::MAX, |bits| bits.div_ceil(8));
    let shape = cx.shape(zero);
    if shape != [n, bytes] && (shape.len() != 1 || Some(shape[0]) != n.checked_mul(bytes)) {
        return misfit(cx, zero, &format!("[{n}, {bytes}]"));
    }
    let zero = cx.reshape(zero, &[n, bytes])?;
    let zero = unpacked(cx, zero, bits)?;
    let zero = cx.narrow(zero, 1, 0, blocks)?;
    cx.transpose(zero, &[1, 0])
}

/// The integers of the bytes of a tensor, `u8`: along its last dimension, those of a byte one behind the other.
fn unpacked(cx: &mut NodeCx<'_>, bytes: ValueId, bits: usize) -> Result<ValueId> {
    if bits == 8 {
        return Ok(bytes);
    }
    let mut shape = cx.shape(bytes);
    let bytes = cx.unsqueeze(bytes, shape.len())?;
    let parts = (0..8 / bits)
        .map(|place| {
            let moved = cx.binary_const(Binary::Shr, bytes, (place * bits) as f64)?;
            cx.binary_const(Binary::And, moved, f64::from((1u32 << bits) - 1))
        })
        .collect::<Result<Vec<_>>>()?;
    let numbers = cx.concat(&parts, shape.len())?;
    if let Some(last) = shape.last_mut() {
        *last *= 8 / bits;
    }
    cx.reshape(numbers, &shape)
}

fn matmul_nbits(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(6)?;
    // To which precision `A` may be rounded; it never is.
    let accuracy = cx.int("accuracy_level", 0)?;
    if !(0..=4).contains(&accuracy) {
        return Err(Halt::invalid(format!("accuracy_level is {accuracy}, but must be 0 to 4")));
    }
    if cx.int("weight_prepacked", 0)? != 0 {
        let message = "weights in the layout of another runtime (weight_prepacked) are not supported";
        return Err(Halt::unsupported(message));
    }
    let packing @ Packing { bits, block } = Packing::of(cx, None)?;
    let (k, n) = (count(cx, "K")?, count(cx, "N")?);
    let (x, q, scale) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    cx.expect_float(x)?;
    cx.expect_type(q, |q| q == DType::U8, "u8")?;
    let mut shape = cx.shape(x);
    if shape.last() != Some(&k) {
        return misfit(cx, x, &format!("[.., {k}]"));
    }
    let blocks = k.div_ceil(block);
    // A block is a multiple of 8.
    let whole = [n, blocks, block / 8 * bits];
    let own = cx.shape(q);
    // Weights that are left out have no elements.
    let fits = own.len() == 3 && own.iter().zip(whole).all(|(own, whole)| *own == whole || *own == 0);
    if !fits {
        return misfit(cx, q, &format!("{whole:?}"));
    }
    let y = if own.contains(&0) {
        cx.attributes.ignore(&["bits"]);
        for unused in 2..5 {
            cx.optional(unused);
        }
        let zero = cx.scalar_like(x, 0.0);
        if let Some(last) = shape.last_mut() {
            *last = n;
        }
        cx.expand(zero, &shape)?
    } else {
        let dtype = cx.dtype(x);
        cx.expect_type(scale, |scale| scale == dtype, dtype.name())?;
        in_order(cx, k, packing.block)?;
        let scale = by_block(cx, scale, n, blocks)?;
        let mut inputs = vec![x, q, scale];
        if let Some(zero) = cx.optional(3) {
            cx.expect_type(zero, |zero| zero == DType::U8 || zero == dtype, &format!("u8 or {dtype}"))?;
            inputs.push(match cx.dtype(zero) == DType::U8 {
                true => packed_zeros(cx, zero, n, blocks, bits)?,
                false => by_block(cx, zero, n, blocks)?,
            });
        }
        cx.add(Op::PackedMatMul { bits, block }, &inputs)?
    };
    let Some(bias) = cx.optional(5) else { return Ok(vec![y]) };
    if cx.shape(bias) != [n] {
        return misfit(cx, bias, &format!("[{n}]"));
    }
    let dtype = cx.dtype(y);
    cx.expect_type(bias, |bias| bias == dtype, dtype.name())?;
    one(cx.binary(Binary::Add, y, bias))
}

/// An error unless the group of each row of the matrix, if these are given, is the block that it lies in.
fn in_order(cx: &mut NodeCx<'_>, k: usize, block: usize) -> Result<()> {
    let Some(groups) = cx.optional(4) else { return Ok(()) };
    let groups = cx.known_ints(groups, "the input 'g_idx'")?;
    let ordered = groups.len() == k && groups.iter().enumerate().all(|(k, at)| *at == (k / block) as i64);
    if ordered {
        return Ok(());
    }
    Err(Halt::unsupported("groups of rows (g_idx) that are not the blocks in order are not supported"))
}

/// Rows, or other parts, of a quantised tensor. Only what is picked is taken out of its bytes.
fn gather_block_quantized(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(4)?;
    let (data, indices, scale) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let zero = cx.optional(3);
    let whole = cx.sink.nibble(data).is_some();
    cx.expect_type(data, |data| data == DType::U8 || whole, "int4, uint4 or u8")?;
    cx.expect_type(indices, |i| matches!(i, DType::I32 | DType::I64), "i32 or i64")?;
    cx.expect_float(scale)?;
    expect_zero_like(cx, zero, data)?;
    let Packing { bits, block } = Packing::of(cx, Some(128))?;
    let rank = cx.rank(data);
    let (picked, along) = (axis(cx.int("gather_axis", 0)?, rank)?, axis(cx.int("quantize_axis", 1)?, rank)?);
    if picked == along {
        let message = format!("gather_axis and quantize_axis are both {along}, which is not supported");
        return Err(Halt::unsupported(message));
    }
    if !whole && picked != 0 {
        return Err(Halt::invalid(format!("gather_axis is {picked}, but it must be 0 for u8")));
    }
    // What is of four bits by its type has a byte for each in memory.
    let own_bits = if whole { 8 } else { bits };
    let mut parameters = cx.shape(data);
    parameters[rank - 1] = parameters[rank - 1].saturating_mul(8 / own_bits);
    parameters[along] = parameters[along].div_ceil(block);
    if cx.shape(scale) != parameters {
        return misfit(cx, scale, &format!("{parameters:?}"));
    }
    let count = parameters[rank - 1];
    parameters[rank - 1] = count.saturating_mul(own_bits).div_ceil(8);
    if let Some(zero) = zero.filter(|zero| cx.shape(*zero) != parameters) {
        return misfit(cx, zero, &format!("{parameters:?}"));
    }
    let q = gather_by_input(cx, data, 1, picked)?;
    let q = unpacked(cx, q, own_bits)?;
    let along = if along > picked { along + cx.rank(indices) - 1 } else { along };
    let blocks: Vec<i64> = (0..cx.shape(q)[along]).map(|i| (i / block) as i64).collect();
    let blocks = cx.values(&[blocks.len()], &blocks)?;
    let scale = gather_by_input(cx, scale, 1, picked)?;
    let scale = cx.gather(scale, blocks, along)?;
    let zero = match zero {
        Some(zero) => {
            let zero = gather_by_input(cx, zero, 1, picked)?;
            let zero = match whole {
                true => zero,
                false => {
                    let zero = unpacked(cx, zero, bits)?;
                    let last = cx.rank(zero) - 1;
                    cx.narrow(zero, last, 0, count)?
                }
            };
            Some(cx.gather(zero, blocks, along)?)
        }
        None if whole => None,
        None => Some(cx.scalar(DType::U8, f64::from(1u32 << (bits - 1)))),
    };
    one(dequantized(cx, q, scale, zero))
}
