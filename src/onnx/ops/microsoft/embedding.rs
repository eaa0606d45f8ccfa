//! Sums of rows of tables, normalised.

use nestjit_ir::{CheckKind, DType};

use super::super::quantize::{dequantized, expect_small, number};
use super::{AS_COMPUTED, Halt, NodeCx, OpEntry, Result, contrib, normalized};
use crate::graph::{Binary, Op, Reduction, ValueId};

pub(in super::super) const OPS: &[OpEntry] = &[
    contrib("EmbedLayerNormalization", embed_layer_norm).in_f32(&[2, AS_COMPUTED, 2]),
    contrib("QEmbedLayerNormalization", quantized_embed_layer_norm),
];

/// Tables, and the numbers of the inputs with the rows.
struct Embedding {
    /// Of words, `[W, H]`.
    pub words: ValueId,
    /// Of positions, `[P, H]`.
    pub positions: ValueId,
    /// Of segments, `[S, H]`.
    pub segments: Option<ValueId>,
    /// The input with the rows of the table of segments.
    pub segment_input: usize,
    /// The input with the rows of the table of positions, which are those from the first one on if it is left out.
    pub position_input: Option<usize>,
    /// Where the scales and zero points of the tables are, if these are quantised, in the order of the fields.
    pub parameters: Option<[(usize, usize); 3]>,
}

impl Embedding {
    /// The sum of the rows for each word of input 0, `[B, T]`: `[B, T, H]`.
    pub fn sum(&self, cx: &mut NodeCx<'_>) -> Result<ValueId> {
        let ids = cx.input(0)?;
        let [_, length] = cx.shape(ids)[..] else {
            return Err(Halt::shape(format!(
                "the words must be of rank 2, but their shape is {:?}",
                cx.shape(ids)
            )));
        };
        let words = rows(cx, self.words, ids, 0)?;
        let words = self.numbers(cx, words, 0)?;
        let given = self.position_input.and_then(|input| Some((cx.optional(input)?, input)));
        let positions = match given {
            Some((at, input)) => rows(cx, self.positions, at, input)?,
            None => {
                let most = cx.shape(self.positions).first().copied().unwrap_or(0);
                if length > most {
                    return Err(Halt::shape(format!("there are {length} words, but {most} positions")));
                }
                cx.narrow(self.positions, 0, 0, length)?
            }
        };
        let positions = self.numbers(cx, positions, 1)?;
        let mut sum = cx.binary(Binary::Add, words, positions)?;
        if let Some(table) = self.segments {
            let at = cx.input(self.segment_input)?;
            let segments = rows(cx, table, at, self.segment_input)?;
            let segments = self.numbers(cx, segments, 2)?;
            sum = cx.binary(Binary::Add, sum, segments)?;
        }
        match cx.shape(sum) == cx.shape(words) {
            true => Ok(sum),
            false => Err(Halt::shape("positions or segments do not fit the words")),
        }
    }

    /// What rows of one of the tables stand for.
    fn numbers(&self, cx: &mut NodeCx<'_>, rows: ValueId, table: usize) -> Result<ValueId> {
        match self.parameters {
            Some(parameters) => numbers(cx, rows, parameters[table]),
            None => Ok(rows),
        }
    }
}

/// What the integers of an input stand for, whose scale and zero point are inputs as well.
fn numbers(cx: &mut NodeCx<'_>, x: ValueId, (scale, zero): (usize, usize)) -> Result<ValueId> {
    expect_small(cx, x)?;
    let scale = number(cx, scale, None)?;
    let zero = number(cx, zero, Some(cx.dtype(x)))?;
    dequantized(cx, x, scale, Some(zero))
}

/// Rows of a matrix that an input numbers.
fn rows(cx: &mut NodeCx<'_>, table: ValueId, at: ValueId, input: usize) -> Result<ValueId> {
    let [count, _] = cx.shape(table)[..] else {
        let shape = cx.shape(table);
        return Err(Halt::shape(format!("a table of rows is a matrix, but its shape is {shape:?}")));
    };
    let at = cx.checked(at, input, CheckKind::Index, 0, count as i64)?;
    cx.gather(table, at, 0)
}

/// How many words of each sequence a mask `[B, T]` shows, or 0 without one.
fn mask_index(cx: &mut NodeCx<'_>, mask: Option<ValueId>) -> Result<ValueId> {
    let Some(mask) = mask else {
        let batch = cx.shape(cx.input(0)?).first().copied().unwrap_or(0);
        let nothing = cx.scalar(DType::I32, 0.0);
        return cx.expand(nothing, &[batch]);
    };
    let (shape, words) = (cx.shape(mask), cx.shape(cx.input(0)?));
    if shape != words {
        return Err(Halt::shape(format!("a mask of shape {shape:?} does not fit words of shape {words:?}")));
    }
    let shown = cx.binary_const(Binary::Eq, mask, 1.0)?;
    let shown = cx.cast(shown, DType::I32)?;
    cx.reduce(Reduction::Sum, shown, &[1], false)
}

fn embed_layer_norm(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(9)?;
    // Whether there is a result that tells lengths.
    cx.attributes.ignore(&["mask_index_type"]);
    let epsilon = cx.float("epsilon", 1e-12f32.into())?;
    if cx.optional(1).is_some() != cx.optional(4).is_some() {
        return Err(Halt::invalid("segments need a table, and a table of segments needs them"));
    }
    let tables = Embedding {
        words: cx.input(2)?,
        positions: cx.input(3)?,
        segments: cx.optional(4),
        segment_input: 1,
        position_input: Some(8),
        parameters: None,
    };
    let (gamma, beta) = (cx.input(5)?, cx.input(6)?);
    let sum = tables.sum(cx)?;
    cx.expect_float(sum)?;
    let mask = cx.optional(7);
    let lengths = mask_index(cx, mask)?;
    let y = normalized(cx, Op::LayerNorm { axis: 2, epsilon }, 2, sum, gamma, Some(beta))?;
    Ok(vec![y, lengths, sum])
}

/// The same with tables, scale and shift of bytes.
fn quantized_embed_layer_norm(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(18)?;
    let epsilon = cx.float("epsilon", 1e-12f32.into())?;
    let of_segments = [1, 4, 10, 15].map(|input| cx.optional(input).is_some());
    if of_segments.iter().any(|given| *given != of_segments[0]) {
        return Err(Halt::invalid("segments, their table, its scale and its zero point belong together"));
    }
    let tables = Embedding {
        words: cx.input(2)?,
        positions: cx.input(3)?,
        segments: cx.optional(4),
        segment_input: 1,
        position_input: None,
        parameters: Some([(8, 13), (9, 14), (10, 15)]),
    };
    let (gamma, beta) = (cx.input(5)?, cx.input(6)?);
    let (gamma, beta) = (numbers(cx, gamma, (11, 16))?, numbers(cx, beta, (12, 17))?);
    let sum = tables.sum(cx)?;
    let mask = cx.optional(7);
    let lengths = mask_index(cx, mask)?;
    let y = normalized(cx, Op::LayerNorm { axis: 2, epsilon }, 2, sum, gamma, Some(beta))?;
    Ok(vec![y, lengths])
}
