//! Operations that only move elements.

use ndarray::{ArrayD, Axis, IxDyn, Slice};
use nestjit_ir::CheckKind;

use super::array::wrap;
use super::elementwise::spread;
use super::scalar::{binary_float, binary_int, float_to_int};
use super::{Array, Data, map_data};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Binary, PadMode, Reduction};

pub(super) fn reshape(x: &Array, shape: &[usize]) -> Array {
    map_data!(x, values => values
        .to_shape(IxDyn(shape))
        .expect("inference checks the number of elements")
        .as_standard_layout()
        .into_owned())
}

pub(super) fn transpose(x: &Array, perm: &[usize]) -> Array {
    map_data!(x, values => values.view().permuted_axes(perm).as_standard_layout().into_owned())
}

/// The tensor of this shape whose element at each index is `x` at `source(index)`.
fn pick<T: Copy>(x: &ArrayD<T>, shape: &[usize], source: impl Fn(&[usize]) -> Vec<usize>) -> ArrayD<T> {
    ArrayD::from_shape_fn(IxDyn(shape), |index| {
        use ndarray::Dimension;
        x[source(index.as_array_view().as_slice().expect("an index is contiguous")).as_slice()]
    })
}

pub(super) fn slice(x: &Array, starts: &[usize], steps: &[i64], shape: &[usize]) -> Array {
    if steps.iter().all(|step| *step > 0) && !shape.contains(&0) {
        let along = |d: usize| {
            let last = starts[d] + (shape[d] - 1) * steps[d] as usize;
            Slice::new(starts[d] as isize, Some(last as isize + 1), steps[d] as isize)
        };
        return map_data!(x, values => values.slice_each_axis(|a| along(a.axis.index())).to_owned());
    }
    let source = |index: &[usize]| -> Vec<usize> {
        let along = |d: usize| (starts[d] as i64 + index[d] as i64 * steps[d]) as usize;
        (0..index.len()).map(along).collect()
    };
    map_data!(x, values => pick(values, shape, source))
}

pub(super) fn pad(x: &Array, begin: &[i64], end: &[i64], mode: PadMode, shape: &[usize]) -> Array {
    // Elements are removed first; the border is made of what remains.
    let removed = |pads: &[i64], d: usize| pads[d].min(0).unsigned_abs() as usize;
    let starts: Vec<usize> = (0..shape.len()).map(|d| removed(begin, d).min(x.shape()[d])).collect();
    let remaining: Vec<usize> =
        (0..shape.len()).map(|d| (x.shape()[d] - starts[d]).saturating_sub(removed(end, d))).collect();
    // Removing more than there is leaves nothing to copy, and shifts what is added by the excess.
    let place = |d: usize, index: usize| -> Option<usize> {
        let at = index as i64 - begin[d] - starts[d] as i64;
        let n = remaining[d] as i64;
        let at = match mode {
            PadMode::Constant(_) => Some(at).filter(|at| (0..n).contains(at)),
            // There and back again is a period.
            PadMode::Reflect => Some(match at.rem_euclid((2 * (n - 1)).max(1)) {
                there if there < n => there,
                back => 2 * (n - 1) - back,
            }),
            PadMode::Edge => Some(at.clamp(0, n - 1)),
            PadMode::Wrap => Some(at.rem_euclid(n)),
        };
        at.map(|at| at as usize + starts[d])
    };
    fn padded<T: Copy>(
        x: &ArrayD<T>,
        shape: &[usize],
        constant: T,
        place: impl Fn(usize, usize) -> Option<usize>,
    ) -> ArrayD<T> {
        ArrayD::from_shape_fn(IxDyn(shape), |index| {
            let source: Option<Vec<usize>> = (0..shape.len()).map(|d| place(d, index[d])).collect();
            source.map_or(constant, |source| x[source.as_slice()])
        })
    }
    let constant = if let PadMode::Constant(value) = mode { value } else { 0.0 };
    match &x.data {
        Data::Float(values) => Array::float(x.dtype, padded(values, shape, constant, place)),
        Data::Int(values) => {
            Array::int(x.dtype, padded(values, shape, float_to_int(x.dtype, constant), place))
        }
    }
}

pub(super) fn concat(inputs: &[&Array], axis: usize, shape: &[usize]) -> Array {
    fn join<T: Copy + Default>(parts: &[&ArrayD<T>], axis: usize, shape: &[usize]) -> ArrayD<T> {
        let mut result = ArrayD::from_elem(IxDyn(shape), T::default());
        let mut first = 0;
        for part in parts {
            let next = first + part.shape()[axis];
            result.slice_axis_mut(Axis(axis), (first..next).into()).assign(part);
            first = next;
        }
        result
    }
    let dtype = inputs[0].dtype;
    if dtype.is_float() {
        let parts: Vec<&ArrayD<f64>> = inputs.iter().map(|x| x.floats()).collect();
        Array::float(dtype, join(&parts, axis, shape))
    } else {
        let parts: Vec<&ArrayD<i64>> = inputs.iter().map(|x| x.ints()).collect();
        Array::int(dtype, join(&parts, axis, shape))
    }
}

pub(super) fn split(x: &Array, axis: usize, sizes: &[usize]) -> Vec<Array> {
    let mut first = 0;
    let part = |size: &usize| {
        let range = first..first + size;
        first += size;
        map_data!(x, values => {
            let part = values.slice_axis(Axis(axis), range.clone().into());
            part.as_standard_layout().into_owned()
        })
    };
    sizes.iter().map(part).collect()
}

pub(super) fn gather(data: &Array, indices: &Array, axis: usize, input: &str) -> Result<Array> {
    let resolved = resolve(indices, data.shape()[axis], input)?;
    let shape = [&data.shape()[..axis], indices.shape(), &data.shape()[axis + 1..]].concat();
    Ok(map_data!(data, values => {
        let picked = values.select(Axis(axis), &resolved);
        picked.as_standard_layout().into_owned().into_shape_with_order(IxDyn(&shape)).expect("rows in order")
    }))
}

/// Positions along a dimension, negative ones counted from its end; `input` is what the model calls the indices.
fn resolve(indices: &Array, extent: usize, input: &str) -> Result<Vec<usize>> {
    let resolve = |index: &i64| -> Result<usize> {
        let from_start = if *index < 0 { index.saturating_add_unsigned(extent as u64) } else { *index };
        usize::try_from(from_start).ok().filter(|i| *i < extent).ok_or_else(|| {
            let message = CheckKind::IndexFromEnd.message(input, from_start, 0, extent as i64);
            Error::new(ErrorKind::Index, message)
        })
    };
    indices.ints().iter().map(resolve).collect()
}

pub(super) fn scatter(inputs: &[&Array], reduction: Option<Reduction>, input: &str) -> Result<Array> {
    fn rows<T: Copy>(
        mut y: ArrayD<T>,
        updates: &ArrayD<T>,
        indices: &[usize],
        combine: impl Fn(T, T) -> T,
    ) -> ArrayD<T> {
        for (row, index) in updates.axis_iter(Axis(0)).zip(indices) {
            for (y, update) in y.index_axis_mut(Axis(0), *index).iter_mut().zip(row) {
                *y = combine(*y, *update);
            }
        }
        y
    }
    let [data, indices, updates] = inputs else { unreachable!("inference counts the operands") };
    let indices = resolve(indices, data.shape()[0], input)?;
    let op = match reduction {
        None => None,
        Some(Reduction::Sum) => Some(Binary::Add),
        Some(Reduction::Prod) => Some(Binary::Mul),
        Some(Reduction::Max) => Some(Binary::Max),
        Some(_) => Some(Binary::Min),
    };
    let dtype = data.dtype;
    Ok(match (&data.data, &updates.data) {
        (Data::Float(y), Data::Float(updates)) => Array::float(
            dtype,
            rows(y.clone(), updates, &indices, |a, b| op.map_or(b, |op| binary_float(op, a, b))),
        ),
        _ => {
            let combine = |a, b| op.map_or(b, |op| wrap(dtype, binary_int(op, dtype, a, b)));
            Array::int(dtype, rows(data.ints().clone(), updates.ints(), &indices, combine))
        }
    })
}

pub(super) fn expand(x: &Array, shape: &[usize]) -> Array {
    map_data!(x, values => spread(values, shape).to_owned())
}
