//! Counting n-grams.

use nestjit_ir::DType;

use super::super::limit;
use super::{Halt, NodeCx, OpEntry, Result, extent, extents, missing, op};
use crate::graph::{Binary, Reduction, ValueId};

pub(super) const OPS: &[OpEntry] = &[op("TfIdfVectorizer", 9, tf_idf)];

/// What becomes of the number of times that an n-gram occurs.
#[derive(Clone, Copy, PartialEq)]
enum Weighting {
    Count,
    Presence,
    WeightedCount,
}

/// The n-grams of one length.
struct Grams<'a> {
    length: usize,
    /// One after the other.
    items: &'a [i64],
}

impl Grams<'_> {
    fn count(&self) -> usize {
        self.items.len() / self.length
    }

    /// Item `i` of each n-gram.
    fn column(&self, i: usize) -> Vec<i64> {
        self.items.chunks_exact(self.length).map(|gram| gram[i]).collect()
    }
}

/// For each row of `x`, how often each n-gram of a pool occurs in it; its items may be apart by the same number of
/// others, up to `max_skip_count`.
fn tf_idf(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    if cx.attributes.has("pool_strings") {
        return Err(Halt::unsupported("n-grams of strings are not supported"));
    }
    let weighting = match cx.attributes.string("mode")?.ok_or_else(|| missing("mode"))? {
        "TF" => Weighting::Count,
        "IDF" => Weighting::Presence,
        "TFIDF" => Weighting::WeightedCount,
        other => return Err(Halt::invalid(format!("there is no mode '{}'", other.escape_debug()))),
    };
    let number = |cx: &NodeCx<'_>, name: &'static str| Ok::<_, Halt>(extent(cx.required_int(name)?, name)?);
    let lengths = number(cx, "min_gram_length")?.max(1)..=number(cx, "max_gram_length")?;
    let skips = number(cx, "max_skip_count")?;
    let ints = |name| cx.attributes.ints(name)?.ok_or_else(|| missing(name));
    let (starts, columns, pool) = (ints("ngram_counts")?, ints("ngram_indexes")?, ints("pool_int64s")?);
    let grams = pool_of(starts, pool)?;
    let columns = extents(columns, "ngram_indexes")?;
    if columns.len() != grams.iter().map(Grams::count).sum::<usize>() || columns.is_empty() {
        return Err(Halt::invalid(format!(
            "there are {} indices, which is not the number of n-grams in the pool",
            columns.len()
        )));
    }
    let weights = cx.attributes.floats("weights")?;

    let x = cx.input(0)?;
    let shape = cx.shape(x);
    let (rows, width) = match shape.as_slice() {
        [width] => (1, *width),
        [rows, width] => (*rows, *width),
        _ => {
            return Err(Halt::shape(format!(
                "the operand must be of rank 1 or 2, but its shape is {shape:?}"
            )));
        }
    };
    if !matches!(cx.dtype(x), DType::I32 | DType::I64) {
        return Err(Halt::shape(format!("the operand must be i32 or i64, not {}", cx.dtype(x))));
    }
    let x = cx.reshape(x, &[rows, width])?;
    let mut counts = Vec::with_capacity(grams.len());
    for grams in &grams {
        let distances = if lengths.contains(&grams.length) { skips.saturating_add(1) } else { 0 };
        counts.push(occurrences(cx, x, width, grams, distances)?);
    }
    let mut y = cx.concat(&counts, 1)?;
    if weighting == Weighting::Presence {
        let some = cx.binary_const(Binary::Gt, y, 0.0)?;
        y = cx.cast(some, DType::F32)?;
    }
    if let Some(weights) = weights.filter(|_| weighting != Weighting::Count) {
        if weights.len() != columns.len() {
            return Err(Halt::invalid(format!(
                "there are {} weights, but {} n-grams",
                weights.len(),
                columns.len()
            )));
        }
        let weights = cx.floats_like(y, &[weights.len()], &weights)?;
        y = cx.binary(Binary::Mul, y, weights)?;
    }
    y = in_columns(cx, y, rows, &columns)?;
    if shape.len() == 1 {
        let columns = cx.elements(y);
        y = cx.reshape(y, &[columns])?;
    }
    Ok(vec![y])
}

/// The n-grams of the pool by their length, from 1 on; `starts` says where those of each length begin.
fn pool_of<'a>(starts: &[i64], pool: &'a [i64]) -> Result<Vec<Grams<'a>>> {
    let starts = extents(starts, "ngram_counts")?;
    let ends = starts.iter().copied().skip(1).chain([pool.len()]);
    let parts = starts.iter().zip(ends).zip(1..);
    parts
        .map(|((start, end), length)| {
            let items = pool.get(*start..end).filter(|items| items.len().is_multiple_of(length));
            let items =
                items.ok_or_else(|| Halt::invalid(format!("ngram_counts {starts:?} do not fit the pool")))?;
            Ok(Grams { length, items })
        })
        .collect()
}

/// `[rows, number of n-grams]`: how often each occurs, with 0, 1, .. others between its items: so many distances.
fn occurrences(
    cx: &mut NodeCx<'_>,
    x: ValueId,
    width: usize,
    grams: &Grams<'_>,
    distances: usize,
) -> Result<ValueId> {
    let rows = cx.shape(x)[0];
    let mut total = None;
    for skip in 0..distances {
        // A single item is the same however many others are skipped.
        if grams.count() == 0 || (grams.length == 1 && skip > 0) {
            break;
        }
        let span = (skip + 1).saturating_mul(grams.length - 1);
        let Some(places) = width.checked_sub(span).filter(|places| *places > 0) else { break };
        let mut found = None;
        for i in 0..grams.length {
            let items = cx.narrow(x, 1, i * (skip + 1), places)?;
            let items = cx.reshape(items, &[rows, 1, places])?;
            let wanted = cx.values(&[grams.count(), 1], &grams.column(i))?;
            let wanted = cx.cast(wanted, cx.dtype(x))?;
            let equal = cx.binary(Binary::Eq, items, wanted)?;
            found = Some(match found {
                None => equal,
                Some(found) => cx.binary(Binary::And, found, equal)?,
            });
        }
        let Some(found) = found else { break };
        let ones = cx.cast(found, DType::F32)?;
        let count = cx.reduce(Reduction::Sum, ones, &[2], false)?;
        total = Some(match total {
            None => count,
            Some(total) => cx.binary(Binary::Add, total, count)?,
        });
    }
    match total {
        Some(total) => Ok(total),
        None => Ok(cx.constant(limit::zeros(DType::F32, &[rows, grams.count()])?)),
    }
}

/// `counts` with each of its columns moved to the one that is given for it; other columns are 0.
fn in_columns(cx: &mut NodeCx<'_>, counts: ValueId, rows: usize, columns: &[usize]) -> Result<ValueId> {
    let width = columns.iter().max().map_or(0, |last| last + 1);
    limit::check_table(DType::I64, &[width])?;
    limit::check_table(DType::F32, &[rows, width])?;
    let nothing = columns.len() as i64;
    let mut sources = vec![nothing; width];
    for (source, column) in columns.iter().enumerate() {
        if sources[*column] != nothing {
            return Err(Halt::unsupported("several n-grams that are counted together are not supported"));
        }
        sources[*column] = source as i64;
    }
    let zero = cx.constant(limit::zeros(DType::F32, &[rows, 1])?);
    let counts = cx.concat(&[counts, zero], 1)?;
    let sources = cx.values(&[width], &sources)?;
    cx.gather(counts, sources, 1)
}
