//! Operations that a file spells out as several: they count as what they are.
//!
//! Exporters write GELU as five operations and a layer normalisation as nine. Counted one by one, fusing them would look
//! like more than it is. An activation is found as `x * f(x)` (or `x / f(x)`), where `f` is made of elementwise functions
//! of `x` and numbers; a normalisation in the same way with means in `f`. Nothing else may read what lies between.

use std::collections::HashMap;

use super::Graph;
use super::provenance::{ModelOp, ModelOps, ValueSource};

/// An operation that is spelled out has at most this many.
const MAX_OPS: usize = 24;

/// What may be between `x` and `x * f(x)`.
const ELEMENTWISE: [&str; 24] = [
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pow",
    "Max",
    "Min",
    "Neg",
    "Exp",
    "Log",
    "Log1p",
    "Erf",
    "Sqrt",
    "Rsqrt",
    "Reciprocal",
    "Square",
    "Sigmoid",
    "Tanh",
    "Softplus",
    "Relu6",
    "Clip",
    "HardSigmoid",
    "Identity",
    "ReduceMean",
];

/// What activations are called that may be spelled out.
const ACTIVATIONS: [&str; 5] = ["Gelu", "GeluTanh", "HardSwish", "Mish", "SiLU"];

impl Graph {
    /// The nodes of each activation that is spelled out as several operations, in their order.
    pub(crate) fn spelled_out_activations(&self) -> Vec<Vec<usize>> {
        let numbers: HashMap<&str, usize> =
            self.nodes.iter().enumerate().map(|(at, node)| (node.name.as_str(), at)).collect();
        let ops = ModelOps::trace(self, self).ops;
        let spelled_out = ops.iter().filter(|op| ACTIVATIONS.contains(&op.kind) && op.nodes.len() > 1);
        let numbered = spelled_out.map(|op| {
            let mut nodes: Vec<usize> =
                op.nodes.iter().filter_map(|name| numbers.get(name.as_str()).copied()).collect();
            nodes.sort_unstable();
            nodes
        });
        numbered.collect()
    }
}

/// The operations that compute a value from one other.
struct Region {
    /// The value that all begins with.
    source: usize,
    /// The operations, the last one first.
    ops: Vec<usize>,
}

/// A region with a name.
struct Found {
    kind: &'static str,
    region: Region,
}

impl ModelOps {
    /// Makes one operation of those that are spelled out.
    pub(super) fn join_spelled_out(&mut self) {
        let readers = self.readers();
        let mut joined = vec![false; self.ops.len()];
        for at in 0..self.ops.len() {
            let product = matches!(self.ops[at].kind, "Mul" | "Div") && !joined[at];
            let Some(found) = product.then(|| self.spelled_out(at, &readers)).flatten() else { continue };
            if !found.region.ops.iter().any(|op| joined[*op]) {
                self.join(found, &mut joined);
            }
        }
        self.remove(&joined);
    }

    fn join(&mut self, found: Found, joined: &mut [bool]) {
        let mut order = found.region.ops;
        order.sort_unstable();
        let (Some(first), Some(last)) = (order.first().copied(), order.pop()) else { return };
        let name = common_scope(&self.ops[first].name, &self.ops[last].name).to_owned();
        let mut nodes = self.ops[last].nodes.clone();
        for at in order {
            joined[at] = true;
            for v in std::mem::take(&mut self.ops[at].outputs) {
                self.values[v].source = ValueSource::Constant;
            }
            let own = std::mem::take(&mut self.ops[at].nodes);
            nodes.extend(own.into_iter().filter(|n| !nodes.contains(n)).collect::<Vec<_>>());
        }
        let op = &mut self.ops[last];
        (op.kind, op.name, op.nodes, op.inputs) = (found.kind, name, nodes, vec![found.region.source]);
    }

    /// Takes operations away.
    pub(super) fn remove(&mut self, gone: &[bool]) {
        let mut number = 0;
        let numbers: Vec<usize> = gone
            .iter()
            .map(|gone| {
                number += usize::from(!gone);
                number - usize::from(!gone)
            })
            .collect();
        let mut gone = gone.iter();
        self.ops.retain(|_| gone.next() == Some(&false));
        for value in &mut self.values {
            if let ValueSource::Op(at) = &mut value.source {
                *at = numbers[*at];
            }
        }
    }

    fn spelled_out(&self, last: usize, readers: &[Vec<usize>]) -> Option<Found> {
        let mut region = self.region(last, readers)?;
        let has = |kind: &str| region.ops.iter().any(|op| self.ops[*op].kind == kind);
        if has("ReduceMean") {
            return self.normalisation(region, readers);
        }
        let x = region.source;
        // `x` itself, or half of it.
        let scaled = |v: usize| {
            let ValueSource::Op(at) = self.values[v].source else { return false };
            matches!(self.ops[at].kind, "Mul" | "Div") && self.operands(at).eq([x])
        };
        let plain = self.operands(last).any(|v| v == x);
        if !plain && !self.operands(last).any(scaled) {
            return None;
        }
        let kind = match () {
            () if has("Erf") => "Gelu",
            () if has("Tanh") && (has("Softplus") || has("Log") || has("Log1p")) => "Mish",
            () if has("Tanh") => "GeluTanh",
            () if ["HardSigmoid", "Relu6", "Clip"].into_iter().any(has) || has("Max") && has("Min") => {
                "HardSwish"
            }
            () if has("Sigmoid") || has("Exp") && self.ops[last].kind == "Div" => "SiLU",
            () => return None,
        };
        // `x * clip(x + 3, 0, 6)` is still to be divided by 6, unless the factor was.
        let factors =
            region.ops.iter().filter(|op| matches!(self.ops[**op].kind, "Mul" | "Div" | "HardSigmoid"));
        if plain && (matches!(kind, "Gelu" | "GeluTanh") || kind == "HardSwish" && factors.count() == 1) {
            self.follow(&mut region, readers, |op, other| {
                matches!(op.kind, "Mul" | "Div") && self.is_number(other)
            });
        }
        Some(Found { kind, region })
    }

    /// `(x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon)`, or the same without means, then a scale and a shift.
    fn normalisation(&self, mut region: Region, readers: &[Vec<usize>]) -> Option<Found> {
        if !region.ops.iter().any(|op| matches!(self.ops[*op].kind, "Sqrt" | "Rsqrt")) {
            return None;
        }
        let mean = *region.ops.iter().find(|op| self.ops[**op].kind == "ReduceMean")?;
        let mut kind = "RMSNorm";
        if let ValueSource::Op(centred) = self.values[region.source].source
            && self.ops[centred].kind == "Sub"
            && readers[region.source].iter().all(|r| region.ops.contains(r))
            && let Some(whole) = self.region(centred, readers)
            && let [_, average] = whole.ops.as_slice()
            && self.ops[*average].kind == "ReduceMean"
        {
            region.source = whole.source;
            region.ops.extend(whole.ops);
            kind = self.norm(region.source, mean);
        }
        for wanted in [["Mul"; 2], ["Add", "BiasAdd"]] {
            self.follow(&mut region, readers, |op, other| {
                wanted.contains(&op.kind) && self.values[other].source == ValueSource::Constant
            });
        }
        Some(Found { kind, region })
    }

    /// Means over pixels are those of an instance normalisation.
    fn norm(&self, x: usize, mean: usize) -> &'static str {
        let (all, means) = (&self.values[x].shape, self.ops[mean].outputs.first());
        let means: usize = means.map_or(1, |v| self.values[*v].shape.iter().product());
        match all.as_slice() {
            [n, c, _, _, ..] if means == n * c => "InstanceNorm",
            _ => "LayerNorm",
        }
    }

    /// Adds the operation that reads the region's result, if it is the only one and `fits` holds for it and its other
    /// operand.
    fn follow(&self, region: &mut Region, readers: &[Vec<usize>], fits: impl Fn(&ModelOp, usize) -> bool) {
        let Some(&last) = region.ops.iter().max() else { return };
        let &[result] = self.ops[last].outputs.as_slice() else { return };
        let &[next] = readers[result].as_slice() else { return };
        let mut others = self.ops[next].inputs.iter().filter(|v| **v != result);
        if let (Some(&other), None) = (others.next(), others.next())
            && !self.values[result].output
            && fits(&self.ops[next], other)
        {
            region.ops.push(next);
        }
    }

    /// The fewest operations up to `last` that begin with one value.
    fn region(&self, last: usize, readers: &[Vec<usize>]) -> Option<Region> {
        let mut ops = vec![last];
        let mut open: Vec<usize> = self.operands(last).collect();
        if open.len() < 2 {
            return None;
        }
        loop {
            if let [source] = open[..] {
                return Some(Region { source, ops });
            }
            let made = |v: usize| match self.values[v].source {
                ValueSource::Op(at) => Some(at),
                ValueSource::Input | ValueSource::Constant => None,
            };
            let at = open.iter().filter_map(|v| made(*v)).max()?;
            let op = &self.ops[at];
            let &[result] = op.outputs.as_slice() else { return None };
            let private = !self.values[result].output && readers[result].iter().all(|r| ops.contains(r));
            if !private || !ELEMENTWISE.contains(&op.kind) || ops.len() == MAX_OPS {
                return None;
            }
            ops.push(at);
            open.retain(|v| *v != result);
            for v in self.operands(at) {
                if !open.contains(&v) {
                    open.push(v);
                }
            }
        }
    }

    /// What an operation reads, but for numbers.
    fn operands(&self, at: usize) -> impl Iterator<Item = usize> + '_ {
        self.ops[at].inputs.iter().copied().filter(|v| !self.is_number(*v))
    }

    fn is_number(&self, v: usize) -> bool {
        let value = &self.values[v];
        value.source == ValueSource::Constant && value.shape.iter().product::<usize>() == 1
    }
}

/// The scope of both names if they have one in common (`act/sigmoid` and `act/mul`), otherwise the second name.
fn common_scope<'n>(first: &str, second: &'n str) -> &'n str {
    match (first.rsplit_once('/'), second.rsplit_once('/')) {
        (Some((a, _)), Some((b, _))) if a == b && !b.is_empty() => b,
        _ => second,
    }
}

#[cfg(test)]
mod tests {
    use nestjit_ir::DType;

    use super::*;
    use crate::graph::{GraphBuilder, Reduction, ValueId};
    use crate::tensor::Tensor;

    fn traced(build: impl FnOnce(&mut GraphBuilder, ValueId) -> ValueId) -> ModelOps {
        let mut g = GraphBuilder::new("m");
        let x = g.input("x", DType::F32, &[2, 4]);
        let x = g.neg(x);
        let y = build(&mut g, x);
        let y = g.neg(y);
        g.output("y", y);
        let graph: Graph = g.build().unwrap();
        ModelOps::trace(&graph, &graph)
    }

    fn kinds(ops: &ModelOps) -> Vec<&str> {
        ops.ops.iter().map(|op| op.kind).collect()
    }

    fn number(g: &mut GraphBuilder, value: f64) -> ValueId {
        g.scalar(DType::F32, value)
    }

    #[test]
    fn silu_is_one_operation() {
        let ops = traced(|g, x| {
            let y = g.scope("act", |g| {
                let s = g.named("sigmoid").sigmoid(x);
                g.named("mul").mul(s, x)
            });
            // Here the sigmoid has another reader.
            let s = g.sigmoid(y);
            let p = g.mul(y, s);
            g.add(p, s)
        });
        assert_eq!(kinds(&ops), ["Neg", "SiLU", "Sigmoid", "Mul", "Add", "Neg"]);
        let silu = &ops.ops[1];
        assert_eq!((silu.name.as_str(), silu.nodes.len(), silu.inputs.len()), ("act", 2, 1));
        assert_eq!(ops.values[silu.outputs[0]].source, ValueSource::Op(1));
        assert_eq!(ops.values[ops.ops[4].outputs[0]].source, ValueSource::Op(4));
    }

    #[test]
    fn gelu_is_one_operation_wherever_the_half_is() {
        for half_first in [false, true] {
            let ops = traced(|g, x| {
                let (half, one, root) = (number(g, 0.5), number(g, 1.0), number(g, 1.414));
                let scaled = g.div(x, root);
                let e = g.erf(scaled);
                let e = g.add(e, one);
                match half_first {
                    true => {
                        let h = g.mul(x, half);
                        g.mul(h, e)
                    }
                    false => {
                        let p = g.mul(x, e);
                        g.mul(p, half)
                    }
                }
            });
            assert_eq!(kinds(&ops), ["Neg", "Gelu", "Neg"]);
            assert_eq!(ops.ops[1].nodes.len(), 5);
        }
        let ops = traced(|g, x| {
            let (half, one, c, three) = (number(g, 0.5), number(g, 1.0), number(g, 0.044), number(g, 3.0));
            let cube = g.pow(x, three);
            let cube = g.mul(cube, c);
            let inner = g.add(x, cube);
            let t = g.tanh(inner);
            let t = g.add(t, one);
            let h = g.mul(x, half);
            let y = g.mul(h, t);
            // A factor behind it is another operation.
            g.mul(y, half)
        });
        assert_eq!(kinds(&ops), ["Neg", "GeluTanh", "Mul", "Neg"]);
    }

    #[test]
    fn normalisations_are_one_operation() {
        let ops = traced(|g, x| {
            let (two, epsilon) = (number(g, 2.0), number(g, 1e-5));
            let m = g.reduce(Reduction::Mean, x, &[1], true);
            let d = g.sub(x, m);
            let s = g.pow(d, two);
            let v = g.reduce(Reduction::Mean, s, &[1], true);
            let v = g.add(v, epsilon);
            let v = g.sqrt(v);
            let y = g.div(d, v);
            let vector = |g: &mut GraphBuilder, name: &str| {
                g.constant(name, Tensor::new(&[4], &[1.0f32, 2.0, 3.0, 4.0]).unwrap())
            };
            let (w, b) = (vector(g, "w"), vector(g, "b"));
            let y = g.mul(y, w);
            g.add(y, b)
        });
        assert_eq!(kinds(&ops), ["Neg", "LayerNorm", "Neg"]);
        assert_eq!(ops.ops[1].nodes.len(), 9);
        let ops = traced(|g, x| {
            let s = g.mul(x, x);
            let v = g.reduce(Reduction::Mean, s, &[1], true);
            let v = g.rsqrt(v);
            g.mul(x, v)
        });
        assert_eq!(kinds(&ops), ["Neg", "RMSNorm", "Neg"]);
    }

    #[test]
    fn what_others_read_or_what_is_no_activation_stays_apart() {
        let ops = traced(|g, x| {
            let s = g.mul(x, x);
            g.mul(s, x)
        });
        assert_eq!(kinds(&ops), ["Neg", "Mul", "Mul", "Neg"]);
        let ops = traced(|g, x| {
            let s = g.sigmoid(x);
            let t = g.tanh(s);
            let y = g.mul(x, s);
            g.add(y, t)
        });
        assert_eq!(kinds(&ops), ["Neg", "Sigmoid", "Tanh", "Mul", "Add", "Neg"]);
        let ops = traced(|g, x| {
            let (a, b) = (g.sigmoid(x), g.tanh(x));
            g.mul(a, b)
        });
        assert_eq!(kinds(&ops), ["Neg", "Sigmoid", "Tanh", "Mul", "Neg"]);
    }
}
