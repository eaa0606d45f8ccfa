//! ByteTables: elementwise functions from bytes to bytes become tables of 256.
//!
//! Between two quantisations an activation is a function of one byte: `q -> quantise(f(dequantise(q)))`. Its results are
//! computed when the model is compiled, and looked up when it runs: lanes do so by permutations
//! ([`crate::lanes::lookup`]), in about as many instructions whatever the function is. What is found by data flow are
//! values of one byte that follow from one other tensor of bytes by elementwise operations, all other operands being
//! scalars that are known; several quantisations in a row, and several uses of the byte, are one table.

use nestjit_ir::DType;

use super::PassContext;
use crate::error::{Error, Result};
use crate::graph::eval::evaluate_op;
use crate::graph::{Binary, Graph, Node, Op, Port, Unary, ValueId};
use crate::lanes;
use crate::remark::{Reason, Remark};
use crate::tensor::Tensor;

/// Runs the pass.
pub fn run(graph: &mut Graph, _: &PassContext<'_>, remarks: &mut Vec<Remark>) -> Result<bool> {
    if !graph.values.iter().any(|v| v.dtype.is_byte()) {
        return Ok(false);
    }
    let (roots, readers) = (roots(graph), graph.consumers());
    let escapes = escapes(graph, &roots);
    let mut found = Vec::new();
    for index in 0..graph.nodes.len() {
        let [y] = graph.nodes[index].outputs[..] else { continue };
        let root = roots[y.0 as usize].filter(|root| *root != y && graph.value(y).dtype.is_byte());
        let Some(root) = root.filter(|_| escapes[y.0 as usize]) else { continue };
        let cone = Cone::of(graph, &roots, &readers, (index, root));
        if cone.cost(graph) as f64 > lanes::LOOKUP
            && let Some(table) = cone.table(graph, root)?
        {
            found.push((index, root, table, cone));
        }
    }
    let changed = !found.is_empty();
    // From the end on, so that indices stay.
    for (index, root, table, cone) in found.into_iter().rev() {
        let found = Reason::Table { operations: cone.private.len() };
        remarks.push(Remark::node(&graph.nodes[index].name, found));
        let mut operations: Vec<String> = Vec::new();
        for &node in cone.private.iter().rev() {
            for operation in graph.operations(&graph.nodes[node]) {
                if !operations.contains(&operation) {
                    operations.push(operation);
                }
            }
        }
        look_up(graph, index, root, table, &operations);
    }
    graph.remove_dead();
    Ok(changed)
}

/// For each value, the tensor of bytes, of its shape, of which it is a function element by element; the first of
/// several in a row. That of bytes which are a function of nothing else are they themselves.
fn roots(graph: &Graph) -> Vec<Option<ValueId>> {
    let own = |id: ValueId| (graph.value(id).dtype.is_byte() && !graph.is_const(id)).then_some(id);
    let mut roots: Vec<Option<ValueId>> = vec![None; graph.values.len()];
    for id in &graph.inputs {
        roots[id.0 as usize] = own(*id);
    }
    for node in &graph.nodes {
        let common = || {
            let [y] = node.outputs[..] else { return None };
            let shape = &graph.value(y).shape;
            let mut root = None;
            for &x in node.inputs.iter().filter(|x| !is_scalar(graph, **x)) {
                let of = roots[x.0 as usize].filter(|_| graph.value(x).shape == *shape)?;
                if *root.get_or_insert(of) != of {
                    return None;
                }
            }
            root.filter(|_| node.op.is_elementwise())
        };
        let root = common();
        for &y in &node.outputs {
            roots[y.0 as usize] = root.or_else(|| own(y));
        }
    }
    roots
}

/// Whether a value is a number that is known.
fn is_scalar(graph: &Graph, id: ValueId) -> bool {
    graph.constant(id).is_some_and(|t| t.len() == 1)
}

/// For each value, whether something else needs it than functions of its root that end in bytes.
fn escapes(graph: &Graph, roots: &[Option<ValueId>]) -> Vec<bool> {
    let mut escapes = vec![false; graph.values.len()];
    for id in &graph.outputs {
        escapes[id.0 as usize] = true;
    }
    for node in graph.nodes.iter().rev() {
        for x in &node.inputs {
            let root = roots[x.0 as usize];
            let ends = |y: &ValueId| {
                roots[y.0 as usize] == root && (graph.value(*y).dtype.is_byte() || !escapes[y.0 as usize])
            };
            if !node.outputs.iter().all(ends) {
                escapes[x.0 as usize] = true;
            }
        }
    }
    escapes
}

/// The nodes that compute bytes from others.
struct Cone {
    /// In reverse order.
    nodes: Vec<usize>,
    /// Those of them that are for nothing else.
    private: Vec<usize>,
}

impl Cone {
    fn of(
        graph: &Graph,
        roots: &[Option<ValueId>],
        readers: &[Vec<Port>],
        (last, root): (usize, ValueId),
    ) -> Cone {
        let mut needed: Vec<ValueId> = graph.nodes[last].outputs.clone();
        let (mut nodes, mut private) = (Vec::new(), Vec::new());
        for index in (0..=last).rev() {
            let node = &graph.nodes[index];
            if node.outputs.contains(&root) {
                break;
            }
            if !node.outputs.iter().any(|y| needed.contains(y)) {
                continue;
            }
            let inside = |y: &ValueId| {
                let own = readers[y.0 as usize].iter().all(|port| private.contains(&port.node));
                own && !graph.outputs.contains(y)
            };
            if index == last || node.outputs.iter().all(inside) {
                private.push(index);
            }
            nodes.push(index);
            let inside = |x: &&ValueId| **x != root && roots[x.0 as usize] == Some(root);
            needed.extend(node.inputs.iter().filter(inside));
        }
        Cone { nodes, private }
    }

    /// About how many instructions compute a vector of the nodes that are for nothing else.
    fn cost(&self, graph: &Graph) -> usize {
        self.private.iter().map(|index| cost(&graph.nodes[*index].op)).sum()
    }

    /// The bytes that the values 0 to 255 of the root's bytes become.
    fn table(&self, graph: &Graph, root: ValueId) -> Result<Option<Tensor>> {
        let bytes: Vec<u8> = (0..=u8::MAX).collect();
        let mut known = vec![(root, Tensor::from_bytes(graph.value(root).dtype, &[lanes::TABLE], &bytes)?)];
        for &index in self.nodes.iter().rev() {
            let node = &graph.nodes[index];
            let mut operands = Vec::with_capacity(node.inputs.len());
            for x in &node.inputs {
                operands.push(match (known.iter().find(|(id, _)| id == x), graph.constant(*x)) {
                    (Some((_, tensor)), _) => tensor.clone(),
                    (None, Some(scalar)) => scalar.reshape(&[])?,
                    (None, None) => return Err(Error::internal("an operand of a table is not known")),
                });
            }
            // What fails stays an error of the run.
            let Ok(results) = evaluate_op(&node.op, &operands) else { return Ok(None) };
            known.extend(node.outputs.iter().copied().zip(results));
        }
        let Some((_, last)) = known.pop() else { return Ok(None) };
        Tensor::from_bytes(DType::U8, &[lanes::TABLE], last.bytes()?).map(Some)
    }
}

/// About how many instructions an operation takes for a vector.
fn cost(op: &Op) -> usize {
    match op {
        Op::Unary(unary) => match unary {
            Unary::Identity => 0,
            Unary::Neg | Unary::Abs | Unary::Floor | Unary::Ceil | Unary::Round | Unary::Trunc => 1,
            Unary::Not | Unary::BitNot | Unary::Square | Unary::Relu => 1,
            Unary::Sign | Unary::IsNan | Unary::IsInf | Unary::Relu6 | Unary::LeakyRelu { .. } => 2,
            Unary::ThresholdedRelu { .. } => 2,
            Unary::Affine { .. } => 2,
            Unary::ScaledTanh { .. } => 16,
            Unary::HardSigmoid { .. } | Unary::HardSwish | Unary::Shrink { .. } => 4,
            Unary::Sqrt | Unary::Rsqrt | Unary::Reciprocal | Unary::Softsign => 4,
            Unary::Exp | Unary::Expm1 | Unary::Log | Unary::Log1p | Unary::Erf => 16,
            Unary::Sin | Unary::Cos | Unary::Tan | Unary::Asin | Unary::Acos | Unary::Atan => 16,
            Unary::Sinh | Unary::Cosh | Unary::Asinh | Unary::Acosh | Unary::Atanh | Unary::Tanh => 16,
            Unary::Elu { .. } | Unary::Celu { .. } | Unary::Selu { .. } | Unary::Sigmoid => 16,
            Unary::Silu | Unary::GeluErf | Unary::GeluTanh | Unary::Mish | Unary::Softplus => 16,
        },
        Op::Binary(Binary::Div) => 4,
        Op::Binary(Binary::Rem | Binary::Mod | Binary::Pow | Binary::Atan2) => 16,
        Op::Clip { .. } => 2,
        Op::Dropout => 0,
        _ => 1,
    }
}

/// Makes a node look its result up.
fn look_up(graph: &mut Graph, index: usize, root: ValueId, table: Tensor, operations: &[String]) {
    let (name, y) = (graph.nodes[index].name.clone(), graph.nodes[index].outputs[0]);
    let shape = graph.value(y).shape.clone();
    let constant = graph.unique_value_name(&format!("{name}.table"));
    let constant = graph.add_constant(constant, table);
    // Signed bytes are counted, and looked up, by their bits.
    let unsigned = |graph: &mut Graph, part: &str| {
        let value = graph.unique_value_name(&format!("{name}.{part}"));
        (graph.add_value(value, DType::U8, &shape), graph.unique_node_name(&format!("{name}.{part}")))
    };
    let node = |name, op, inputs: &[ValueId], y| Node { name, op, inputs: inputs.to_vec(), outputs: vec![y] };
    let mut nodes = Vec::new();
    let mut byte = root;
    if graph.value(root).dtype == DType::I8 {
        let (bits, name) = unsigned(graph, "bits");
        nodes.push(node(name, Op::Cast { to: DType::U8 }, &[root], bits));
        byte = bits;
    }
    let gather = Op::Gather { axis: 0 };
    if graph.value(y).dtype == DType::I8 {
        let (bits, own) = unsigned(graph, "found");
        nodes.push(node(own, gather, &[constant, byte], bits));
        nodes.push(node(name, Op::Cast { to: DType::I8 }, &[bits], y));
    } else {
        nodes.push(node(name, gather, &[constant, byte], y));
    }
    for node in &nodes {
        graph.origins.insert(node.name.clone(), operations.to_vec());
    }
    graph.nodes.splice(index..=index, nodes);
}
