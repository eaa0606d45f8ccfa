//! Recurrent layers.

use super::attribute::{flag, float, floats, index, string, strings};
use super::{Exporter, Site};
use crate::error::{Error, Result};
use crate::graph::{Direction, Op, RecurrentKind, Unary};

impl Exporter<'_> {
    pub(super) fn recurrent(&mut self, site: &Site) -> Result<()> {
        let Op::Recurrent { kind, hidden, direction, activations, clip } = &site.node.op else {
            return Err(Error::internal("not a recurrent layer"));
        };
        let mut inputs: Vec<&str> = site.inputs.iter().map(String::as_str).collect();
        if inputs.len() > 4 {
            // The lengths of sequences: all are whole.
            inputs.insert(4, "");
        }
        let direction = match direction {
            Direction::Forward => "forward",
            Direction::Reverse => "reverse",
            Direction::Bidirectional => "bidirectional",
        };
        let mut attributes = vec![index("hidden_size", *hidden), string("direction", direction)];
        let (mut names, mut alphas, mut betas) = (Vec::new(), Vec::new(), Vec::new());
        for activation in activations {
            let (name, alpha, beta) = gate_function(*activation)?;
            names.push(name);
            // Only functions that have parameters take some, in order.
            alphas.extend(alpha);
            betas.extend(beta);
        }
        attributes.push(strings("activations", &names));
        if !alphas.is_empty() {
            attributes.push(floats("activation_alpha", &alphas));
        }
        if !betas.is_empty() {
            attributes.push(floats("activation_beta", &betas));
        }
        attributes.extend(clip.map(|clip| float("clip", clip)));
        let op = match kind {
            RecurrentKind::Rnn => "RNN",
            RecurrentKind::Lstm => "LSTM",
            RecurrentKind::Gru { linear_before_reset } => {
                attributes.push(flag("linear_before_reset", *linear_before_reset));
                "GRU"
            }
        };
        self.emit_to(&site.outputs, op, &inputs, attributes);
        Ok(())
    }
}

/// The name and the parameters of an activation; ONNX has only some for recurrent layers.
fn gate_function(activation: Unary) -> Result<(&'static str, Option<f64>, Option<f64>)> {
    Ok(match activation {
        Unary::Relu => ("Relu", None, None),
        Unary::Tanh => ("Tanh", None, None),
        Unary::Sigmoid => ("Sigmoid", None, None),
        Unary::Softsign => ("Softsign", None, None),
        Unary::Softplus => ("Softplus", None, None),
        Unary::LeakyRelu { alpha } => ("LeakyRelu", Some(alpha), None),
        Unary::ThresholdedRelu { alpha } => ("ThresholdedRelu", Some(alpha), None),
        Unary::Elu { alpha } => ("Elu", Some(alpha), None),
        Unary::HardSigmoid { alpha, beta } => ("HardSigmoid", Some(alpha), Some(beta)),
        Unary::Affine { alpha, beta } => ("Affine", Some(alpha), Some(beta)),
        Unary::ScaledTanh { alpha, beta } => ("ScaledTanh", Some(alpha), Some(beta)),
        Unary::Identity => ("Affine", Some(1.0), Some(0.0)),
        other => {
            return Err(Error::unsupported(format!("ONNX has no recurrent layer with {}", other.name())));
        }
    })
}
