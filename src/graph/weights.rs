//! Seeded weights for models that are built, not loaded: random, but scaled so that a signal neither dies nor
//! explodes on its way through the layers.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::builder::Activation;
use crate::error::Result;
use crate::tensor::Tensor;

/// A source of `f32` weights. The same seed and the same calls give the same weights, on every machine.
#[derive(Clone, Debug)]
pub struct Weights {
    rng: ChaCha8Rng,
}

impl Weights {
    /// A source that starts at this seed.
    pub fn new(seed: u64) -> Weights {
        Weights { rng: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// Uniform in `low .. high`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Limit`] if the size overflows.
    pub fn uniform(&mut self, shape: &[usize], low: f32, high: f32) -> Result<Tensor> {
        let mut tensor = Tensor::zeros(nestjit_ir::DType::F32, shape)?;
        for value in tensor.values_mut::<f32>()? {
            // 24 bits are all that fit between 0 and 1 at even steps.
            let unit = (self.rng.next_u32() >> 8) as f32 / (1 << 24) as f32;
            *value = low + (high - low) * unit;
        }
        Ok(tensor)
    }

    /// A layer's weight: after He for rectifiers, after Glorot otherwise.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Limit`] if the size overflows.
    pub fn layer(
        &mut self,
        shape: &[usize],
        fan_in: usize,
        fan_out: usize,
        activation: Activation,
    ) -> Result<Tensor> {
        let fan =
            if activation.is_rectifier() { fan_in as f32 } else { (fan_in as f32 + fan_out as f32) / 2.0 };
        let gain = if activation.is_rectifier() { 6.0 } else { 3.0 };
        let limit = (gain / fan.max(1.0)).sqrt();
        self.uniform(shape, -limit, limit)
    }

    /// A layer's bias: small, but not 0.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Limit`] if the size overflows.
    pub fn bias(&mut self, length: usize) -> Result<Tensor> {
        self.uniform(&[length], -0.1, 0.1)
    }

    /// Scale, bias, mean and variance of a batch normalisation, none of them trivial.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Limit`] if the size overflows.
    pub fn batch_norm(&mut self, channels: usize) -> Result<[Tensor; 4]> {
        Ok([
            self.uniform(&[channels], 0.5, 1.5)?,
            self.uniform(&[channels], -0.3, 0.3)?,
            self.uniform(&[channels], -0.3, 0.3)?,
            self.uniform(&[channels], 0.5, 1.5)?,
        ])
    }
}
