//! Pooling: a window that slides over the spatial dimensions, its elements combined.

use nestjit_ir::{Affine, Expr, ReduceOp};

use super::context::{Context, Loop, accumulate, loops};
use super::image::{ImageLoops, image_index, spatial_dims, spatial_loops, window_index, windows_inside};
use crate::error::Result;
use crate::graph::{Format, PoolKind, Window};

fn combine(kind: PoolKind) -> ReduceOp {
    match kind {
        PoolKind::Max => ReduceOp::Max,
        PoolKind::Average { .. } => ReduceOp::Add,
    }
}

/// How many elements each window of an average is divided by.
enum Count {
    Same(usize),
    /// One number per window, row-major.
    Varies(Vec<f64>),
}

pub(super) fn pool(cx: &mut Context<'_, '_>, kind: PoolKind, window: &Window, format: Format) -> Result<()> {
    let x = cx.array(0)?;
    let y = cx.result()?;
    let rank = x.shape.len();
    let dims = spatial_dims(format, rank);
    let (input, output) = (&x.shape[dims.clone()], &y.shape[dims]);
    let padded = !windows_inside(window, input, output);
    // Padding must change nothing: it is the identity of what combines.
    let (op, outside) = (combine(kind), combine(kind).identity(x.dtype));
    let count = match kind {
        PoolKind::Max => None,
        PoolKind::Average { count_include_pad } => Some(count(window, input, output, count_include_pad)),
    };
    let table = match &count {
        Some(Count::Varies(values)) => Some(cx.table("count", x.dtype, output, values)?),
        _ => None,
    };

    let channels = y.shape[format.channel_axis(rank)];
    let outer = ImageLoops::new(format, y.shape[0], vec![("c".into(), channels)], spatial_loops("o", output));
    let reduced = spatial_loops("k", &window.kernel);
    let acc = cx.name("acc");
    let mut b = cx.nest("");
    loops(&mut b, &outer.loops, |b, vars| {
        let (c, o) = (outer.channels(vars)[0], outer.spatial(vars));
        let total = accumulate(b, &acc, op, y.dtype, &reduced, |k| {
            let at = image_index(format, vars[0], c, window_index(window, o, k));
            if padded { x.at_or(at, outside) } else { x.at(at) }
        });
        let value = match (&table, &count) {
            (Some(table), _) => total / table.at(o),
            (None, Some(Count::Same(count))) => total / Expr::literal(y.dtype, *count as f64),
            (None, _) => total,
        };
        y.store(b, vars, value);
    });
    b.finish();
    Ok(())
}

/// What the sums of an average are divided by: elements within the tensor, or within the padded tensor. What
/// lies beyond the padding (in ceil mode) never counts.
fn count(window: &Window, input: &[usize], output: &[usize], include_pad: bool) -> Count {
    // Positions are those in the padded tensor; the elements of window `o` that lie in `from..to`.
    let elements = |d: usize, o: usize, from: usize, to: usize| {
        let start = o * window.strides[d];
        let before =
            |end: usize| end.saturating_sub(start).div_ceil(window.dilations[d]).min(window.kernel[d]);
        before(to) - before(from)
    };
    let per_dim: Vec<Vec<usize>> = (0..input.len())
        .map(|d| {
            let begin = window.pads_begin[d];
            let (from, to) = if include_pad {
                (0, begin + input[d] + window.pads_end[d])
            } else {
                (begin, begin + input[d])
            };
            (0..output[d]).map(|o| elements(d, o, from, to)).collect()
        })
        .collect();
    let mut counts = vec![1];
    for dim in &per_dim {
        counts = counts.iter().flat_map(|c| dim.iter().map(move |d| c * d)).collect();
    }
    match counts.iter().all(|c| *c == counts[0]) {
        true => Count::Same(counts[0]),
        false => Count::Varies(counts.into_iter().map(|c| c as f64).collect()),
    }
}

pub(super) fn global_pool(cx: &mut Context<'_, '_>, kind: PoolKind, format: Format) -> Result<()> {
    let x = cx.operand(0)?;
    let y = cx.result()?;
    let rank = y.shape.len();
    let spatial = &x.shape()[spatial_dims(format, rank)];
    let elements: usize = spatial.iter().product();
    let reduced = spatial_loops("", spatial);
    let outer: [Loop; 2] = [("n".into(), y.shape[0]), ("c".into(), y.shape[format.channel_axis(rank)])];
    let acc = cx.name("acc");
    let mut b = cx.nest("");
    loops(&mut b, &outer, |b, vars| {
        let total = accumulate(b, &acc, combine(kind), y.dtype, &reduced, |k| {
            x.at(image_index(format, vars[0], vars[1], k.iter().map(|k| Affine::var(*k))))
        });
        let value = match kind {
            PoolKind::Max => total,
            PoolKind::Average { .. } => total / Expr::literal(y.dtype, elements as f64),
        };
        let corner = vec![Affine::constant(0); spatial.len()];
        y.store(b, image_index(format, vars[0], vars[1], corner), value);
    });
    b.finish();
    Ok(())
}
