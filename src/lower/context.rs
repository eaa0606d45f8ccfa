//! The state of a lowering: which buffer holds which value, and what one node is given to work with.
//!
//! Knows nothing of what operations compute.

use std::sync::Arc;

use nestjit_ir::hash::FastMap;
use nestjit_ir::interp::eval_cast;
use nestjit_ir::{
    BufId, Buffer, CheckKind, DType, Expr, NestBuilder, ReduceOp, Role, SCALAR, Scalar, Site, Var,
};

use super::halves::{broadcast_often, is_exact, kept_as_f32, moves, read_often};
use super::operand::{Array, Operand, computed_in};
use crate::error::{Error, Result};
use crate::graph::eval::evaluate_op;
use crate::graph::{Bounds, Graph, Limits, Node, Op, ValueId};
use crate::tensor::{Tensor, checked_bytes};
use crate::unit::Unit;

/// A loop to be written: its name and its extent.
pub(super) type Loop = (String, usize);

/// A unit in the making.
pub(super) struct Lowering<'g> {
    graph: &'g Graph,
    unit: Unit,
    /// The buffer of each value, once it has one.
    buffers: Vec<Option<BufId>>,
    /// Constants, inputs and outputs of half types that were widened, by value.
    widened: FastMap<ValueId, BufId>,
    /// Which values of half types lie in buffers of `f32`.
    as_f32: Vec<bool>,
    /// Which values are needed for an output of the graph.
    used: Vec<bool>,
    /// Which limits integers keep.
    bounds: Bounds<'g>,
}

impl<'g> Lowering<'g> {
    /// Starts with the inputs of a valid graph.
    pub fn new(graph: &'g Graph) -> Result<Lowering<'g>> {
        let mut lowering = Lowering {
            graph,
            unit: Unit::default(),
            buffers: vec![None; graph.values.len()],
            widened: FastMap::default(),
            as_f32: kept_as_f32(graph),
            used: graph.needed(),
            bounds: Bounds::new(graph),
        };
        for id in &graph.inputs {
            let buf = lowering.define(*id, Role::In)?;
            lowering.unit.inputs.push(buf);
        }
        Ok(lowering)
    }

    /// Whether anything needs this value.
    pub fn is_used(&self, id: ValueId) -> bool {
        self.used[id.0 as usize]
    }

    /// The type of a value's elements in memory.
    fn stored(&self, id: ValueId) -> DType {
        if self.as_f32[id.0 as usize] { DType::F32 } else { self.graph.value(id).dtype }
    }

    fn define(&mut self, id: ValueId, role: Role) -> Result<BufId> {
        let value = self.graph.value(id);
        let buf = self.add_buffer(&value.name, self.stored(id), &value.shape, role)?;
        self.buffers[id.0 as usize] = Some(buf);
        Ok(buf)
    }

    fn add_buffer(&mut self, name: &str, dtype: DType, shape: &[usize], role: Role) -> Result<BufId> {
        checked_bytes(dtype, shape)?;
        let name = self.unit.program.unique_buffer_name(name);
        Ok(self.unit.program.add_buffer(Buffer::new(name, dtype, shape, role)))
    }

    fn add_const(&mut self, name: &str, data: Arc<Tensor>) -> Result<BufId> {
        let buf = self.add_buffer(name, data.dtype(), data.shape(), Role::Const)?;
        self.unit.consts.insert(buf, data);
        Ok(buf)
    }

    /// The buffer of a value that exists already, or of a constant.
    fn read(&mut self, id: ValueId) -> Result<Array> {
        let value = self.graph.value(id);
        let buf = match (self.buffers[id.0 as usize], &value.data) {
            (Some(buf), _) => buf,
            (None, Some(data)) => {
                let buf = self.add_const(&value.name, Arc::clone(data))?;
                self.buffers[id.0 as usize] = Some(buf);
                buf
            }
            (None, None) => return Err(Error::internal(format!("'{}' has no buffer", value.name))),
        };
        Ok(Array::as_stored(buf, self.stored(id), value.shape.clone()))
    }

    /// Adds the outputs; those that no node computes are copied.
    pub fn finish(mut self) -> Result<Unit> {
        for id in &self.graph.outputs {
            let value = self.graph.value(*id);
            let mut source = self.read(*id)?;
            if self.unit.program.buf(source.buf).role != Role::Out {
                let role = Role::Out;
                let copy = self.add_buffer(&value.name, value.dtype, &value.shape, role)?;
                let mut b = NestBuilder::new(&mut self.unit.program, &value.name);
                b.op(format!("Identity {}", value.name));
                b.for_each("i", &value.shape, |b, i| b.store(copy, i, source.at(i)));
                b.finish();
                // A second mention of the same output finds the copy.
                self.buffers[id.0 as usize] = Some(copy);
                source.buf = copy;
            }
            self.unit.outputs.push(source.buf);
        }
        Ok(self.unit)
    }
}

/// What the lowering of one node works with.
pub(super) struct Context<'l, 'g> {
    lowering: &'l mut Lowering<'g>,
    node: &'g Node,
}

impl<'l, 'g> Context<'l, 'g> {
    pub fn new(lowering: &'l mut Lowering<'g>, node: &'g Node) -> Context<'l, 'g> {
        Context { lowering, node }
    }

    pub fn node(&self) -> &'g Node {
        self.node
    }

    /// `NODE.part`: the name of a buffer or nest that belongs to the node.
    pub fn name(&self, part: &str) -> String {
        format!("{}.{part}", self.node.name)
    }

    /// What the error of a check in this node names; `input` is the tensor that holds the values.
    pub fn site(&self, kind: CheckKind, input: &str) -> Arc<Site> {
        let (node, op) = self.lowering.graph.place(self.node);
        Arc::new(Site { node: node.to_owned(), op: op.to_owned(), input: input.to_owned(), kind })
    }

    /// The name of an operand.
    pub fn operand_name(&self, input: usize) -> &'g str {
        &self.lowering.graph.value(self.node.inputs[input]).name
    }

    /// The number of operands.
    pub fn arity(&self) -> usize {
        self.node.inputs.len()
    }

    /// An operand as an array, even if it is a constant of one element.
    pub fn array(&mut self, input: usize) -> Result<Array> {
        self.view(self.node.inputs[input])
    }

    /// An operand of a contraction. What is a half in memory and read often is converted once, a constant when the model is
    /// compiled; otherwise it stays as it is stored, for then it is its bytes that take time.
    pub fn factor(&mut self, input: usize) -> Result<Array> {
        let (graph, id) = (self.lowering.graph, self.node.inputs[input]);
        let often = read_often(graph, self.node, input);
        if often
            && graph.value(id).dtype.is_half()
            && let Some(data) = graph.constant(id)
        {
            return self.widened(id, data);
        }
        let array = self.array(input)?;
        if !often || !array.stored().is_half() {
            return Ok(array);
        }
        if let Some(buf) = self.lowering.widened.get(&id) {
            return Ok(Array::as_stored(*buf, array.dtype, array.shape));
        }
        let name = format!("{}.{}", graph.value(id).name, array.dtype);
        let buf = self.lowering.add_buffer(&name, array.dtype, &array.shape, Role::Temp)?;
        let wide = Array::as_stored(buf, array.dtype, array.shape.clone());
        self.lowering.widened.insert(id, buf);
        let mut b = self.nest(&format!("operand{input}"));
        b.for_each("i", &wide.shape, |b, i| wide.store(b, i, array.at(i)));
        b.finish();
        Ok(wide)
    }

    /// A constant of a half type in the type that is computed with.
    fn widened(&mut self, id: ValueId, data: &Tensor) -> Result<Array> {
        let dtype = computed_in(data.dtype());
        let buf = match self.lowering.widened.get(&id) {
            Some(buf) => *buf,
            None => {
                let wide = evaluate_op(&Op::Cast { to: dtype }, std::slice::from_ref(data))?;
                let wide = wide.into_iter().next().ok_or_else(|| Error::internal("a cast has a result"))?;
                let name = &self.lowering.graph.value(id).name;
                let buf = self.lowering.add_const(name, Arc::new(wide))?;
                self.lowering.widened.insert(id, buf);
                buf
            }
        };
        Ok(Array::as_stored(buf, dtype, data.shape().to_vec()))
    }

    /// A value as the node's operation takes it.
    fn view(&mut self, id: ValueId) -> Result<Array> {
        let graph = self.lowering.graph;
        let half = graph.value(id).dtype;
        if let Some(data) = graph.constant(id)
            && half.is_half()
            && broadcast_often(graph, self.node, id)
        {
            return self.widened(id, data);
        }
        let array = self.lowering.read(id)?;
        let made = self.node.outputs.contains(&id);
        let op = &self.node.op;
        Ok(match (array.stored() != half, moves(op)) {
            (false, false) => Array::computed(array.buf, half, array.shape),
            (true, false) if made && !is_exact(op, half) => Array::widened(array.buf, half, array.shape),
            (true, false) => array,
            // A conversion is given a half to store; it reads what is the same in `f32`.
            (_, true) if matches!(op, Op::Cast { .. }) => match made {
                true => array.moved_as(half),
                false => array,
            },
            (_, true) if half.is_half() => array.moved_as(self.moved_as(half)),
            (_, true) => array,
        })
    }

    /// The type in which an operation that moves elements of a half type takes and gives them.
    fn moved_as(&self, half: DType) -> DType {
        let wide = |id: &ValueId| self.lowering.as_f32[id.0 as usize];
        if self.node.outputs.iter().any(wide) { DType::F32 } else { half }
    }

    /// An operand; constants of one element are literals.
    pub fn operand(&mut self, input: usize) -> Result<Operand> {
        let value = self.lowering.graph.value(self.node.inputs[input]);
        if let Some(data) = &value.data
            && value.shape.iter().all(|d| *d == 1)
            && let Some(literal) = only_element(data)
        {
            let dtype = match moves(&self.node.op) {
                true if literal.dtype().is_half() => self.moved_as(literal.dtype()),
                true => literal.dtype(),
                false => computed_in(literal.dtype()),
            };
            return Ok(Operand::Literal(eval_cast(dtype, literal), value.shape.clone()));
        }
        self.array(input).map(Operand::Array)
    }

    /// An operand that may have been left out.
    pub fn optional(&mut self, input: usize) -> Result<Option<Operand>> {
        (input < self.arity()).then(|| self.operand(input)).transpose()
    }

    /// All operands.
    pub fn operands(&mut self) -> Result<Vec<Operand>> {
        (0..self.arity()).map(|i| self.operand(i)).collect()
    }

    /// The contents of an operand, if it is a constant.
    pub fn data(&self, input: usize) -> Option<&'g Tensor> {
        self.lowering.graph.value(self.node.inputs[input]).data.as_deref()
    }

    /// The buffer of the first result.
    pub fn result(&mut self) -> Result<Array> {
        self.define(0)
    }

    /// The buffer of a result, unless nobody needs it.
    pub fn result_if_used(&mut self, output: usize) -> Result<Option<Array>> {
        if !self.lowering.is_used(self.node.outputs[output]) {
            return Ok(None);
        }
        self.define(output).map(Some)
    }

    fn define(&mut self, output: usize) -> Result<Array> {
        let id = self.node.outputs[output];
        let role = if self.lowering.graph.outputs.contains(&id) { Role::Out } else { Role::Temp };
        self.lowering.define(id, role)?;
        self.view(id)
    }

    /// The limits that the elements of an operand are known to keep, if they are integers.
    pub fn limits(&self, input: usize) -> Limits {
        self.lowering.bounds.of(self.node.inputs[input])
    }

    /// The shape of a result.
    pub fn result_shape(&self, output: usize) -> &'g [usize] {
        &self.lowering.graph.value(self.node.outputs[output]).shape
    }

    /// The shape of an operand.
    pub fn operand_shape(&self, input: usize) -> &'g [usize] {
        &self.lowering.graph.value(self.node.inputs[input]).shape
    }

    /// An intermediate buffer `NODE.part`.
    pub fn temp(&mut self, part: &str, dtype: DType, shape: &[usize]) -> Result<Array> {
        let name = self.name(part);
        let buf = self.lowering.add_buffer(&name, dtype, shape, Role::Temp)?;
        Ok(Array::as_stored(buf, dtype, shape.to_vec()))
    }

    /// A constant `NODE.part` computed here.
    pub fn table(&mut self, part: &str, dtype: DType, shape: &[usize], values: &[f64]) -> Result<Array> {
        self.constant(part, Tensor::from_f64(dtype, shape, values)?)
    }

    /// A constant `NODE.part`.
    pub fn constant(&mut self, part: &str, data: Tensor) -> Result<Array> {
        let (name, dtype, shape) = (self.name(part), data.dtype(), data.shape().to_vec());
        let buf = self.lowering.add_const(&name, Arc::new(data))?;
        Ok(Array::as_stored(buf, dtype, shape))
    }

    /// Starts the nest of the node, or one of its steps (`NODE.part`).
    pub fn nest(&mut self, part: &str) -> NestBuilder<'_> {
        let name = if part.is_empty() { self.node.name.clone() } else { self.name(part) };
        let operations = self.lowering.graph.operations(self.node);
        let mut b = NestBuilder::new(&mut self.lowering.unit.program, &name);
        for operation in operations {
            b.op(operation);
        }
        b
    }

    /// If no result that is needed has any element, writes loops that do nothing and returns true: all other
    /// code may then rely on there being something to compute.
    pub fn fill_empty_results(&mut self) -> Result<bool> {
        let node = self.node;
        let used: Vec<usize> =
            (0..node.outputs.len()).filter(|i| self.lowering.is_used(node.outputs[*i])).collect();
        if used.iter().any(|i| !self.result_shape(*i).contains(&0)) {
            return Ok(false);
        }
        let results = used.into_iter().map(|i| self.define(i)).collect::<Result<Vec<_>>>()?;
        let mut b = self.nest("");
        for y in &results {
            b.for_each("i", &y.shape, |b, i| y.store(b, i, Scalar::zero(y.dtype).into()));
        }
        b.finish();
        Ok(true)
    }
}

/// Writes the loops, outermost first, and `body` inside.
pub(super) fn loops<'p, R>(
    b: &mut NestBuilder<'p>,
    loops: &[Loop],
    body: impl FnOnce(&mut NestBuilder<'p>, &[Var]) -> R,
) -> R {
    let names: Vec<&str> = loops.iter().map(|l| l.0.as_str()).collect();
    let extents: Vec<usize> = loops.iter().map(|l| l.1).collect();
    b.for_all(&names, &extents, body)
}

/// Combines `value` over `reduced` into an accumulator named `name`, and returns its final value.
pub(super) fn accumulate<'p>(
    b: &mut NestBuilder<'p>,
    name: &str,
    op: ReduceOp,
    dtype: DType,
    reduced: &[Loop],
    value: impl FnOnce(&[Var]) -> Expr,
) -> Expr {
    let acc = b.temp(name, dtype, &[]);
    b.store(acc, SCALAR, op.identity(dtype).into());
    loops(b, reduced, |b, k| b.reduce(op, acc, SCALAR, value(k)));
    Expr::load(acc, SCALAR)
}

fn only_element(data: &Tensor) -> Option<Scalar> {
    fn first<T: crate::tensor::Element>(data: &Tensor, scalar: fn(T) -> Scalar) -> Option<Scalar> {
        data.values::<T>().ok()?.first().map(|v| scalar(*v))
    }
    match data.dtype() {
        DType::F32 => first(data, Scalar::F32),
        DType::F64 => first(data, Scalar::F64),
        DType::F16 => first(data, Scalar::F16),
        DType::BF16 => first(data, Scalar::BF16),
        DType::I64 => first(data, Scalar::I64),
        DType::I32 => first(data, Scalar::I32),
        DType::I8 => first(data, Scalar::I8),
        DType::U8 => first(data, Scalar::U8),
        DType::I16 => first(data, Scalar::I16),
        DType::U16 => first(data, Scalar::U16),
        DType::U32 => first(data, Scalar::U32),
        DType::U64 => first(data, Scalar::U64),
        DType::Bool => first(data, Scalar::Bool),
    }
}
