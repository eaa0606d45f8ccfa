//! What the import of one node works with: operands, attributes, and a short way to add core operations.

mod numbers;
pub(super) mod operator;

use std::cell::Cell;

use nestjit_ir::{CheckKind, DType, Scalar};

use super::attributes::Attributes;
use super::external::External;
use super::halt::{Halt, Result};
use super::proto::{GraphProto, NodeProto};
use super::scope::Scope;
use super::sink::{GraphSink, Origin};
use crate::error::{Error, ErrorKind};
use crate::graph::{Binary, Op, Reduction, Unary, ValueId};
use crate::host::HostOp;
use crate::tensor::{Element, Tensor};
use operator::{AS_COMPUTED, HostNode, OpEntry};

pub(super) use numbers::{axes, axis, extent, extents, floats, ints, missing};

/// What the model around a node has for it.
pub(super) trait Subgraphs {
    /// The outputs of a subgraph, whose inputs are `arguments`. The names of what it becomes start with `prefix`.
    fn subgraph(
        &self,
        sink: &mut GraphSink,
        graph: &GraphProto,
        arguments: &[ValueId],
        scope: &Scope<'_>,
        prefix: String,
    ) -> Result<Vec<ValueId>>;

    /// Where tensors have their data, if it is not in the file.
    fn external(&self) -> &External;
}

/// The import of one node.
pub(super) struct NodeCx<'a> {
    pub sink: &'a mut GraphSink,
    subgraphs: &'a dyn Subgraphs,
    origin: Origin<'a>,
    pub node: &'a NodeProto,
    pub scope: &'a Scope<'a>,
    pub attributes: Attributes<'a>,
    /// The version of the node's operator set.
    pub opset: i64,
    entry: &'static OpEntry,
    inputs: Vec<Option<ValueId>>,
    /// The types of the inputs in the model; those at hand may have become `f32`.
    given: Vec<Option<DType>>,
    /// One more than the last input that has been looked at.
    inputs_read: Cell<usize>,
}

/// Scopes only borrow downwards: a longer-lived one serves as a shorter-lived one.
impl<'a> NodeCx<'a> {
    pub fn new(
        subgraphs: &'a dyn Subgraphs,
        sink: &'a mut GraphSink,
        origin: Origin<'a>,
        node: &'a NodeProto,
        scope: &'a Scope<'a>,
        inputs: Vec<Option<ValueId>>,
        (entry, opset): (&'static OpEntry, i64),
    ) -> Result<NodeCx<'a>> {
        let attributes = Attributes::new(node, scope)?;
        let given = inputs.iter().map(|id| id.map(|id| sink.graph.value(id).dtype)).collect();
        let inputs_read = Cell::new(0);
        Ok(NodeCx {
            sink,
            subgraphs,
            origin,
            node,
            scope,
            attributes,
            opset,
            entry,
            inputs,
            given,
            inputs_read,
        })
    }

    /// Gives the node `f32` instead of half types, if its results are [rounded](NodeCx::rounded) like any input.
    pub fn widen(&mut self, like: &[usize]) -> Result<()> {
        let count = if like.is_empty() { 0 } else { self.inputs.len() };
        for i in 0..count {
            if let (Some(x), Some(DType::F16 | DType::BF16)) = (self.inputs[i], self.given[i]) {
                self.inputs[i] = Some(self.cast(x, DType::F32)?);
            }
        }
        Ok(())
    }

    /// Results that were computed in `f32` in the half types of these inputs, the last one for all further results.
    pub fn rounded(&mut self, results: Vec<ValueId>, like: &[usize]) -> Result<Vec<ValueId>> {
        let Some(last) = like.last() else { return Ok(results) };
        let rounded = results.into_iter().enumerate().map(|(i, result)| {
            let like = *like.get(i).unwrap_or(last);
            // What an input that is left out would have told, the first one does.
            let first = if like == AS_COMPUTED { None } else { self.given_dtype(0) };
            match (self.given_dtype(like).or(first), self.dtype(result)) {
                (Some(to @ (DType::F16 | DType::BF16)), DType::F32) => self.cast(result, to),
                _ => Ok(result),
            }
        });
        rounded.collect()
    }

    /// The operation of the host that the node is, if the host can run it.
    pub fn host_op(&self) -> Result<Option<HostOp>> {
        let (attributes, external) = (&self.attributes, self.external());
        let (opset, outputs) = (self.opset, self.output_count());
        Ok(self.entry.host_op(&HostNode { attributes, external, opset, outputs })?)
    }

    /// The type that an input has in the model, if it is given.
    pub fn given_dtype(&self, index: usize) -> Option<DType> {
        self.given.get(index).copied().flatten()
    }

    /// What the node's core operations are made for.
    pub fn origin(&self) -> Origin<'a> {
        self.origin
    }

    /// Where tensors in attributes have their data, if it is not in the file.
    pub fn external(&self) -> &'a External {
        self.subgraphs.external()
    }

    /// The outputs of a subgraph of this node. `label` tells it, and iterations of it, apart in names.
    pub fn subgraph(
        &mut self,
        graph: &GraphProto,
        arguments: &[ValueId],
        label: &str,
    ) -> Result<Vec<ValueId>> {
        let prefix = format!("{}/{label}/", self.origin.name);
        self.subgraphs.subgraph(self.sink, graph, arguments, self.scope, prefix)
    }

    /// How many inputs are listed, those left out included.
    pub fn input_count(&self) -> usize {
        self.inputs.len()
    }

    /// An input that must be given.
    pub fn input(&self, index: usize) -> Result<ValueId> {
        self.optional(index).ok_or_else(|| Halt::invalid(format!("input {index} is missing")))
    }

    /// An input that may be left out.
    pub fn optional(&self, index: usize) -> Option<ValueId> {
        self.inputs_read.set(self.inputs_read.get().max(index + 1));
        self.inputs.get(index).copied().flatten()
    }

    /// An error if the type of a value is not one for which `accepts` holds; `what` says what those are.
    pub fn expect_type(&self, x: ValueId, accepts: impl Fn(DType) -> bool, what: &str) -> Result<()> {
        let value = self.sink.graph.value(x);
        match accepts(value.dtype) {
            true => Ok(()),
            false => {
                let name = value.name.escape_debug();
                Err(Halt::shape(format!("'{name}' is {}, but {what} is needed", value.dtype)))
            }
        }
    }

    /// An error if a value is not of a floating-point type.
    pub fn expect_float(&self, x: ValueId) -> Result<()> {
        self.expect_type(x, DType::is_float, "a floating-point type")
    }

    /// Puts another value in the place of an input that is given: a form of it that the rest of an import takes.
    pub fn set_input(&mut self, index: usize, x: ValueId) {
        if let Some(input) = self.inputs.get_mut(index) {
            *input = Some(x);
        }
    }

    /// All inputs, of which none may be left out.
    pub fn inputs(&self) -> Result<Vec<ValueId>> {
        (0..self.inputs.len()).map(|i| self.input(i)).collect()
    }

    /// An error if there are more inputs than the operator has.
    pub fn expect_inputs(&self, max: usize) -> Result<()> {
        match self.inputs.len() > max {
            true => Err(Halt::invalid(format!(
                "{} inputs are given, but there are at most {max}",
                self.inputs.len()
            ))),
            false => Ok(()),
        }
    }

    /// An error if an input is given after the last one that has been looked at: to ignore it could be wrong.
    pub fn expect_all_inputs_read(&self) -> Result<()> {
        let read = self.inputs_read.get();
        match self.inputs.iter().skip(read).position(Option::is_some) {
            Some(i) => Err(Halt::unsupported(format!("the input {} is not supported", read + i))),
            None => Ok(()),
        }
    }

    /// Whether the model uses a result.
    pub fn wants(&self, output: usize) -> bool {
        self.node.output.get(output).is_some_and(|o| !o.is_empty())
    }

    /// How many results are listed.
    pub fn output_count(&self) -> usize {
        self.node.output.len()
    }

    pub fn dtype(&self, x: ValueId) -> DType {
        self.sink.graph.value(x).dtype
    }

    pub fn shape(&self, x: ValueId) -> Vec<usize> {
        self.sink.graph.value(x).shape.clone()
    }

    pub fn rank(&self, x: ValueId) -> usize {
        self.sink.graph.value(x).shape.len()
    }

    pub fn elements(&self, x: ValueId) -> usize {
        self.sink.graph.value(x).shape.iter().product()
    }

    /// The contents of a value, if it is constant.
    pub fn constant_of(&self, x: ValueId) -> Option<&Tensor> {
        self.sink.graph.constant(x)
    }

    // Attributes.

    pub fn int(&self, name: &'static str, default: i64) -> Result<i64> {
        Ok(self.attributes.int(name)?.unwrap_or(default))
    }

    /// What switches something on: 1, or off: 0.
    pub fn flag(&self, name: &'static str, default: bool) -> Result<bool> {
        match self.attributes.int(name)? {
            None => Ok(default),
            Some(0) => Ok(false),
            Some(1) => Ok(true),
            Some(other) => Err(Halt::invalid(format!("{name} is {other}, but must be 0 or 1"))),
        }
    }

    /// Attributes are of 32 bits, and so is the default.
    pub fn float(&self, name: &'static str, default: f64) -> Result<f64> {
        Ok(self.attributes.float(name)?.unwrap_or(f64::from(default as f32)))
    }

    pub fn string(&self, name: &'static str, default: &'static str) -> Result<&'a str> {
        Ok(self.attributes.string(name)?.unwrap_or(default))
    }

    pub fn required_int(&self, name: &'static str) -> Result<i64> {
        Ok(self.attributes.int(name)?.ok_or_else(|| missing(name))?)
    }

    /// The attribute `axis`, counted from the end if negative, of a tensor of this rank.
    pub fn axis(&self, default: i64, rank: usize) -> Result<usize> {
        Ok(axis(self.int("axis", default)?, rank)?)
    }

    // Values that must be known.

    /// The contents of a value, which must not depend on the run.
    pub fn known(&mut self, x: ValueId, what: &str) -> Result<Tensor> {
        self.sink.known(x, what, true)
    }

    /// The contents of a value, for which no stage is compiled because of it.
    ///
    /// # Errors
    /// That they depend on the run.
    pub fn known_constant(&mut self, x: ValueId, what: &str) -> Result<Tensor> {
        self.sink.known(x, what, false)
    }

    /// The contents of an integer tensor.
    pub fn known_ints(&mut self, x: ValueId, what: &str) -> Result<Vec<i64>> {
        Ok(ints(&self.known(x, what)?, what)?)
    }

    /// The contents of an integer tensor as extents.
    pub fn known_extents(&mut self, x: ValueId, what: &str) -> Result<Vec<usize>> {
        Ok(extents(&self.known_ints(x, what)?, what)?)
    }

    /// The one element of a numeric tensor.
    pub fn known_scalar(&mut self, x: ValueId, what: &str) -> Result<f64> {
        let tensor = self.known(x, what)?;
        match floats(&tensor, what)?.as_slice() {
            [value] => Ok(*value),
            _ => Err(Halt::shape(format!("{what} must be one number, not {:?}", tensor.shape()))),
        }
    }

    /// The one element of an integer tensor.
    pub fn known_int(&mut self, x: ValueId, what: &str) -> Result<i64> {
        match self.known_ints(x, what)?.as_slice() {
            [value] => Ok(*value),
            other => Err(Halt::shape(format!("{what} must be one integer, not {other:?}"))),
        }
    }

    /// What became an input in a later version: the attribute, or the input at `index`, if either is given.
    pub fn ints_or_input(&mut self, name: &'static str, index: usize) -> Result<Option<Vec<i64>>> {
        if let Some(ints) = self.attributes.ints(name)? {
            return Ok(Some(ints.to_vec()));
        }
        self.optional(index).map(|x| self.known_ints(x, &format!("the input '{name}'"))).transpose()
    }

    // Core operations.

    /// An operation with any number of results.
    pub fn add_all(&mut self, op: Op, inputs: &[ValueId]) -> Result<Vec<ValueId>> {
        Ok(self.sink.add(self.origin, op, inputs)?)
    }

    /// An operation with one result.
    pub fn add(&mut self, op: Op, inputs: &[ValueId]) -> Result<ValueId> {
        Ok(self.add_all(op, inputs)?[0])
    }

    pub fn unary(&mut self, op: Unary, x: ValueId) -> Result<ValueId> {
        self.add(Op::Unary(op), &[x])
    }

    pub fn binary(&mut self, op: Binary, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.add(Op::Binary(op), &[a, b])
    }

    /// `x op value`, with a constant of the type of `x`.
    pub fn binary_const(&mut self, op: Binary, x: ValueId, value: f64) -> Result<ValueId> {
        let constant = self.scalar_like(x, value);
        self.binary(op, x, constant)
    }

    /// A matrix product of operands of one type, which the result has too.
    pub fn matmul(&mut self, a: ValueId, b: ValueId) -> Result<ValueId> {
        let dtype = self.dtype(a);
        self.expect_type(b, |b| b == dtype, dtype.name())?;
        let y = self.add(Op::MatMul, &[a, b])?;
        self.cast(y, dtype)
    }

    pub fn select(&mut self, condition: ValueId, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.add(Op::Where, &[condition, a, b])
    }

    pub fn cast(&mut self, x: ValueId, to: DType) -> Result<ValueId> {
        self.add(Op::Cast { to }, &[x])
    }

    pub fn reshape(&mut self, x: ValueId, shape: &[usize]) -> Result<ValueId> {
        self.add(Op::Reshape { shape: shape.to_vec() }, &[x])
    }

    pub fn transpose(&mut self, x: ValueId, perm: &[usize]) -> Result<ValueId> {
        self.add(Op::Transpose { perm: perm.to_vec() }, &[x])
    }

    pub fn expand(&mut self, x: ValueId, shape: &[usize]) -> Result<ValueId> {
        self.add(Op::Expand { shape: shape.to_vec() }, &[x])
    }

    pub fn concat(&mut self, inputs: &[ValueId], axis: usize) -> Result<ValueId> {
        self.add(Op::Concat { axis }, inputs)
    }

    pub fn gather(&mut self, x: ValueId, indices: ValueId, axis: usize) -> Result<ValueId> {
        self.add(Op::Gather { axis }, &[x, indices])
    }

    /// The values of the input at `input`, or a part of them, `x`, as `i64`, all of which must lie in `low..high`: a run
    /// in which one does not ends with an error. Indices that count from the end come back counted from the start.
    ///
    /// # Errors
    /// A constant that is outside.
    pub fn checked(
        &mut self,
        x: ValueId,
        input: usize,
        kind: CheckKind,
        low: i64,
        high: i64,
    ) -> Result<ValueId> {
        self.expect_type(x, |dtype| matches!(dtype, DType::I32 | DType::I64), "i32 or i64")?;
        let x = self.cast(x, DType::I64)?;
        let input = self.node.input.get(input).cloned().unwrap_or_default();
        if let Some(tensor) = self.constant_of(x) {
            let mut counted_back = false;
            for &value in tensor.values::<i64>()? {
                let back = kind == CheckKind::IndexFromEnd && value < 0;
                counted_back |= back;
                let from_start = if back { value.saturating_add(high) } else { value };
                if !(low..high).contains(&from_start) {
                    return Err(
                        Error::new(ErrorKind::Index, kind.message(&input, from_start, low, high)).into()
                    );
                }
            }
            if !counted_back {
                return Ok(x);
            }
        }
        self.add(Op::Check { kind, low, high, input }, &[x])
    }

    pub fn reduce(&mut self, op: Reduction, x: ValueId, axes: &[usize], keep_dims: bool) -> Result<ValueId> {
        self.add(Op::Reduce { op, axes: axes.to_vec(), keep_dims }, &[x])
    }

    /// `x[.., start .. start + extent, ..]` along one dimension.
    pub fn narrow(&mut self, x: ValueId, axis: usize, start: usize, extent: usize) -> Result<ValueId> {
        let mut extents = self.shape(x);
        let mut starts = vec![0; extents.len()];
        let steps = vec![1; extents.len()];
        starts[axis] = start;
        extents[axis] = extent;
        self.add(Op::Slice { starts, extents, steps }, &[x])
    }

    /// `x` with a dimension of extent 1 more.
    pub fn unsqueeze(&mut self, x: ValueId, axis: usize) -> Result<ValueId> {
        let mut shape = self.shape(x);
        shape.insert(axis, 1);
        self.reshape(x, &shape)
    }

    pub fn constant(&mut self, tensor: Tensor) -> ValueId {
        self.sink.constant(self.origin.name, tensor)
    }

    /// A constant from values.
    pub fn values<T: Element>(&mut self, shape: &[usize], values: &[T]) -> Result<ValueId> {
        Ok(self.constant(Tensor::new(shape, values)?))
    }

    /// A rank-0 constant.
    pub fn scalar(&mut self, dtype: DType, value: f64) -> ValueId {
        let tensor = Tensor::from(Scalar::from_f64(dtype, value));
        self.constant(tensor)
    }

    /// A rank-0 constant of the type of `x`.
    pub fn scalar_like(&mut self, x: ValueId, value: f64) -> ValueId {
        self.scalar(self.dtype(x), value)
    }

    /// A constant of floats, in the (floating-point) type of `x`.
    pub fn floats_like(&mut self, x: ValueId, shape: &[usize], values: &[f64]) -> Result<ValueId> {
        let constant = self.values(shape, values)?;
        self.cast(constant, self.dtype(x))
    }
}
