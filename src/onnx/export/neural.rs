//! Matrix products, convolutions, pooling and normalisation. ONNX has images with the channels first: others are
//! transposed before and after.

use nestjit_ir::DType;

use super::attribute::{flag, float, index, int, ints};
use super::{Exporter, MICROSOFT, Site, data_type, signed};
use crate::error::{Error, Result};
use crate::graph::{Format, Op, PoolKind, Window};
use crate::onnx::proto::AttributeProto;

impl Exporter<'_> {
    pub(super) fn neural(&mut self, site: &Site) -> Result<()> {
        let inputs: Vec<&str> = site.inputs.iter().map(String::as_str).collect();
        let y = &site.outputs;
        match &site.node.op {
            Op::MatMul if site.input(0).dtype.is_byte() => self.emit_to(y, "MatMulInteger", &inputs, vec![]),
            Op::MatMul => self.emit_to(y, "MatMul", &inputs, vec![]),
            Op::Gemm { alpha, beta, trans_a, trans_b } => {
                let attributes = vec![
                    float("alpha", *alpha),
                    float("beta", *beta),
                    flag("transA", *trans_a),
                    flag("transB", *trans_b),
                ];
                self.emit_to(y, "Gemm", &inputs, attributes);
            }
            Op::PackedMatMul { bits, block } => self.packed_matmul(site, *bits, *block)?,
            Op::Conv { window, groups, format, pad_value } => {
                let mut attributes = window_attributes(window);
                attributes.push(index("group", *groups));
                let dtype = site.input(0).dtype;
                if dtype.is_float() {
                    self.image_op(site, "Conv", attributes, *format);
                } else if dtype.is_byte() {
                    self.conv_integer(site, attributes, *format, *pad_value)?;
                } else {
                    self.wide_conv(site, attributes, *format);
                }
            }
            Op::BiasAdd { axis } => self.bias_add(site, *axis)?,
            Op::BatchNorm { epsilon, format } => {
                self.image_op(site, "BatchNormalization", vec![float("epsilon", *epsilon)], *format);
            }
            Op::InstanceNorm { epsilon, format } => {
                self.image_op(site, "InstanceNormalization", vec![float("epsilon", *epsilon)], *format);
            }
            Op::LayerNorm { axis, epsilon } => {
                let attributes = vec![index("axis", *axis), float("epsilon", *epsilon)];
                self.emit_to(y, "LayerNormalization", &inputs, attributes);
            }
            Op::RmsNorm { axis, epsilon } => self.rms_norm(site, *axis, *epsilon)?,
            Op::GroupNorm { groups, epsilon, format } => self.group_norm(site, *groups, *epsilon, *format)?,
            Op::Softmax { axis } => self.emit_to(y, "Softmax", &inputs, vec![index("axis", *axis)]),
            Op::LogSoftmax { axis } => self.emit_to(y, "LogSoftmax", &inputs, vec![index("axis", *axis)]),
            Op::Pool { kind, window, ceil_mode, format } => {
                self.pool(site, *kind, window, *ceil_mode, *format)?;
            }
            Op::GlobalPool { kind: PoolKind::Average { .. }, format } => {
                self.image_op(site, "GlobalAveragePool", vec![], *format);
            }
            Op::GlobalPool { kind: PoolKind::Max, format } if site.input(0).dtype.is_float() => {
                self.image_op(site, "GlobalMaxPool", vec![], *format);
            }
            Op::GlobalPool { format, .. } => {
                let first = format.first_spatial();
                let axes: Vec<usize> = (first..first + site.input(0).shape.len() - 2).collect();
                self.reduce_to(y, "ReduceMax", inputs[0], &axes, true)?;
            }
            other => return Err(Error::internal(format!("{} is no neural operation", other.name()))),
        }
        Ok(())
    }

    /// `MatMulNBits` of ONNX Runtime, whose parameters are in rows for columns, zero points packed or of the type of `x`.
    fn packed_matmul(&mut self, site: &Site, bits: usize, block: usize) -> Result<()> {
        let (x, n, dtype) = (site.input(0), site.output(0).shape.last(), site.input(0).dtype);
        let (Some(k), Some(n)) = (x.shape.last(), n) else {
            return Err(Error::internal("a product without columns"));
        };
        if block < 16 || !block.is_power_of_two() || *k == 0 || *n == 0 {
            let message = format!("ONNX has no product of {k} rows with {n} columns in blocks of {block}");
            return Err(Error::unsupported(message));
        }
        let swapped = || vec![ints("perm", vec![1, 0])];
        let mut inputs = site.inputs[..2].to_vec();
        inputs.push(self.emit("Transpose", &[&site.inputs[2]], swapped()));
        if let Some(zero) = site.inputs.get(3) {
            let whole = bits == 8 && site.input(3).dtype == DType::U8;
            let to = if whole { DType::U8 } else { dtype };
            let zero = self.emit("Cast", &[zero], vec![int("to", data_type(to).into())]);
            inputs.push(self.emit("Transpose", &[&zero], swapped()));
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let attributes =
            vec![index("K", *k), index("N", *n), index("bits", bits), index("block_size", block)];
        self.emit_to(&site.outputs, "MatMulNBits", &inputs, attributes);
        if let Some(node) = self.nodes.last_mut() {
            node.domain = Some(MICROSOFT.to_owned());
        }
        Ok(())
    }

    /// An operator on images: its first operand and its result are.
    fn image_op(&mut self, site: &Site, op: &str, attributes: Vec<AttributeProto>, format: Format) {
        let x = self.channels_first(&site.inputs[0], site.input(0).shape.len(), format);
        let inputs: Vec<&str> = std::iter::once(&x).chain(&site.inputs[1..]).map(String::as_str).collect();
        let rank = site.output(0).shape.len();
        if format == Format::ChannelsFirst || rank < 3 {
            return self.emit_to(&site.outputs, op, &inputs, attributes);
        }
        let result = self.emit(op, &inputs, attributes);
        self.channels_last(&site.outputs, &result, rank);
    }

    /// A convolution of 8-bit integers. ONNX pads with the zero point, which it takes off as well: what is padded with
    /// another number is so before.
    fn conv_integer(
        &mut self,
        site: &Site,
        mut attributes: Vec<AttributeProto>,
        format: Format,
        pad_value: i16,
    ) -> Result<()> {
        let rank = site.output(0).shape.len();
        let mut x = self.channels_first(&site.inputs[0], rank, format);
        let pads = attributes.iter().position(|a| a.name() == "pads").map(|at| attributes.remove(at));
        if let Some(pads) = pads.filter(|a| a.ints.iter().any(|pad| *pad != 0)) {
            let (begin, end) = pads.ints.split_at(rank - 2);
            let pads = self.indices("pads", &[&[0, 0], begin, &[0, 0], end].concat())?;
            let value = self.scalar(site.input(0).dtype, f64::from(pad_value));
            x = self.emit("Pad", &[&x, &pads, &value], vec![]);
        }
        let mut y = self.emit("ConvInteger", &[&x, &site.inputs[1]], attributes);
        if site.inputs.len() > 2 {
            let bias = self.along_axis(site, 2, 1, rank)?;
            y = self.emit("Add", &[&y, &bias], vec![]);
        }
        match format {
            Format::ChannelsFirst => self.emit_to(&site.outputs, "Identity", &[&y], vec![]),
            Format::ChannelsLast => self.channels_last(&site.outputs, &y, rank),
        }
        Ok(())
    }

    /// A convolution of integers of more than 8 bits, in `f64`, where their sums are exact below 2^53.
    fn wide_conv(&mut self, site: &Site, attributes: Vec<AttributeProto>, format: Format) {
        let to = |dtype| vec![int("to", data_type(dtype).into())];
        let rank = site.output(0).shape.len();
        let x = self.channels_first(&site.inputs[0], rank, format);
        let operands: Vec<String> = std::iter::once(&x)
            .chain(&site.inputs[1..])
            .map(|operand| self.emit("Cast", &[operand], to(DType::F64)))
            .collect();
        let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
        let y = self.emit("Conv", &operands, attributes);
        let narrow = to(site.output(0).dtype);
        match format {
            Format::ChannelsFirst => self.emit_to(&site.outputs, "Cast", &[&y], narrow),
            Format::ChannelsLast => {
                let y = self.emit("Cast", &[&y], narrow);
                self.channels_last(&site.outputs, &y, rank);
            }
        }
    }

    /// An image with the channels first. There is nothing to do without spatial dimensions.
    fn channels_first(&mut self, x: &str, rank: usize, format: Format) -> String {
        if format == Format::ChannelsFirst || rank < 3 {
            return x.to_owned();
        }
        let perm = [0, rank - 1].into_iter().chain(1..rank - 1).map(|d| d as i64).collect();
        self.emit("Transpose", &[x], vec![ints("perm", perm)])
    }

    fn channels_last(&mut self, y: &[String], x: &str, rank: usize) {
        let perm = [0].into_iter().chain(2..rank).chain([1]).map(|d| d as i64).collect();
        self.emit_to(y, "Transpose", &[x], vec![ints("perm", perm)]);
    }

    fn bias_add(&mut self, site: &Site, axis: usize) -> Result<()> {
        let bias = self.along_axis(site, 1, axis, site.input(0).shape.len())?;
        self.emit_to(&site.outputs, "Add", &[&site.inputs[0], &bias], vec![]);
        Ok(())
    }

    /// A vector operand in a shape in which it is broadcast along this dimension.
    fn along_axis(&mut self, site: &Site, operand: usize, axis: usize, rank: usize) -> Result<String> {
        let extent = site.input(operand).shape[0];
        if axis + 1 == rank {
            return Ok(site.inputs[operand].clone());
        }
        let mut shape = vec![1; rank - axis];
        shape[0] = extent;
        match self.graph.constant(site.node.inputs[operand]) {
            Some(tensor) => {
                Ok(self.constant(&format!("{}.reshaped", site.inputs[operand]), &tensor.reshape(&shape)?))
            }
            None => {
                let axes: Vec<i64> = (1..shape.len() as i64).collect();
                let axes = self.indices("axes", &axes)?;
                Ok(self.emit("Unsqueeze", &[&site.inputs[operand], &axes], vec![]))
            }
        }
    }

    fn rms_norm(&mut self, site: &Site, axis: usize, epsilon: f64) -> Result<()> {
        let (x, value) = (site.inputs[0].as_str(), site.input(0));
        let axes: Vec<usize> = (axis..value.shape.len()).collect();
        let square = self.emit("Mul", &[x, x], vec![]);
        let mean = self.reduce("ReduceMean", &square, &axes)?;
        let epsilon = self.scalar(value.dtype, epsilon);
        let sum = self.emit("Add", &[&mean, &epsilon], vec![]);
        let root = self.emit("Sqrt", &[&sum], vec![]);
        let quotient = self.emit("Div", &[x, &root], vec![]);
        self.emit_to(&site.outputs, "Mul", &[&quotient, &site.inputs[1]], vec![]);
        Ok(())
    }

    /// Instance normalisation of a tensor in which groups are the channels.
    fn group_norm(&mut self, site: &Site, groups: usize, epsilon: f64, format: Format) -> Result<()> {
        let value = site.input(0);
        let rank = value.shape.len();
        let x = self.channels_first(&site.inputs[0], rank, format);
        let shape = self.indices("groups", &[0, groups as i64, -1])?;
        let grouped = self.emit("Reshape", &[&x, &shape], vec![]);
        let ones = vec![1.0f32; groups];
        let [scale, bias] = [ones.clone(), vec![0.0; groups]].map(|v| self.group_parameter(&v, value.dtype));
        let norm =
            self.emit("InstanceNormalization", &[&grouped, &scale?, &bias?], vec![float("epsilon", epsilon)]);
        let mut first = value.shape.clone();
        if format == Format::ChannelsLast && rank >= 3 {
            first = [&first[..1], &first[rank - 1..], &first[1..rank - 1]].concat();
        }
        let shape = self.indices("shape", &signed(&first))?;
        let norm = self.emit("Reshape", &[&norm, &shape], vec![]);
        let scale = self.along_axis(site, 1, 1, rank)?;
        let bias = self.along_axis(site, 2, 1, rank)?;
        let scaled = self.emit("Mul", &[&norm, &scale], vec![]);
        if format == Format::ChannelsFirst || rank < 3 {
            self.emit_to(&site.outputs, "Add", &[&scaled, &bias], vec![]);
        } else {
            let sum = self.emit("Add", &[&scaled, &bias], vec![]);
            self.channels_last(&site.outputs, &sum, rank);
        }
        Ok(())
    }

    fn group_parameter(&mut self, values: &[f32], dtype: DType) -> Result<String> {
        let values: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
        let tensor = crate::Tensor::from_f64(dtype, &[values.len()], &values)?;
        Ok(self.constant(&format!("{}.group", self.current), &tensor))
    }

    fn pool(
        &mut self,
        site: &Site,
        kind: PoolKind,
        window: &Window,
        ceil_mode: bool,
        format: Format,
    ) -> Result<()> {
        let mut attributes = window_attributes(window);
        let unit = window.dilations.iter().all(|d| *d == 1);
        if unit {
            attributes.retain(|a| a.name() != "dilations");
        }
        attributes.push(flag("ceil_mode", ceil_mode));
        match kind {
            PoolKind::Max => {
                let dtype = site.input(0).dtype;
                if !dtype.is_float() && !matches!(dtype, DType::I8 | DType::U8) {
                    return Err(Error::unsupported(format!("ONNX has no MaxPool of {dtype}")));
                }
                self.image_op(site, "MaxPool", attributes, format);
            }
            PoolKind::Average { count_include_pad } => {
                attributes.push(int("count_include_pad", i64::from(count_include_pad)));
                self.image_op(site, "AveragePool", attributes, format);
            }
        }
        Ok(())
    }
}

fn window_attributes(window: &Window) -> Vec<AttributeProto> {
    vec![
        ints("kernel_shape", signed(&window.kernel)),
        ints("strides", signed(&window.strides)),
        ints("dilations", signed(&window.dilations)),
        ints("pads", signed(&[window.pads_begin.as_slice(), &window.pads_end].concat())),
    ]
}
