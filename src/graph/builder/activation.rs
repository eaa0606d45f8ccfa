//! Activations by the names that layer APIs use.

use super::GraphBuilder;
use crate::graph::{Unary, ValueId};

/// What follows a layer.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
#[non_exhaustive]
pub enum Activation {
    /// Nothing.
    #[default]
    Linear,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x < 0 ? slope * x : x`.
    LeakyRelu(f64),
    /// `x < 0 ? alpha * (exp(x) - 1) : x`.
    Elu(f64),
    /// [`GraphBuilder::selu`].
    Selu,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// `x * sigmoid(x)`, as one operation.
    Silu,
    /// `x * sigmoid(x)`, as two operations.
    Swish,
    /// `min(max(x / 6 + 1 / 2, 0), 1)`.
    HardSigmoid,
    /// `x * min(max(x / 6 + 1 / 2, 0), 1)`.
    HardSwish,
    /// `x / 2 * (1 + erf(x / sqrt(2)))`.
    Gelu,
    /// The approximation of GELU by `tanh`.
    GeluTanh,
    /// `x * tanh(softplus(x))`.
    Mish,
    /// `log(1 + exp(x))`.
    Softplus,
    /// `x / (1 + |x|)`.
    Softsign,
    /// Softmax along the last dimension.
    Softmax,
    /// The logarithm of the softmax along the last dimension.
    LogSoftmax,
}

impl Activation {
    /// Whether about half of what goes in is lost, so that weights must be larger to make up for it.
    pub(crate) fn is_rectifier(self) -> bool {
        use Activation::*;
        matches!(
            self,
            Relu | Relu6 | LeakyRelu(_) | Elu(_) | Silu | Swish | HardSwish | Gelu | GeluTanh | Mish
        )
    }
}

impl GraphBuilder {
    /// An activation.
    pub fn activation(&mut self, activation: Activation, x: ValueId) -> ValueId {
        let last = self.shape(x).len().saturating_sub(1);
        let unary = match activation {
            Activation::Linear => return x,
            Activation::Softmax => return self.softmax(x, last),
            Activation::LogSoftmax => return self.log_softmax(x, last),
            Activation::Selu => return self.selu(x),
            Activation::Swish => {
                return self.composite(|g| {
                    let gate = g.sigmoid(x);
                    g.mul(x, gate)
                });
            }
            Activation::Relu => Unary::Relu,
            Activation::Relu6 => Unary::Relu6,
            Activation::LeakyRelu(alpha) => Unary::LeakyRelu { alpha },
            Activation::Elu(alpha) => Unary::Elu { alpha },
            Activation::Sigmoid => Unary::Sigmoid,
            Activation::Tanh => Unary::Tanh,
            Activation::Silu => Unary::Silu,
            Activation::HardSigmoid => Unary::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 },
            Activation::HardSwish => Unary::HardSwish,
            Activation::Gelu => Unary::GeluErf,
            Activation::GeluTanh => Unary::GeluTanh,
            Activation::Mish => Unary::Mish,
            Activation::Softplus => Unary::Softplus,
            Activation::Softsign => Unary::Softsign,
        };
        self.unary(unary, x)
    }
}
