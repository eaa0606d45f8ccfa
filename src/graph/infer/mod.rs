//! Shape and type inference: what a node's results are, given its operands, and every reason why it may have
//! none. One file per family of operations.
//!
//! Values are not looked at: whether a gather's indices lie inside is a question for the run.

use nestjit_ir::DType;

use super::{Op, Value};
use crate::error::{Error, Result};
use crate::tensor::checked_bytes;

mod classical;
mod contraction;
mod elementwise;
mod movement;
mod normalization;
mod recurrent;
mod reduction;
mod window;

/// The type and shape of each result.
pub type Outputs = Vec<(DType, Vec<usize>)>;

/// The type and shape of each result of `op` applied to `inputs`.
///
/// # Errors
/// [`crate::ErrorKind::Shape`] if operands do not fit, [`crate::ErrorKind::Invalid`] if an attribute makes no
/// sense, [`crate::ErrorKind::Limit`] if a result cannot be addressed, [`crate::ErrorKind::Unsupported`] for what
/// has a meaning but no implementation. The error has no place yet: see [`Error::at`].
pub fn infer(op: &Op, inputs: &[&Value]) -> Result<Outputs> {
    let outputs = match op {
        Op::Unary(unary) => elementwise::unary(*unary, inputs),
        Op::Binary(binary) => elementwise::binary(*binary, inputs),
        Op::Where => elementwise::select(inputs),
        Op::Clip { min, max } => elementwise::clip(*min, *max, inputs),
        Op::Cast { to } => elementwise::cast(*to, inputs),
        Op::Check { kind, low, .. } => elementwise::check(*kind, *low, inputs),
        Op::Dropout => elementwise::dropout(inputs),
        Op::BiasAdd { axis } => elementwise::bias_add(*axis, inputs),
        Op::MatMul => contraction::matmul(inputs),
        Op::Gemm { alpha, beta, trans_a, trans_b } => {
            contraction::gemm(*alpha, *beta, *trans_a, *trans_b, inputs)
        }
        Op::PackedMatMul { bits, block } => contraction::packed_matmul(*bits, *block, inputs),
        Op::Conv { window, groups, format, pad_value } => {
            window::conv(window, *groups, *format, *pad_value, inputs)
        }
        Op::Pool { kind, window, ceil_mode, format } => {
            window::pool(*kind, window, *ceil_mode, *format, inputs)
        }
        Op::GlobalPool { kind, format } => window::global_pool(*kind, *format, inputs),
        Op::BatchNorm { epsilon, format } => normalization::batch_norm(*epsilon, *format, inputs),
        Op::LayerNorm { axis, epsilon } => normalization::layer_norm(*axis, *epsilon, inputs),
        Op::RmsNorm { axis, epsilon } => normalization::rms_norm(*axis, *epsilon, inputs),
        Op::InstanceNorm { epsilon, format } => normalization::instance_norm(*epsilon, *format, inputs),
        Op::GroupNorm { groups, epsilon, format } => {
            normalization::group_norm(*groups, *epsilon, *format, inputs)
        }
        Op::Softmax { axis } | Op::LogSoftmax { axis } => normalization::softmax(*axis, inputs),
        Op::Reduce { op, axes, keep_dims } => reduction::reduce(*op, axes, *keep_dims, inputs),
        Op::ArgReduce { axis, keep_dims, .. } => reduction::arg_reduce(*axis, *keep_dims, inputs),
        Op::Reshape { shape } => movement::reshape(shape, inputs),
        Op::Transpose { perm } => movement::transpose(perm, inputs),
        Op::Slice { starts, extents, steps } => movement::slice(starts, extents, steps, inputs),
        Op::Pad { begin, end, mode } => movement::pad(begin, end, *mode, inputs),
        Op::Concat { axis } => movement::concat(*axis, inputs),
        Op::Split { axis, sizes } => movement::split(*axis, sizes, inputs),
        Op::Gather { axis } => movement::gather(*axis, inputs),
        Op::Scatter { reduction } => movement::scatter(*reduction, inputs),
        Op::Expand { shape } => movement::expand(shape, inputs),
        Op::Recurrent { kind, hidden, direction, activations, clip } => {
            recurrent::recurrent(*kind, *hidden, *direction, activations, *clip, inputs)
        }
        Op::PairwiseCoupling => classical::pairwise_coupling(inputs),
        Op::DynamicQuantizeLstm { hidden, direction, activations, clip } => {
            recurrent::dynamic_quantize_lstm(*hidden, *direction, activations, *clip, inputs)
        }
    }?;
    for (dtype, shape) in &outputs {
        checked_bytes(*dtype, shape)?;
    }
    Ok(outputs)
}

/// Sets of element types that operations accept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Class {
    Float,
    Int,
    Bool,
    Numeric,
    IntOrBool,
}

impl Class {
    fn contains(self, dtype: DType) -> bool {
        match self {
            Class::Float => dtype.is_float(),
            Class::Int => dtype.is_int(),
            Class::Bool => dtype == DType::Bool,
            Class::Numeric => dtype != DType::Bool,
            Class::IntOrBool => !dtype.is_float(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Class::Float => "a floating-point type",
            Class::Int => "an integer type",
            Class::Bool => "bool",
            Class::Numeric => "a numeric type",
            Class::IntOrBool => "an integer type or bool",
        }
    }
}

/// `'x' f32[64, 512]`, as messages show a value.
fn show(value: &Value) -> String {
    format!("'{}' {}{:?}", value.name.escape_debug(), value.dtype, value.shape)
}

fn operands<'a, const N: usize>(inputs: &[&'a Value]) -> Result<[&'a Value; N]> {
    inputs.try_into().map_err(|_| {
        Error::invalid(format!("takes {N} operand{}, but {} given", plural(N), were(inputs.len())))
    })
}

/// Between `min` and `max` operands; those left out at the end are `None`.
fn operands_or<'a, const N: usize>(inputs: &[&'a Value], min: usize) -> Result<[Option<&'a Value>; N]> {
    if inputs.len() < min || inputs.len() > N {
        return Err(Error::invalid(format!("takes {min} to {N} operands, but {} given", were(inputs.len()))));
    }
    Ok(std::array::from_fn(|i| inputs.get(i).copied()))
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn were(count: usize) -> String {
    if count == 1 { "1 was".to_owned() } else { format!("{count} were") }
}

fn expect_class(value: &Value, class: Class) -> Result<()> {
    if !class.contains(value.dtype) {
        return Err(Error::shape(format!(
            "'{}' is {}, but {} is needed",
            value.name.escape_debug(),
            value.dtype,
            class.name()
        )));
    }
    Ok(())
}

fn expect_same_dtype(values: &[&Value]) -> Result<()> {
    for pair in values.windows(2) {
        if pair[0].dtype != pair[1].dtype {
            return Err(Error::shape(format!(
                "operands must have one type, but '{}' is {} and '{}' is {}",
                pair[0].name.escape_debug(),
                pair[0].dtype,
                pair[1].name.escape_debug(),
                pair[1].dtype
            )));
        }
    }
    Ok(())
}

/// The shape must be `expected`; `what` says what that is.
fn expect_shape(value: &Value, expected: &[usize], what: &str) -> Result<()> {
    if value.shape != expected {
        return Err(Error::shape(format!("{what} must be {expected:?}, but {} was given", show(value))));
    }
    Ok(())
}

fn expect_min_rank(value: &Value, rank: usize) -> Result<()> {
    if value.shape.len() < rank {
        return Err(Error::shape(format!(
            "needs at least {rank} dimension{}, but {} was given",
            plural(rank),
            show(value)
        )));
    }
    Ok(())
}

fn expect_axis(value: &Value, axis: usize) -> Result<()> {
    if axis >= value.shape.len() {
        return Err(Error::invalid(format!("axis {axis} does not exist in {}", show(value))));
    }
    Ok(())
}

/// `value` must broadcast to `target` without changing it.
fn expect_broadcast_to(value: &Value, target: &[usize], what: &str) -> Result<()> {
    let fits = value.shape.len() <= target.len()
        && value.shape.iter().rev().zip(target.iter().rev()).all(|(d, t)| *d == 1 || d == t);
    if !fits {
        return Err(Error::shape(format!("{what} {} does not broadcast to {target:?}", show(value))));
    }
    Ok(())
}

/// The shape that NumPy's rules broadcast all of them to.
fn broadcast(values: &[&Value]) -> Result<Vec<usize>> {
    let shapes: Vec<&[usize]> = values.iter().map(|v| v.shape.as_slice()).collect();
    broadcast_shapes(&shapes).ok_or_else(|| {
        let shown: Vec<String> = values.iter().map(|v| show(v)).collect();
        Error::shape(format!("cannot broadcast {} to one shape", shown.join(" and ")))
    })
}

/// The shape that NumPy's rules broadcast all of them to, if there is one.
pub(crate) fn broadcast_shapes(shapes: &[&[usize]]) -> Option<Vec<usize>> {
    let rank = shapes.iter().map(|s| s.len()).max().unwrap_or(0);
    let mut result = vec![1; rank];
    for shape in shapes {
        for (r, d) in result[rank - shape.len()..].iter_mut().zip(*shape) {
            match (*r, *d) {
                (r, d) if r == d => {}
                (1, d) => *r = d,
                (_, 1) => {}
                _ => return None,
            }
        }
    }
    Some(result)
}

fn expect_epsilon(epsilon: f64) -> Result<()> {
    if !(epsilon >= 0.0 && epsilon.is_finite()) {
        return Err(Error::invalid(format!("epsilon must be a number that is not negative, not {epsilon}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
