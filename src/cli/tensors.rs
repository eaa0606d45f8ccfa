//! Tensors made up, and tensors as `f64`.

use nestjit::graph::Weights;
use nestjit::{DType, Result, Tensor, bf16, f16};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Seeded values: floats in `-1..1`, integers and truth values 0 or 1 (which index most things).
pub(crate) fn random(dtype: DType, shape: &[usize], seed: u64) -> Result<Tensor> {
    // Whether there is memory for it: a shape may be anything.
    Tensor::zeros(dtype, shape)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let n: usize = shape.iter().product();
    let mut bits = |n: usize| (0..n).map(|_| rng.random_range(0..2u8)).collect::<Vec<_>>();
    match dtype {
        DType::I64 => Tensor::new(shape, &bits(n).into_iter().map(i64::from).collect::<Vec<_>>()),
        DType::I32 => Tensor::new(shape, &bits(n).into_iter().map(i32::from).collect::<Vec<_>>()),
        DType::I8 | DType::U8 | DType::Bool => Tensor::from_bytes(dtype, shape, &bits(n)),
        DType::I16 => Tensor::new(shape, &bits(n).into_iter().map(i16::from).collect::<Vec<_>>()),
        DType::U16 => Tensor::new(shape, &bits(n).into_iter().map(u16::from).collect::<Vec<_>>()),
        DType::U32 => Tensor::new(shape, &bits(n).into_iter().map(u32::from).collect::<Vec<_>>()),
        DType::U64 => Tensor::new(shape, &bits(n).into_iter().map(u64::from).collect::<Vec<_>>()),
        DType::F32 => Weights::new(seed).uniform(shape, -1.0, 1.0),
        DType::F16 => {
            let values: Vec<f16> = (0..n).map(|_| f16::from_f32(rng.random_range(-1.0..1.0f32))).collect();
            Tensor::new(shape, &values)
        }
        DType::BF16 => {
            let values: Vec<bf16> = (0..n).map(|_| bf16::from_f32(rng.random_range(-1.0..1.0f32))).collect();
            Tensor::new(shape, &values)
        }
        DType::F64 => {
            let values: Vec<f64> = (0..n).map(|_| rng.random_range(-1.0..1.0f64)).collect();
            Tensor::new(shape, &values)
        }
    }
}

/// The elements as `f64`.
pub(crate) fn to_f64(tensor: &Tensor) -> Result<Vec<f64>> {
    let mut values = Vec::with_capacity(tensor.len());
    for_each_f64(tensor, |value| values.push(value))?;
    Ok(values)
}

/// Calls `f` with each element, in order, without a copy of the tensor.
pub(crate) fn for_each_f64(tensor: &Tensor, f: impl FnMut(f64)) -> Result<()> {
    match tensor.dtype() {
        DType::F32 => tensor.values::<f32>()?.iter().map(|v| f64::from(*v)).for_each(f),
        DType::F64 => tensor.values::<f64>()?.iter().copied().for_each(f),
        DType::F16 => tensor.values::<f16>()?.iter().map(|v| v.to_f64()).for_each(f),
        DType::BF16 => tensor.values::<bf16>()?.iter().map(|v| v.to_f64()).for_each(f),
        DType::I64 => tensor.values::<i64>()?.iter().map(|v| *v as f64).for_each(f),
        DType::I32 => tensor.values::<i32>()?.iter().map(|v| f64::from(*v)).for_each(f),
        DType::I8 => tensor.values::<i8>()?.iter().map(|v| f64::from(*v)).for_each(f),
        DType::U8 => tensor.values::<u8>()?.iter().map(|v| f64::from(*v)).for_each(f),
        DType::I16 => tensor.values::<i16>()?.iter().map(|v| f64::from(*v)).for_each(f),
        DType::U16 => tensor.values::<u16>()?.iter().map(|v| f64::from(*v)).for_each(f),
        DType::U32 => tensor.values::<u32>()?.iter().map(|v| f64::from(*v)).for_each(f),
        DType::U64 => tensor.values::<u64>()?.iter().map(|v| *v as f64).for_each(f),
        DType::Bool => tensor.values::<bool>()?.iter().map(|v| f64::from(u8::from(*v))).for_each(f),
    }
    Ok(())
}
