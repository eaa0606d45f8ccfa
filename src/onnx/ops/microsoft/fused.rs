//! Activations that attributes of another operator name.

use super::{Halt, NodeCx, Result};
use crate::graph::{Op, Unary, ValueId};

/// The parameters of an activation by name, as far as they are given.
pub(super) struct Parameters {
    pub alpha: Option<f64>,
    pub beta: Option<f64>,
    pub gamma: Option<f64>,
}

impl Parameters {
    /// Those in attributes of their own.
    pub fn named(cx: &NodeCx<'_>) -> Result<Parameters> {
        Ok(Parameters {
            alpha: cx.attributes.float("activation_alpha")?,
            beta: cx.attributes.float("activation_beta")?,
            gamma: cx.attributes.float("activation_gamma")?,
        })
    }

    /// Those in a list.
    pub fn listed(cx: &NodeCx<'_>) -> Result<Parameters> {
        let list = cx.attributes.floats("activation_params")?.unwrap_or_default();
        if list.len() > 3 {
            return Err(Halt::invalid(format!(
                "activation_params has {} entries, but 3 are the most",
                list.len()
            )));
        }
        let at = |i: usize| list.get(i).copied();
        Ok(Parameters { alpha: at(0), beta: at(1), gamma: at(2) })
    }
}

/// `x` after the activation that the attribute `activation` names, if there is one.
pub(super) fn activated(cx: &mut NodeCx<'_>, x: ValueId, parameters: &Parameters) -> Result<ValueId> {
    let Some(name) = cx.attributes.string("activation")?.filter(|name| !name.is_empty()) else {
        return Ok(x);
    };
    let Parameters { alpha, beta, gamma } = *parameters;
    let or = |given: Option<f64>, default: f32| given.unwrap_or(f64::from(default));
    let function = match name {
        "Abs" => Unary::Abs,
        "Celu" => Unary::Celu { alpha: or(alpha, 1.0) },
        "Clip" => return cx.add(Op::Clip { min: alpha, max: beta }, &[x]),
        "Elu" => Unary::Elu { alpha: or(alpha, 1.0) },
        "Gelu" => Unary::GeluErf,
        "HardSigmoid" => Unary::HardSigmoid { alpha: or(alpha, 0.2), beta: or(beta, 0.5) },
        "HardSwish" => Unary::HardSwish,
        "Identity" => return Ok(x),
        "LeakyRelu" => Unary::LeakyRelu { alpha: or(alpha, 0.01) },
        "Relu" => Unary::Relu,
        "Selu" => Unary::Selu { alpha: or(alpha, 1.673_263_2), gamma: or(gamma, 1.050_701) },
        "Sigmoid" => Unary::Sigmoid,
        "Softplus" => Unary::Softplus,
        "Softsign" => Unary::Softsign,
        "Tanh" => Unary::Tanh,
        "ThresholdedRelu" => Unary::ThresholdedRelu { alpha: or(alpha, 1.0) },
        other => {
            return Err(Halt::unsupported(format!(
                "the activation '{}' is not supported",
                other.escape_debug()
            )));
        }
    };
    cx.unary(function, x)
}
