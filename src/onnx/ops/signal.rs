//! Signal processing: windows, Fourier transforms as products with matrices of sines and cosines.

use std::f64::consts::PI;

use nestjit_ir::DType;

use super::super::limit;
use super::super::tensor::attribute_dtype;
use super::{Halt, NodeCx, OpEntry, Result, axis, extent, one, op};
use crate::graph::{Binary, Op, PadMode, ValueId};

pub(super) const OPS: &[OpEntry] = &[
    op("BlackmanWindow", 17, |cx| {
        window(cx, |t| 0.42 - 0.5 * (2.0 * PI * t).cos() + 0.08 * (4.0 * PI * t).cos())
    }),
    op("DFT", 17, dft).in_f32(&[0]),
    op("HammingWindow", 17, |cx| window(cx, |t| 25.0 / 46.0 - 21.0 / 46.0 * (2.0 * PI * t).cos())),
    op("HannWindow", 17, |cx| window(cx, |t| (PI * t).sin().powi(2))),
    op("MelWeightMatrix", 17, mel_weight_matrix),
    op("STFT", 17, stft).in_f32(&[0]),
];

fn output_type(cx: &NodeCx<'_>) -> Result<DType> {
    let number = cx.int("output_datatype", 1)?;
    Ok(attribute_dtype(number)?)
}

/// `f(i / N)`, where `N` is the size, or one less for a symmetric window.
fn window(cx: &mut NodeCx<'_>, f: fn(f64) -> f64) -> Result<Vec<ValueId>> {
    let to = output_type(cx)?;
    let periodic = cx.flag("periodic", true)?;
    let size = cx.input(0)?;
    cx.expect_type(size, |dtype| matches!(dtype, DType::I32 | DType::I64), "i32 or i64")?;
    let size = extent(cx.known_int(size, "the size")?, "the size")?;
    limit::check_table(DType::F64, &[size])?;
    let steps = if periodic { size } else { size.saturating_sub(1).max(1) } as f64;
    let values: Vec<f64> = (0..size).map(|i| f(i as f64 / steps)).collect();
    let values = cx.values(&[size], &values)?;
    one(cx.cast(values, to))
}

fn mel_weight_matrix(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let to = output_type(cx)?;
    let inputs: [ValueId; 5] = [cx.input(0)?, cx.input(1)?, cx.input(2)?, cx.input(3)?, cx.input(4)?];
    let bins = extent(cx.known_int(inputs[0], "num_mel_bins")?, "num_mel_bins")?;
    let length = extent(cx.known_int(inputs[1], "dft_length")?, "dft_length")?;
    let rate = cx.known_scalar(inputs[2], "sample_rate")?;
    if rate.is_nan() || rate <= 0.0 {
        return Err(Halt::invalid(format!("sample_rate is {rate}, but must be positive")));
    }
    let (low, high) =
        (cx.known_scalar(inputs[3], "lower_edge_hertz")?, cx.known_scalar(inputs[4], "upper_edge_hertz")?);
    let rows = length / 2 + 1;
    limit::check_table(DType::F64, &[rows, bins])?;
    let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let step = (mel(high) - mel(low)) / (bins as f64 + 2.0);
    let point = |i: usize| {
        let hertz = 700.0 * (10f64.powf((i as f64 * step + mel(low)) / 2595.0) - 1.0);
        ((length as f64 + 1.0) * hertz / rate).floor()
    };
    let mut values = vec![0.0; rows * bins];
    for bin in 0..bins {
        let (left, centre, right) = (point(bin), point(bin + 1), point(bin + 2));
        for row in 0..rows {
            let at = row as f64;
            let value = &mut values[row * bins + bin];
            if left == centre && at == centre {
                *value = 1.0;
            } else if (left..=centre).contains(&at) {
                *value = (at - left) / (centre - left);
            }
            if right > centre && at >= centre && at < right {
                *value = (right - at) / (right - centre);
            }
        }
    }
    let values = cx.values(&[rows, bins], &values)?;
    one(cx.cast(values, to))
}

/// A Fourier transform along one dimension.
pub(super) struct Transform {
    /// The number of frequencies of the full spectrum.
    pub length: usize,
    /// Back from frequencies, divided by how many there are.
    pub inverse: bool,
    /// Whether half of the spectrum, which belongs to a real signal, stands for all of it.
    pub onesided: bool,
}

fn dft(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    cx.expect_float(x)?;
    let rank = cx.rank(x);
    let (inverse, onesided) = (cx.flag("inverse", false)?, cx.flag("onesided", false)?);
    let at = match (cx.opset < 20, cx.optional(2)) {
        (true, _) => cx.int("axis", 1)?,
        (false, Some(axis)) => cx.known_int(axis, "the axis")?,
        (false, None) => -2,
    };
    let axis = axis(at, rank)?;
    if axis + 1 == rank {
        return Err(Halt::invalid(
            "the last dimension must hold real or real and imaginary parts: 1 or 2 elements",
        ));
    }
    let n = cx.shape(x)[axis];
    let length = match cx.optional(1) {
        Some(length) => extent(cx.known_int(length, "the length")?, "the length")?,
        None if inverse && onesided => 2 * n.saturating_sub(1),
        None => n,
    };
    one(transform(cx, x, axis, &Transform { length, inverse, onesided }))
}

/// `x` has real parts, or real and imaginary parts, in its last dimension.
pub(super) fn transform(cx: &mut NodeCx<'_>, x: ValueId, axis: usize, t: &Transform) -> Result<ValueId> {
    let shape = cx.shape(x);
    let rank = shape.len();
    let parts = shape[rank - 1];
    if !matches!(parts, 1 | 2) || t.length == 0 {
        return Err(Halt::shape(format!(
            "a transform of length {} is impossible for a signal of shape {shape:?}",
            t.length
        )));
    }
    // The half of a real signal's spectrum stands for the other half, too.
    let halved = t.inverse && t.onesided;
    let used = if halved { t.length / 2 + 1 } else { t.length };
    let results = if t.onesided && !t.inverse { t.length / 2 + 1 } else { t.length };
    let mut x = x;
    if shape[axis] != used {
        let mut end = vec![0; rank];
        end[axis] = used as i64 - shape[axis] as i64;
        x = cx.add(Op::Pad { begin: vec![0; rank], end, mode: PadMode::Constant(0.0) }, &[x])?;
    }
    // The dimension to the end, behind the parts.
    let mut perm: Vec<usize> = (0..rank).filter(|d| *d != axis).collect();
    perm.push(axis);
    let moved = cx.transpose(x, &perm)?;
    let part = |cx: &mut NodeCx<'_>, i: usize| cx.narrow(moved, rank - 2, i, 1);
    limit::check_table(DType::F64, &[used, results])?;
    let factor = |n: usize| match (t.inverse, halved) {
        (false, _) => 1.0,
        // Frequencies whose mirror image is another one count twice.
        (true, true) if n != 0 && 2 * n != t.length => 2.0 / t.length as f64,
        (true, _) => 1.0 / t.length as f64,
    };
    let matrix = |cx: &mut NodeCx<'_>, f: fn(f64) -> f64| {
        let angle = |n: usize, k: usize| 2.0 * PI * ((n * k) % t.length) as f64 / t.length as f64;
        let values: Vec<f64> =
            (0..used).flat_map(|n| (0..results).map(move |k| f(angle(n, k)) * factor(n))).collect();
        cx.floats_like(x, &[used, results], &values)
    };
    let (cos, sin) = (matrix(cx, f64::cos)?, matrix(cx, f64::sin)?);
    let product = |cx: &mut NodeCx<'_>, a, b| cx.add(Op::MatMul, &[a, b]);
    // (re + i im) (cos -+ i sin), the sign that of the direction.
    let re = part(cx, 0)?;
    let im = if parts == 2 { Some(part(cx, 1)?) } else { None };
    let mut real = product(cx, re, cos)?;
    if let Some(im) = im {
        let other = product(cx, im, sin)?;
        real = cx.binary(if t.inverse { Binary::Sub } else { Binary::Add }, real, other)?;
    }
    let y = if halved {
        real
    } else {
        let rotated = product(cx, re, sin)?;
        let mut imaginary = match t.inverse {
            true => rotated,
            false => cx.unary(crate::graph::Unary::Neg, rotated)?,
        };
        if let Some(im) = im {
            let other = product(cx, im, cos)?;
            imaginary = cx.binary(Binary::Add, imaginary, other)?;
        }
        cx.concat(&[real, imaginary], rank - 2)?
    };
    let mut back: Vec<usize> = (0..rank - 1).collect();
    back.insert(axis, rank - 1);
    cx.transpose(y, &back)
}

/// Frames of the signal, each weighted by the window and transformed.
fn stft(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let (x, step) = (cx.input(0)?, cx.input(1)?);
    cx.expect_float(x)?;
    let onesided = cx.flag("onesided", true)?;
    let step = extent(cx.known_int(step, "the frame step")?, "the frame step")?;
    let shape = cx.shape(x);
    let [batch, samples, parts] = match shape[..] {
        [batch, samples] => [batch, samples, 1],
        [batch, samples, parts] => [batch, samples, parts],
        _ => {
            return Err(Halt::shape(format!(
                "the signal must be of rank 2 or 3, but its shape is {shape:?}"
            )));
        }
    };
    let length = match (cx.optional(3), cx.optional(2)) {
        (Some(length), _) => extent(cx.known_int(length, "the frame length")?, "the frame length")?,
        (None, Some(window)) => cx.elements(window),
        (None, None) => samples,
    };
    if step == 0 || length == 0 || length > samples {
        return Err(Halt::invalid(format!(
            "frames of {length} samples that are {step} apart are impossible in {samples} samples"
        )));
    }
    let frames = 1 + (samples - length) / step;
    limit::check_table(DType::I64, &[frames, length])?;
    let indices: Vec<i64> =
        (0..frames).flat_map(|f| (0..length).map(move |i| (f * step + i) as i64)).collect();
    let indices = cx.values(&[frames, length], &indices)?;
    let signal = cx.reshape(x, &[batch, samples, parts])?;
    let mut framed = cx.gather(signal, indices, 1)?;
    if let Some(window) = cx.optional(2) {
        let window = cx.reshape(window, &[length, 1])?;
        framed = cx.binary(Binary::Mul, framed, window)?;
    }
    one(transform(cx, framed, 2, &Transform { length, inverse: false, onesided }))
}
