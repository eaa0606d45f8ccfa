//! What the transformers are written with: layers over `[1, tokens, features]`, in the operations that PyTorch
//! exports them as (GELU is spelled out with `erf`).

use crate::error::Result;
use crate::graph::{GraphBuilder, ValueId, Weights};
use crate::tensor::Tensor;

/// A transformer under construction.
pub(super) struct Transformer {
    /// For everything that is not a layer of its own.
    pub(super) g: GraphBuilder,
    pub(super) weights: Weights,
    /// Features of each token.
    pub(super) width: usize,
    /// Of the attention.
    pub(super) heads: usize,
    /// Of the layer normalisations.
    pub(super) epsilon: f64,
}

impl Transformer {
    /// A constant.
    pub(super) fn parameter(&mut self, name: &str, tensor: Tensor) -> ValueId {
        self.g.constant(name, tensor)
    }

    /// A fully connected layer over the last dimension: MatMul, then BiasAdd.
    pub(super) fn linear(
        &mut self,
        name: &str,
        x: ValueId,
        features: usize,
        units: usize,
    ) -> Result<ValueId> {
        let limit = (3.0 / features as f32).sqrt();
        let weight = self.weights.uniform(&[features, units], -limit, limit)?;
        let weight = self.g.constant(&format!("{name}.weight"), weight);
        let bias = self.weights.bias(units)?;
        let bias = self.g.constant(&format!("{name}.bias"), bias);
        Ok(self.g.named(name).dense(x, weight, bias))
    }

    /// Normalisation of each token.
    pub(super) fn layer_norm(&mut self, name: &str, x: ValueId) -> Result<ValueId> {
        let scale = self.weights.uniform(&[self.width], 0.5, 1.5)?;
        let scale = self.g.constant(&format!("{name}.weight"), scale);
        let bias = self.weights.bias(self.width)?;
        let bias = self.g.constant(&format!("{name}.bias"), bias);
        let axis = self.g.shape(x).len().saturating_sub(1);
        Ok(self.g.named(name).layer_norm(x, scale, Some(bias), axis, self.epsilon))
    }

    /// Softmax attention; `q`, `k` and `v` are `[1, tokens, width]`.
    pub(super) fn attention(&mut self, name: &str, [q, k, v]: [ValueId; 3], tokens: usize) -> ValueId {
        let (width, heads) = (self.width, self.heads);
        let size = width / heads;
        self.g.scope(name, |g| {
            let mut split = |name: &str, x: ValueId, perm: [usize; 4]| {
                let x = g.named(&format!("{name}.heads")).reshape(x, &[1, tokens, heads, size]);
                g.named(&format!("{name}.transpose")).transpose(x, &perm)
            };
            let q = split("q", q, [0, 2, 1, 3]);
            let k = split("k", k, [0, 2, 3, 1]);
            let v = split("v", v, [0, 2, 1, 3]);
            let scores = g.named("scores").matmul(q, k);
            let scale = g.scalar_like(scores, (size as f64).sqrt());
            let scores = g.named("scale").div(scores, scale);
            let shares = g.named("softmax").softmax(scores, 3);
            let y = g.named("context").matmul(shares, v);
            let y = g.named("context.transpose").transpose(y, &[0, 2, 1, 3]);
            g.named("context.join").reshape(y, &[1, tokens, width])
        })
    }

    /// `x * (erf(x / sqrt(2)) + 1) * 0.5`.
    pub(super) fn gelu(&mut self, name: &str, x: ValueId) -> ValueId {
        self.g.scope(name, |g| {
            let root = g.scalar_like(x, std::f64::consts::SQRT_2);
            let y = g.div(x, root);
            let y = g.erf(y);
            let one = g.scalar_like(x, 1.0);
            let y = g.add(y, one);
            let y = g.mul(x, y);
            let half = g.scalar_like(x, 0.5);
            g.mul(y, half)
        })
    }
}
