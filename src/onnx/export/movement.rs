//! Operations that move elements.

use super::attribute::{flag, index, ints, string};
use super::{Exporter, Site, signed};
use crate::error::{Error, Result};
use crate::graph::{Op, PadMode, Reduction};

impl Exporter<'_> {
    pub(super) fn movement(&mut self, site: &Site) -> Result<()> {
        let inputs: Vec<&str> = site.inputs.iter().map(String::as_str).collect();
        let (x, y) = (inputs[0], &site.outputs);
        match &site.node.op {
            Op::Reshape { shape } => {
                // Otherwise 0 would mean the extent of the operand.
                let allow_zero = shape.contains(&0).then(|| flag("allowzero", true));
                let shape = self.indices("shape", &signed(shape))?;
                self.emit_to(y, "Reshape", &[x, &shape], allow_zero.into_iter().collect());
            }
            Op::Transpose { perm } => {
                self.emit_to(y, "Transpose", &[x], vec![ints("perm", signed(perm))]);
            }
            Op::Slice { starts, extents, steps } => self.slice(site, starts, extents, steps)?,
            Op::Pad { begin, end, mode } => self.pad(site, begin, end, *mode)?,
            Op::Concat { axis } => self.emit_to(y, "Concat", &inputs, vec![index("axis", *axis)]),
            Op::Split { axis, sizes } => {
                let sizes = self.indices("sizes", &signed(sizes))?;
                self.emit_to(y, "Split", &[x, &sizes], vec![index("axis", *axis)]);
            }
            Op::Gather { axis } => self.emit_to(y, "Gather", &inputs, vec![index("axis", *axis)]),
            Op::Scatter { reduction } => {
                // A row of indices for each update.
                let axes = self.indices("axes", &[1])?;
                let indices = self.emit("Unsqueeze", &[inputs[1], &axes], vec![]);
                let attributes = match reduction {
                    None => vec![],
                    Some(Reduction::Sum) => vec![string("reduction", "add")],
                    Some(Reduction::Prod) => vec![string("reduction", "mul")],
                    Some(Reduction::Max) => vec![string("reduction", "max")],
                    Some(Reduction::Min) => vec![string("reduction", "min")],
                    Some(other) => {
                        return Err(Error::unsupported(format!("ONNX cannot scatter by {}", other.name())));
                    }
                };
                self.emit_to(y, "ScatterND", &[x, &indices, inputs[2]], attributes);
            }
            Op::Expand { shape } => {
                let shape = self.indices("shape", &signed(shape))?;
                self.emit_to(y, "Expand", &[x, &shape], vec![]);
            }
            other => return Err(Error::internal(format!("{} moves no elements", other.name()))),
        }
        Ok(())
    }

    fn slice(&mut self, site: &Site, starts: &[usize], extents: &[usize], steps: &[i64]) -> Result<()> {
        let shape = &site.input(0).shape;
        let ends = (0..shape.len()).map(|d| {
            let end = starts[d] as i64 + extents[d] as i64 * steps[d];
            match extents[d] {
                0 => starts[d] as i64,
                // Negative numbers count from the end: this is what stands for the place before the first.
                _ if end < 0 => -(shape[d] as i64) - 1,
                _ => end,
            }
        });
        let ends: Vec<i64> = ends.collect();
        let axes: Vec<i64> = (0..shape.len() as i64).collect();
        let starts = self.indices("starts", &signed(starts))?;
        let ends = self.indices("ends", &ends)?;
        let axes = self.indices("axes", &axes)?;
        let steps = self.indices("steps", steps)?;
        self.emit_to(&site.outputs, "Slice", &[&site.inputs[0], &starts, &ends, &axes, &steps], vec![]);
        Ok(())
    }

    fn pad(&mut self, site: &Site, begin: &[i64], end: &[i64], mode: PadMode) -> Result<()> {
        let pads = self.indices("pads", &[begin, end].concat())?;
        let (name, value) = match mode {
            PadMode::Constant(value) => ("constant", Some(self.scalar(site.input(0).dtype, value))),
            PadMode::Reflect => ("reflect", None),
            PadMode::Edge => ("edge", None),
            PadMode::Wrap => ("wrap", None),
        };
        let inputs: Vec<&str> =
            [site.inputs[0].as_str(), &pads].into_iter().chain(value.as_deref()).collect();
        self.emit_to(&site.outputs, "Pad", &inputs, vec![string("mode", name)]);
        Ok(())
    }
}
