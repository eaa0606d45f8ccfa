//! Elementwise operations.

use nestjit_ir::{CheckKind, DType};

use super::attribute::{flag, float, int};
use super::{Exporter, Site, data_type};
use crate::error::{Error, Result};
use crate::graph::{Binary, Op, Unary};

impl Exporter<'_> {
    pub(super) fn elementwise(&mut self, site: &Site) -> Result<()> {
        let x = site.inputs[0].as_str();
        let dtype = site.input(0).dtype;
        match &site.node.op {
            Op::Unary(function) => self.unary(site, *function, x, dtype),
            Op::Binary(function) => return self.binary(site, *function),
            Op::Where => self.emit_to(&site.outputs, "Where", &[x, &site.inputs[1], &site.inputs[2]], vec![]),
            Op::Clip { min, max } => {
                // A bound that is left out makes infinities finite in ONNX; integers have none.
                let mut bound = |value: &Option<f64>, none: f64| {
                    let value = value.or(dtype.is_float().then_some(none));
                    value.map(|v| self.scalar(dtype, v)).unwrap_or_default()
                };
                let (min, max) = (bound(min, f64::NEG_INFINITY), bound(max, f64::INFINITY));
                self.emit_to(&site.outputs, "Clip", &[x, &min, &max], vec![]);
            }
            Op::Cast { to } => {
                let to = int("to", data_type(*to).into());
                self.emit_to(&site.outputs, "Cast", &[x], vec![to]);
            }
            // ONNX has no operator that only checks: what the values are used for is checked by whoever runs the model.
            Op::Check { kind: CheckKind::IndexFromEnd, high, .. } => {
                let (zero, extent) = (self.scalar(dtype, 0.0), self.scalar(dtype, *high as f64));
                let negative = self.emit("Less", &[x, &zero], vec![]);
                let shifted = self.emit("Add", &[x, &extent], vec![]);
                self.emit_to(&site.outputs, "Where", &[&negative, &shifted, x], vec![]);
            }
            Op::Check { .. } => self.emit_to(&site.outputs, "Identity", &[x], vec![]),
            Op::Dropout => self.emit_to(&site.outputs, "Dropout", &[x], vec![]),
            other => return Err(Error::internal(format!("{} is not elementwise", other.name()))),
        }
        Ok(())
    }

    fn unary(&mut self, site: &Site, function: Unary, x: &str, dtype: DType) {
        use Unary::*;
        let y = &site.outputs;
        let attributes = match function {
            LeakyRelu { alpha } | Elu { alpha } | Celu { alpha } | ThresholdedRelu { alpha } => {
                vec![float("alpha", alpha)]
            }
            Selu { alpha, gamma } => vec![float("alpha", alpha), float("gamma", gamma)],
            HardSigmoid { alpha, beta } => vec![float("alpha", alpha), float("beta", beta)],
            Shrink { lambda, bias } => vec![float("lambd", lambda), float("bias", bias)],
            _ => vec![],
        };
        match function {
            Trunc => {
                let sign = self.emit("Sign", &[x], vec![]);
                let size = self.emit("Abs", &[x], vec![]);
                let size = self.emit("Floor", &[&size], vec![]);
                self.emit_to(y, "Mul", &[&sign, &size], vec![]);
            }
            Neg if dtype.is_unsigned() => {
                let zero = self.scalar(dtype, 0.0);
                self.emit_to(y, "Sub", &[&zero, x], vec![]);
            }
            Relu if dtype.is_unsigned() => self.emit_to(y, "Identity", &[x], vec![]),
            Rsqrt => {
                let root = self.emit("Sqrt", &[x], vec![]);
                self.emit_to(y, "Reciprocal", &[&root], vec![]);
            }
            Square => self.emit_to(y, "Mul", &[x, x], vec![]),
            Expm1 => {
                let exp = self.emit("Exp", &[x], vec![]);
                let one = self.scalar(dtype, 1.0);
                self.emit_to(y, "Sub", &[&exp, &one], vec![]);
            }
            Log1p => {
                let one = self.scalar(dtype, 1.0);
                let sum = self.emit("Add", &[x, &one], vec![]);
                self.emit_to(y, "Log", &[&sum], vec![]);
            }
            Affine { alpha, beta } => {
                let (alpha, beta) = (self.scalar(dtype, alpha), self.scalar(dtype, beta));
                let scaled = self.emit("Mul", &[&alpha, x], vec![]);
                self.emit_to(y, "Add", &[&scaled, &beta], vec![]);
            }
            ScaledTanh { alpha, beta } => {
                let (alpha, beta) = (self.scalar(dtype, alpha), self.scalar(dtype, beta));
                let scaled = self.emit("Mul", &[&beta, x], vec![]);
                let tanh = self.emit("Tanh", &[&scaled], vec![]);
                self.emit_to(y, "Mul", &[&alpha, &tanh], vec![]);
            }
            Relu6 => {
                let (low, high) = (self.scalar(dtype, 0.0), self.scalar(dtype, 6.0));
                self.emit_to(y, "Clip", &[x, &low, &high], vec![]);
            }
            Silu => {
                let gate = self.emit("Sigmoid", &[x], vec![]);
                self.emit_to(y, "Mul", &[x, &gate], vec![]);
            }
            Mish => {
                let plus = self.emit("Softplus", &[x], vec![]);
                let gate = self.emit("Tanh", &[&plus], vec![]);
                self.emit_to(y, "Mul", &[x, &gate], vec![]);
            }
            GeluErf => {
                let root = self.scalar(dtype, std::f64::consts::SQRT_2);
                let argument = self.emit("Div", &[x, &root], vec![]);
                let erf = self.emit("Erf", &[&argument], vec![]);
                self.half_gate(y, x, &erf, dtype);
            }
            GeluTanh => {
                // sqrt(2 / pi) * (x + 0.044715 * x^3)
                let square = self.emit("Mul", &[x, x], vec![]);
                let cube = self.emit("Mul", &[&square, x], vec![]);
                let factor = self.scalar(dtype, 0.044715);
                let term = self.emit("Mul", &[&cube, &factor], vec![]);
                let sum = self.emit("Add", &[x, &term], vec![]);
                let factor = self.scalar(dtype, (2.0 / std::f64::consts::PI).sqrt());
                let argument = self.emit("Mul", &[&sum, &factor], vec![]);
                let tanh = self.emit("Tanh", &[&argument], vec![]);
                self.half_gate(y, x, &tanh, dtype);
            }
            // ONNX has it for f32 only.
            Celu { alpha } if dtype == DType::F64 => {
                let (zero, one) = (self.scalar(dtype, 0.0), self.scalar(dtype, 1.0));
                let alpha = self.scalar(dtype, alpha);
                let ratio = self.emit("Div", &[x, &alpha], vec![]);
                let exp = self.emit("Exp", &[&ratio], vec![]);
                let exp = self.emit("Sub", &[&exp, &one], vec![]);
                let curve = self.emit("Mul", &[&exp, &alpha], vec![]);
                let negative = self.emit("Min", &[&curve, &zero], vec![]);
                let positive = self.emit("Max", &[x, &zero], vec![]);
                self.emit_to(y, "Add", &[&positive, &negative], vec![]);
            }
            // All others are operators of the same name.
            _ => self.emit_to(y, function.name(), &[x], attributes),
        }
    }

    /// `x * (gate + 1) * 0.5`.
    fn half_gate(&mut self, y: &[String], x: &str, gate: &str, dtype: DType) {
        let one = self.scalar(dtype, 1.0);
        let gate = self.emit("Add", &[gate, &one], vec![]);
        let product = self.emit("Mul", &[x, &gate], vec![]);
        let half = self.scalar(dtype, 0.5);
        self.emit_to(y, "Mul", &[&product, &half], vec![]);
    }

    fn binary(&mut self, site: &Site, function: Binary) -> Result<()> {
        use Binary::*;
        let (a, b, y) = (site.inputs[0].as_str(), site.inputs[1].as_str(), &site.outputs);
        let dtype = site.input(0).dtype;
        match function {
            Add | Sub | Mul | Div | Pow | Eq | Lt | Le | Gt | Ge => {
                self.emit_to(y, function.name(), &[a, b], vec![]);
            }
            Max | Min => self.emit_to(y, function.name(), &[a, b], vec![]),
            Ne => {
                let equal = self.emit("Equal", &[a, b], vec![]);
                self.emit_to(y, "Not", &[&equal], vec![]);
            }
            And | Or | Xor if dtype == DType::Bool => self.emit_to(y, function.name(), &[a, b], vec![]),
            And | Or | Xor => self.emit_to(y, &format!("Bitwise{}", function.name()), &[a, b], vec![]),
            Rem => self.emit_to(y, "Mod", &[a, b], vec![flag("fmod", true)]),
            Mod if !dtype.is_float() => self.emit_to(y, "Mod", &[a, b], vec![]),
            Mod => {
                // The divisor is added to a remainder of the other sign.
                let remainder = self.emit("Mod", &[a, b], vec![flag("fmod", true)]);
                let zero = self.scalar(dtype, 0.0);
                let down = self.emit("Less", &[&remainder, &zero], vec![]);
                let up = self.emit("Greater", &[&remainder, &zero], vec![]);
                let divisor_down = self.emit("Less", &[b, &zero], vec![]);
                let divisor_up = self.emit("Greater", &[b, &zero], vec![]);
                let down = self.emit("And", &[&down, &divisor_up], vec![]);
                let up = self.emit("And", &[&up, &divisor_down], vec![]);
                let differ = self.emit("Or", &[&down, &up], vec![]);
                let shifted = self.emit("Add", &[&remainder, b], vec![]);
                self.emit_to(y, "Where", &[&differ, &shifted, &remainder], vec![]);
            }
            Atan2 => self.atan2(site),
            Shl | Shr if !dtype.is_unsigned() => {
                return Err(Error::unsupported(format!(
                    "ONNX has no {} of {dtype}, only of unsigned integers",
                    function.name()
                )));
            }
            Shl | Shr => {
                let direction = if function == Shl { "LEFT" } else { "RIGHT" };
                self.emit_to(y, "BitShift", &[a, b], vec![super::attribute::string("direction", direction)]);
            }
            // The slope of PRelu may be broadcast, x may not.
            PRelu if site.output(0).shape == site.input(0).shape && dtype.is_float() => {
                self.emit_to(y, "PRelu", &[a, b], vec![]);
            }
            PRelu => {
                let zero = self.scalar(dtype, 0.0);
                let negative = self.emit("Less", &[a, &zero], vec![]);
                let product = self.emit("Mul", &[a, b], vec![]);
                self.emit_to(y, "Where", &[&negative, &product, a], vec![]);
            }
        }
        Ok(())
    }

    /// The angle of the point `(b, a)`, by quadrants; the signs of zeros count, and infinities are taken for very
    /// large numbers.
    fn atan2(&mut self, site: &Site) {
        let dtype = site.input(0).dtype;
        let zero = self.scalar(dtype, 0.0);
        let largest = dtype.largest_finite().expect("Atan2 is defined on floating-point numbers only");
        let (low, high) = (self.scalar(dtype, -largest), self.scalar(dtype, largest));
        let [a, b] = [0, 1].map(|i| self.emit("Clip", &[&site.inputs[i], &low, &high], vec![]));
        // Below zero, or the zero that is.
        let [a_negative, b_negative] = [&a, &b].map(|x| {
            let below = self.emit("Less", &[x, &zero], vec![]);
            let reciprocal = self.emit("Reciprocal", &[x], vec![]);
            let zero_below = self.emit("Less", &[&reciprocal, &zero], vec![]);
            self.emit("Or", &[&below, &zero_below], vec![])
        });
        let turns = [0.5, -0.5, 1.0, -1.0].map(|turn| self.scalar(dtype, turn * std::f64::consts::PI));
        let [quarter, minus_quarter, half, minus_half] = turns;
        let quotient = self.emit("Div", &[&a, &b], vec![]);
        let right = self.emit("Atan", &[&quotient], vec![]);
        let turn = self.emit("Where", &[&a_negative, &minus_half, &half], vec![]);
        let left = self.emit("Add", &[&right, &turn], vec![]);
        // On the vertical axis, from its origin on upwards.
        let origin = self.emit("Where", &[&b_negative, &turn, &a], vec![]);
        let below = self.emit("Less", &[&a, &zero], vec![]);
        let lower = self.emit("Where", &[&below, &minus_quarter, &origin], vec![]);
        let above = self.emit("Greater", &[&a, &zero], vec![]);
        let axis = self.emit("Where", &[&above, &quarter, &lower], vec![]);
        let is_left = self.emit("Less", &[&b, &zero], vec![]);
        let not_right = self.emit("Where", &[&is_left, &left, &axis], vec![]);
        let is_right = self.emit("Greater", &[&b, &zero], vec![]);
        let angle = self.emit("Where", &[&is_right, &right, &not_right], vec![]);
        // Neither operand may be NaN; a sum of two that are not is none.
        let sum = self.emit("Add", &[&a, &b], vec![]);
        let invalid = self.emit("IsNaN", &[&sum], vec![]);
        self.emit_to(&site.outputs, "Where", &[&invalid, &sum, &angle], vec![]);
    }
}
