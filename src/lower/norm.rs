//! Normalisations. Statistics over the tensor itself are nests of their own: the mean, then the mean squared
//! distance from it (two passes, because the one-pass formula cancels), then the elementwise part.

use nestjit_ir::{Affine, DType, Expr, ReduceOp, Var};

use super::context::{Context, Loop, accumulate, loops};
use super::image::{ImageLoops, image_index, spatial_dims, spatial_loops};
use super::operand::{Array, Operand, affine};
use crate::error::Result;
use crate::graph::Format;

/// `1 / sqrt(variance + epsilon)`.
fn rsqrt(variance: Expr, dtype: DType, epsilon: f64) -> Expr {
    Expr::literal(dtype, 1.0) / (variance + Expr::literal(dtype, epsilon)).sqrt()
}

pub(super) fn batch_norm(cx: &mut Context<'_, '_>, epsilon: f64, format: Format) -> Result<()> {
    let (x, bias, mean) = (cx.operand(0)?, cx.operand(2)?, cx.operand(3)?);
    // What depends on constants only is computed here.
    let factors = match (cx.data(1), cx.data(4)) {
        (Some(scale), Some(variance)) => {
            let (scale, variance) = (floats(scale), floats(variance));
            Some(scale.iter().zip(&variance).map(|(s, v)| s / (v + epsilon).sqrt()).collect::<Vec<f64>>())
        }
        _ => None,
    };
    let factor = match factors {
        Some(factors) => Ok(cx.table("factor", x.dtype(), &[factors.len()], &factors)?),
        None => Err((cx.operand(1)?, cx.operand(4)?)),
    };
    let y = cx.result()?;
    let axis = format.channel_axis(y.shape.len());
    let mut b = cx.nest("");
    b.for_each("i", &y.shape, |b, i| {
        let c = [i[axis]];
        let centred = x.at(i) - mean.at(c);
        let scaled = match &factor {
            Ok(factor) => centred * factor.at(c),
            Err((scale, variance)) => centred * rsqrt(variance.at(c), y.dtype, epsilon) * scale.at(c),
        };
        y.store(b, i, scaled + bias.at(c));
    });
    b.finish();
    Ok(())
}

fn floats(tensor: &crate::tensor::Tensor) -> Vec<f64> {
    fn of<T: crate::tensor::Element>(tensor: &crate::tensor::Tensor, f: impl Fn(T) -> f64) -> Vec<f64> {
        tensor.values::<T>().map(|values| values.iter().map(|v| f(*v)).collect()).unwrap_or_default()
    }
    match tensor.dtype() {
        DType::F32 => of::<f32>(tensor, f64::from),
        DType::F64 => of::<f64>(tensor, |v| v),
        DType::F16 => of(tensor, nestjit_ir::f16::to_f64),
        DType::BF16 => of(tensor, nestjit_ir::bf16::to_f64),
        DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::Bool => Vec::new(),
        DType::U64 | DType::U32 | DType::U16 | DType::U8 => Vec::new(),
    }
}

/// Where the statistics of a normalisation come from: `outer` loops, one statistic each, and the `inner` loops
/// that it runs over.
struct Statistics<'a> {
    x: &'a Operand,
    outer: Vec<Loop>,
    inner: Vec<Loop>,
    epsilon: f64,
    /// The operand's index, given the variables of the outer and the inner loops.
    #[expect(clippy::type_complexity, reason = "used here only")]
    index: &'a dyn Fn(&[Var], &[Var]) -> Vec<Affine>,
}

impl Statistics<'_> {
    fn shape(&self) -> Vec<usize> {
        self.outer.iter().map(|l| l.1).collect()
    }

    fn count(&self) -> Expr {
        let count = self.inner.iter().map(|l| l.1 as f64).product();
        Expr::literal(self.x.dtype(), count)
    }

    /// A step `NODE.part`: `last` of the mean of `value` over the inner loops.
    fn mean_of(
        &self,
        cx: &mut Context<'_, '_>,
        part: &str,
        value: impl FnOnce(Expr, &[Var]) -> Expr,
        last: impl FnOnce(Expr) -> Expr,
    ) -> Result<Array> {
        let dtype = self.x.dtype();
        let result = cx.temp(part, dtype, &self.shape())?;
        let acc = cx.name(&format!("{part}_acc"));
        let mut b = cx.nest(part);
        loops(&mut b, &self.outer, |b, outer| {
            let total = accumulate(b, &acc, ReduceOp::Add, dtype, &self.inner, |inner| {
                value(self.x.at((self.index)(outer, inner)), outer)
            });
            result.store(b, outer, last(total / self.count()));
        });
        b.finish();
        Ok(result)
    }

    fn mean(&self, cx: &mut Context<'_, '_>) -> Result<Array> {
        self.mean_of(cx, "mean", |x, _| x, |mean| mean)
    }

    /// `1 / sqrt(variance + epsilon)`.
    fn inverse_deviation(&self, cx: &mut Context<'_, '_>, mean: &Array) -> Result<Array> {
        let centred = |x: Expr, outer: &[Var]| x - mean.at(outer);
        let dtype = self.x.dtype();
        self.mean_of(
            cx,
            "rstd",
            |x, outer| centred(x.clone(), outer) * centred(x, outer),
            |variance| rsqrt(variance, dtype, self.epsilon),
        )
    }
}

/// The dimensions of `shape` as loops.
fn dim_loops(prefix: &str, shape: &[usize], from: usize) -> Vec<Loop> {
    shape.iter().enumerate().map(|(d, extent)| (format!("{prefix}{}", from + d), *extent)).collect()
}

pub(super) fn layer_norm(cx: &mut Context<'_, '_>, axis: usize, epsilon: f64) -> Result<()> {
    let (x, scale, bias) = (cx.operand(0)?, cx.operand(1)?, cx.optional(2)?);
    trailing(cx, &x, axis, epsilon, true, &scale, bias.as_ref())
}

pub(super) fn rms_norm(cx: &mut Context<'_, '_>, axis: usize, epsilon: f64) -> Result<()> {
    let (x, scale) = (cx.operand(0)?, cx.operand(1)?);
    trailing(cx, &x, axis, epsilon, false, &scale, None)
}

/// Normalisation over the dimensions from `axis` on; without a mean, by the root mean square.
fn trailing(
    cx: &mut Context<'_, '_>,
    x: &Operand,
    axis: usize,
    epsilon: f64,
    centre: bool,
    scale: &Operand,
    bias: Option<&Operand>,
) -> Result<()> {
    let (outer, inner) = x.shape().split_at(axis);
    let statistics = Statistics {
        x,
        outer: dim_loops("i", outer, 0),
        inner: dim_loops("k", inner, axis),
        epsilon,
        index: &|outer, inner| affine(&[outer, inner].concat()),
    };
    let mean = if centre { Some(statistics.mean(cx)?) } else { None };
    let factor = match &mean {
        Some(mean) => statistics.inverse_deviation(cx, mean)?,
        None => {
            let dtype = x.dtype();
            statistics.mean_of(cx, "rstd", |x, _| x.clone() * x, |square| rsqrt(square, dtype, epsilon))?
        }
    };
    let y = cx.result()?;
    let mut b = cx.nest("");
    b.for_each("i", &y.shape, |b, i| {
        let (outer, rest) = (&i[..axis], affine(&i[axis..]));
        let value = match &mean {
            Some(mean) => x.at(i) - mean.at(outer),
            None => x.at(i),
        };
        let value = value * factor.at(outer) * scale.broadcast(&rest, inner);
        let value = match bias {
            Some(bias) => value + bias.broadcast(&rest, inner),
            None => value,
        };
        y.store(b, i, value);
    });
    b.finish();
    Ok(())
}

pub(super) fn instance_norm(cx: &mut Context<'_, '_>, epsilon: f64, format: Format) -> Result<()> {
    let (x, scale, bias) = (cx.operand(0)?, cx.operand(1)?, cx.operand(2)?);
    let shape = x.shape();
    let spatial = &shape[spatial_dims(format, shape.len())];
    let channels: Loop = ("c".into(), shape[format.channel_axis(shape.len())]);
    let statistics = Statistics {
        x: &x,
        outer: vec![("n".into(), shape[0]), channels.clone()],
        inner: spatial_loops("", spatial),
        epsilon,
        index: &|outer, inner| image_index(format, outer[0], outer[1], affine(inner)),
    };
    let mean = statistics.mean(cx)?;
    let factor = statistics.inverse_deviation(cx, &mean)?;
    let y = cx.result()?;
    let all = ImageLoops::new(format, shape[0], vec![channels], spatial_loops("", spatial));
    let mut b = cx.nest("");
    loops(&mut b, &all.loops, |b, i| {
        let c = all.channels(i)[0];
        let value = (x.at(i) - mean.at([i[0], c])) * factor.at([i[0], c]);
        y.store(b, i, value * scale.at([c]) + bias.at([c]));
    });
    b.finish();
    Ok(())
}

pub(super) fn group_norm(
    cx: &mut Context<'_, '_>,
    groups: usize,
    epsilon: f64,
    format: Format,
) -> Result<()> {
    let (x, scale, bias) = (cx.operand(0)?, cx.operand(1)?, cx.operand(2)?);
    let shape = x.shape();
    let spatial = &shape[spatial_dims(format, shape.len())];
    let per_group = shape[format.channel_axis(shape.len())] / groups;
    let channel = |g: Var, c: Var| g * per_group as i64 + c;
    let mut inner: Vec<Loop> = vec![("c".into(), per_group)];
    inner.extend(spatial_loops("", spatial));
    let statistics = Statistics {
        x: &x,
        outer: vec![("n".into(), shape[0]), ("g".into(), groups)],
        inner,
        epsilon,
        index: &|outer, inner| {
            image_index(format, outer[0], channel(outer[1], inner[0]), affine(&inner[1..]))
        },
    };
    let mean = statistics.mean(cx)?;
    let factor = statistics.inverse_deviation(cx, &mean)?;
    let y = cx.result()?;
    let channels = vec![("g".into(), groups), ("c".into(), per_group)];
    let all = ImageLoops::new(format, shape[0], channels, spatial_loops("", spatial));
    let mut b = cx.nest("");
    loops(&mut b, &all.loops, |b, i| {
        let group = [i[0], all.channels(i)[0]];
        let c = channel(group[1], all.channels(i)[1]);
        let at = image_index(format, i[0], c.clone(), affine(all.spatial(i)));
        let value = (x.at(at.clone()) - mean.at(group)) * factor.at(group);
        y.store(b, at, value * scale.at([c.clone()]) + bias.at([c]));
    });
    b.finish();
    Ok(())
}
