//! Reductions.

use nestjit_ir::DType;

use super::attribute::{flag, index, int, ints};
use super::{Exporter, Site, data_type, signed};
use crate::error::{Error, Result};
use crate::graph::{Op, Reduction};

impl Exporter<'_> {
    pub(super) fn reduction(&mut self, site: &Site) -> Result<()> {
        let (x, y) = (site.inputs[0].as_str(), &site.outputs);
        match &site.node.op {
            Op::Reduce { op, axes, .. } if axes.is_empty() => {
                self.reduce_nothing(site, *op);
                Ok(())
            }
            Op::Reduce { op: op @ (Reduction::Any | Reduction::All), axes, keep_dims } => {
                let number = self.emit("Cast", &[x], vec![int("to", data_type(DType::I32).into())]);
                // Of nothing, none holds and all hold; the maximum of nothing would not be 0.
                let name = if *op == Reduction::Any { "ReduceSum" } else { "ReduceMin" };
                let reduced = self.free(&format!("{}.reduced", self.current));
                self.reduce_to(std::slice::from_ref(&reduced), name, &number, axes, *keep_dims)?;
                self.emit_to(y, "Cast", &[&reduced], vec![int("to", data_type(DType::Bool).into())]);
                Ok(())
            }
            // It is computed in `i32`, whose least and greatest values are others.
            Op::Reduce { op: op @ (Reduction::Max | Reduction::Min), .. }
                if site.input(0).dtype.size() == 2 && site.input(0).shape.contains(&0) =>
            {
                Err(Error::unsupported(format!("ONNX has no {} of {}", op.name(), site.input(0).dtype)))
            }
            Op::Reduce { op, axes, keep_dims } => self.reduce_to(y, op.name(), x, axes, *keep_dims),
            Op::ArgReduce { max, axis, keep_dims, last } => {
                let name = if *max { "ArgMax" } else { "ArgMin" };
                let attributes = vec![
                    index("axis", *axis),
                    flag("keepdims", *keep_dims),
                    flag("select_last_index", *last),
                ];
                self.emit_to(y, name, &[x], attributes);
                Ok(())
            }
            other => Err(Error::internal(format!("{} is no reduction", other.name()))),
        }
    }

    /// Dimensions that stay, with extent 1.
    pub(super) fn reduce(&mut self, op: &str, x: &str, axes: &[usize]) -> Result<String> {
        let name = self.free(&format!("{}.{}", self.current, op.to_ascii_lowercase()));
        self.reduce_to(std::slice::from_ref(&name), op, x, axes, true)?;
        Ok(name)
    }

    /// Axes are an operand of sums, and since operator set 18 of all reductions.
    pub(super) fn reduce_to(
        &mut self,
        y: &[String],
        op: &str,
        x: &str,
        axes: &[usize],
        keep_dims: bool,
    ) -> Result<()> {
        let mut attributes = vec![flag("keepdims", keep_dims)];
        if op == "ReduceSum" || self.opset >= 18 {
            let axes = self.indices("axes", &signed(axes))?;
            self.emit_to(y, op, &[x, &axes], attributes);
        } else {
            attributes.push(ints("axes", signed(axes)));
            self.emit_to(y, op, &[x], attributes);
        }
        Ok(())
    }

    /// Without axes there is one element in every sum: for ONNX no axes are all axes.
    fn reduce_nothing(&mut self, site: &Site, op: Reduction) {
        let (x, y) = (site.inputs[0].as_str(), &site.outputs);
        match op {
            Reduction::L1 | Reduction::L2 => self.emit_to(y, "Abs", &[x], vec![]),
            Reduction::SumSquare => self.emit_to(y, "Mul", &[x, x], vec![]),
            Reduction::LogSum => self.emit_to(y, "Log", &[x], vec![]),
            Reduction::Sum
            | Reduction::Mean
            | Reduction::Max
            | Reduction::Min
            | Reduction::Prod
            | Reduction::LogSumExp
            | Reduction::Any
            | Reduction::All => self.emit_to(y, "Identity", &[x], vec![]),
        }
    }
}
