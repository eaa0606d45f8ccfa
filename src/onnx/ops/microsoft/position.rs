//! Positions: rotations of heads, and biases of scores by the distance of two positions.

use nestjit_ir::{CheckKind, DType};

use super::super::attention::{count, heads, join_heads, turned};
use super::super::gather::steps;
use super::attention::head_count;
use super::{Halt, NodeCx, OpEntry, Result, contrib, extent, one, switch};
use crate::graph::{Binary, Reduction, Unary, ValueId};

pub(in super::super) const OPS: &[OpEntry] = &[
    contrib("GatedRelativePositionBias", gated_relative_position_bias).in_f32(&[0]),
    contrib("RelativePositionBias", relative_position_bias),
    contrib("RotaryEmbedding", rotary_embedding).in_f32(&[0]),
];

/// Rows of tables of cosines and sines, `[P, R]`, for heads `[B, N, T, D]` at positions `i64[B, T]` or `i64[1, T]`, all of
/// which are inside: `[B, 1, T, R]` or `[1, 1, T, R]`.
pub(super) fn angles(
    cx: &mut NodeCx<'_>,
    tables: [ValueId; 2],
    positions: ValueId,
    head: usize,
) -> Result<[ValueId; 2]> {
    let mut angles = tables;
    for angle in &mut angles {
        let shape = cx.shape(*angle);
        let [_, half] = shape[..] else {
            return Err(Halt::shape(format!(
                "a table of angles must be a matrix, but its shape is {shape:?}"
            )));
        };
        if cx.shape(tables[0]) != shape || half.saturating_mul(2) > head {
            return Err(Halt::shape(format!(
                "tables of angles of shape {shape:?} do not fit heads of {head}"
            )));
        }
        let rows = cx.gather(*angle, positions, 0)?;
        *angle = cx.unsqueeze(rows, 1)?;
    }
    Ok(angles)
}

fn rotary_embedding(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(4)?;
    // Sequences of one batch that are of different lengths have positions of their own in any case.
    cx.attributes.ignore(&["is_packed_batching"]);
    let scale = cx.float("scale", 1.0)?;
    if scale != 1.0 {
        return Err(Halt::unsupported(format!("scale is {scale}, but only 1 is supported")));
    }
    let (x, positions, tables) = (cx.input(0)?, cx.input(1)?, [cx.input(2)?, cx.input(3)?]);
    cx.expect_float(x)?;
    let interleaved = switch(cx, "interleaved")?;
    let (shape, table) = (cx.shape(x), cx.shape(tables[0]));
    let [most, half] = table[..] else {
        return Err(Halt::shape(format!("a table of angles must be a matrix, but its shape is {table:?}")));
    };
    let declared = extent(cx.int("rotary_embedding_dim", 0)?, "rotary_embedding_dim")?;
    if declared != 0 && declared != half.saturating_mul(2) {
        return Err(Halt::invalid(format!(
            "rotary_embedding_dim is {declared}, but the tables of angles have {half} columns"
        )));
    }
    let flat = shape.len() == 3;
    let number = match count(cx, "num_heads")? {
        Some(n) if n > 0 => Some(n),
        // Heads are rotated as a whole.
        _ if flat && half > 0 => Some(shape[2] / (2 * half)),
        _ => None,
    };
    let x = heads(cx, x, number)?;
    let [b, _, t, d] = cx.shape(x)[..] else { return Err(Halt::internal("heads of another rank")) };
    let positions = match cx.shape(positions)[..] {
        // Where the first one of each sequence is.
        [] | [1] => {
            let Some(last) = most.checked_sub(t) else {
                return Err(Halt::shape(format!("there are {t} positions, but {most} rows of angles")));
            };
            let first = cx.checked(positions, 1, CheckKind::Position, 0, last as i64 + 1)?;
            let row = steps(cx, 2, 1, t, 1)?;
            let first = cx.reshape(first, &[1, 1])?;
            cx.binary(Binary::Add, row, first)?
        }
        [own, length] if (own, length) == (b, t) => {
            cx.checked(positions, 1, CheckKind::Position, 0, most as i64)?
        }
        ref other => {
            return Err(Halt::shape(format!("positions of shape {other:?} do not fit {b} sequences of {t}")));
        }
    };
    let angles = angles(cx, tables, positions, d)?;
    let y = turned(cx, x, angles, interleaved)?;
    one(if flat { join_heads(cx, y) } else { Ok(y) })
}

/// The bucket of a distance: one for each that is small, and logarithmically larger ones up to `most`.
fn bucket(distance: i64, buckets: i64, most: i64, bidirectional: bool) -> i64 {
    let (first, buckets, distance) = match bidirectional {
        true => (if distance > 0 { buckets / 2 } else { 0 }, buckets / 2, distance.abs()),
        false => (0, buckets, (-distance).max(0)),
    };
    let exact = buckets / 2;
    if distance < exact {
        return first + distance;
    }
    let (exact_f, most) = (exact as f32, most as f32);
    let far = (distance as f32 / exact_f).ln() / (most / exact_f).ln() * (buckets - exact) as f32;
    first + (exact + far as i64).min(buckets - 1)
}

/// A row of a table for each pair of positions, by how far they are apart: `[1, N, Q, K]`.
fn relative_position_bias(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(3)?;
    let (table, queries, keys) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    cx.expect_float(table)?;
    let most = cx.required_int("max_distance")?;
    let bidirectional = switch(cx, "is_bidirectional")?;
    let shape = cx.shape(table);
    let [buckets, heads] = shape[..] else {
        return Err(Halt::shape(format!("the table must be a matrix, but its shape is {shape:?}")));
    };
    let least = if bidirectional { 4 } else { 2 };
    if buckets < least || most <= (buckets / least) as i64 {
        return Err(Halt::invalid(format!(
            "max_distance is {most}, which is not possible with {buckets} buckets"
        )));
    }
    let queries = extent(cx.known_int(queries, "query_length")?, "query_length")?;
    let keys = extent(cx.known_int(keys, "key_length")?, "key_length")?;
    super::super::super::limit::check_table(DType::I64, &[queries, keys])?;
    let distances = (0..queries as i64).flat_map(|q| (0..keys as i64).map(move |k| k - q));
    let rows: Vec<i64> = distances.map(|d| bucket(d, buckets as i64, most, bidirectional)).collect();
    let rows = cx.values(&[queries, keys], &rows)?;
    // The buckets of a head lie side by side, whatever the shape says.
    let table = cx.reshape(table, &[heads, buckets])?;
    let y = cx.gather(table, rows, 1)?;
    one(cx.unsqueeze(y, 0))
}

/// A bias by position times a gate for each query and head.
fn gated_relative_position_bias(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(7)?;
    if cx.optional(6).is_some() {
        return Err(Halt::unsupported("packed tokens (token_offset) are not supported"));
    }
    let (query, bias, position) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let (weight, addend, eco) = (cx.input(3)?, cx.input(4)?, cx.input(5)?);
    cx.expect_float(query)?;
    let n = head_count(cx, "num_heads")?;
    let biased = cx.binary(Binary::Add, query, bias)?;
    let q = heads(cx, biased, Some(n))?;
    let gates = cx.matmul(q, weight)?;
    let gates = cx.binary(Binary::Add, gates, addend)?;
    let [b, h, t, width] = cx.shape(gates)[..] else {
        return Err(Halt::shape("the gates must be of rank 4"));
    };
    if !width.is_multiple_of(2) {
        return Err(Halt::shape(format!("{width} columns of weights cannot be cut in half")));
    }
    let halves = cx.reshape(gates, &[b, h, t, 2, width / 2])?;
    let sums = cx.reduce(Reduction::Sum, halves, &[4], false)?;
    let gates = cx.unary(Unary::Sigmoid, sums)?;
    let (update, reset) = (cx.narrow(gates, 3, 0, 1)?, cx.narrow(gates, 3, 1, 1)?);
    let scaled = cx.binary(Binary::Mul, reset, eco)?;
    let shifted = cx.binary_const(Binary::Sub, scaled, 1.0)?;
    let gate = cx.binary(Binary::Mul, update, shifted)?;
    let gate = cx.binary_const(Binary::Add, gate, 2.0)?;
    one(cx.binary(Binary::Mul, gate, position))
}
