//! Seeded damage: to the bytes of a file, and to the messages in it, which gets further than most damaged bytes do.

use nestjit::onnx::operators;
use nestjit::onnx::proto::attribute_proto::AttributeType;
use nestjit::onnx::proto::tensor_shape_proto::{Dimension, dimension::Value as Dim};
use nestjit::onnx::proto::type_proto::Value as TypeValue;
use nestjit::onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};

/// A small random generator (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`, which is at least 1.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// An element, unless there is none.
    fn pick<'a, T>(&mut self, list: &'a mut [T]) -> Option<&'a mut T> {
        if list.is_empty() { None } else { Some(&mut list[self.below(list.len())]) }
    }

    /// An integer that is often wrong: small, negative, or so large that sums and products overflow.
    fn int(&mut self) -> i64 {
        const INTERESTING: [i64; 17] = [
            0,
            1,
            -1,
            2,
            3,
            -2,
            -3,
            7,
            64,
            255,
            65_536,
            1 << 31,
            (1 << 31) - 1,
            1 << 62,
            i64::MAX,
            i64::MIN,
            1 << 40,
        ];
        INTERESTING[self.below(INTERESTING.len())]
    }

    fn float(&mut self) -> f32 {
        const INTERESTING: [f32; 9] =
            [0.0, -1.0, 0.5, 1e30, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-42, -0.0];
        INTERESTING[self.below(INTERESTING.len())]
    }
}

/// Some bytes of a file changed, left out or repeated.
pub fn bytes(file: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = file.to_vec();
    for _ in 0..1 + random.below(3) {
        if bytes.is_empty() {
            break;
        }
        let at = random.below(bytes.len());
        match random.below(6) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next() as u8,
            2 => bytes[at] = [0, 0xff, 0x7f, 0x80, 1][random.below(5)],
            3 => drop(bytes.drain(at..bytes.len().min(at + 1 + random.below(8)))),
            4 => bytes.insert(at, random.next() as u8),
            _ => {
                let end = bytes.len().min(at + 1 + random.below(40));
                let copy = bytes[at..end].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, copy);
            }
        }
    }
    bytes
}

/// One or a few messages of a model changed.
pub fn messages(model: &ModelProto, random: &mut Random) -> ModelProto {
    let mut model = model.clone();
    for _ in 0..1 + random.below(2) {
        match random.below(40) {
            0 => model.ir_version = Some(random.int()),
            1 | 2 => {
                let version = if random.one_in(4) { random.int() } else { 1 + random.below(27) as i64 };
                if let Some(import) = random.pick(&mut model.opset_import) {
                    import.version = Some(version);
                }
            }
            3 => {
                if let Some(function) = random.pick(&mut model.functions) {
                    match random.pick(&mut function.node) {
                        Some(n) => node(n, &[], random),
                        None => function.input.clear(),
                    }
                }
            }
            _ => {
                if let Some(graph) = &mut model.graph {
                    graph_message(graph, random);
                }
            }
        }
    }
    model
}

fn graph_message(graph: &mut GraphProto, random: &mut Random) {
    let names: Vec<String> = graph.node.iter().flat_map(|n| n.output.clone()).collect();
    let names = [names, graph.input.iter().map(|i| i.name().to_owned()).collect()].concat();
    match random.below(14) {
        0..=6 => {
            if let Some(n) = random.pick(&mut graph.node) {
                node(n, &names, random);
            }
        }
        7 => {
            if let Some(tensor) = random.pick(&mut graph.initializer) {
                initializer(tensor, random);
            }
        }
        8 if !graph.node.is_empty() => drop(graph.node.remove(random.below(graph.node.len()))),
        9 if !graph.node.is_empty() => {
            let (a, b) = (random.below(graph.node.len()), random.below(graph.node.len()));
            graph.node.swap(a, b);
        }
        10 if !graph.initializer.is_empty() => {
            let tensor = graph.initializer.remove(random.below(graph.initializer.len()));
            // As an input whose values are only known when the model runs.
            let dims: Vec<String> = tensor.dims.iter().map(i64::to_string).collect();
            let dims: Vec<&str> = dims.iter().map(String::as_str).collect();
            if let (Ok(dtype), true) = (tensor.data_type().try_into(), random.one_in(2)) {
                graph.input.push(super::common::onnx::declared(tensor.name(), dtype, &dims));
            }
        }
        11 => {
            let (name, is_input) = (random.below(names.len().max(1)), random.one_in(2));
            let list = if is_input { &mut graph.input } else { &mut graph.output };
            if let (Some(value), Some(name)) = (random.pick(list), names.get(name)) {
                value.name = Some(name.clone());
            }
        }
        _ => {
            let Some(input) = random.pick(&mut graph.input) else { return };
            let Some(TypeValue::TensorType(t)) = input.r#type.as_mut().and_then(|t| t.value.as_mut()) else {
                return;
            };
            let Some(shape) = &mut t.shape else { return };
            let extent = |random: &mut Random| Some(Dim::DimValue(random.int()));
            match random.below(5) {
                0 => t.elem_type = Some([1, 2, 3, 6, 7, 9, 10, 11, 0, 99][random.below(10)]),
                1 => drop(shape.dim.pop()),
                2 => shape.dim.push(Dimension { value: extent(random), denotation: None }),
                3 => shape.dim.push(Dimension { value: Some(Dim::DimValue(1)), denotation: None }),
                _ => {
                    let value = extent(random);
                    if let Some(dim) = random.pick(&mut shape.dim) {
                        dim.value = value;
                    }
                }
            }
        }
    }
}

fn node(node: &mut NodeProto, names: &[String], random: &mut Random) {
    let name = if names.is_empty() { String::new() } else { names[random.below(names.len())].clone() };
    match random.below(12) {
        0 => {
            let all: Vec<_> = operators().collect();
            let other = all[random.below(all.len())];
            node.op_type = Some(other.name.to_owned());
            node.domain = Some(other.domain.to_owned());
        }
        1 => {
            if let Some(input) = random.pick(&mut node.input) {
                *input = name;
            }
        }
        2 => node.input.push(name),
        3 => drop(node.input.pop()),
        4 => {
            if let Some(input) = random.pick(&mut node.input) {
                input.clear();
            }
        }
        5 if !node.output.is_empty() => {
            let at = random.below(node.output.len());
            match random.below(3) {
                0 => node.output[at] = name,
                1 => node.output[at].clear(),
                _ => node.output.push("extra".to_owned()),
            }
        }
        6 if node.input.len() > 1 => {
            let (a, b) = (random.below(node.input.len()), random.below(node.input.len()));
            node.input.swap(a, b);
        }
        7 if !node.attribute.is_empty() => {
            let at = random.below(node.attribute.len());
            drop(node.attribute.remove(at));
        }
        _ => {
            if let Some(a) = random.pick(&mut node.attribute) {
                attribute(a, random);
            }
        }
    }
}

fn attribute(attribute: &mut AttributeProto, random: &mut Random) {
    if random.one_in(20) {
        attribute.r#type = Some(random.below(16) as i32);
        return;
    }
    match attribute.r#type() {
        AttributeType::Int => attribute.i = Some(random.int()),
        AttributeType::Float => attribute.f = Some(random.float()),
        AttributeType::String => {
            let text = ["", "SAME_UPPER", "VALID", "linear", "constant", "\u{7f}", "bidirectional", "none"];
            attribute.s = Some(text[random.below(text.len())].as_bytes().to_vec().into());
        }
        AttributeType::Ints => match random.below(4) {
            0 => drop(attribute.ints.pop()),
            1 => attribute.ints.push(random.int()),
            _ => {
                let value = random.int();
                if let Some(i) = random.pick(&mut attribute.ints) {
                    *i = value;
                }
            }
        },
        AttributeType::Floats => match random.below(3) {
            0 => drop(attribute.floats.pop()),
            _ => attribute.floats.push(random.float()),
        },
        AttributeType::Strings => drop(attribute.strings.pop()),
        AttributeType::Tensor => {
            if let Some(tensor) = &mut attribute.t {
                initializer(tensor, random);
            }
        }
        AttributeType::Graph => {
            if let Some(graph) = &mut attribute.g {
                graph_message(graph, random);
            }
        }
        _ => attribute.name = Some("axis".to_owned()),
    }
}

fn initializer(tensor: &mut TensorProto, random: &mut Random) {
    match random.below(6) {
        0 => tensor.data_type = Some(random.below(20) as i32),
        1 => tensor.dims.push(random.int()),
        2 => drop(tensor.dims.pop()),
        3 => {
            let value = random.int();
            if let Some(dim) = random.pick(&mut tensor.dims) {
                *dim = value;
            }
        }
        _ => values(tensor, random),
    }
}

/// Another value somewhere, or fewer of them.
fn values(tensor: &mut TensorProto, random: &mut Random) {
    let (int, float, cut) = (random.int(), random.float(), random.one_in(6));
    if let Some(raw) = &mut tensor.raw_data {
        let mut bytes = raw.to_vec();
        if cut {
            bytes.pop();
        } else if tensor.data_type == Some(7) && bytes.len() >= 8 {
            let at = random.below(bytes.len() / 8) * 8;
            bytes[at..at + 8].copy_from_slice(&int.to_le_bytes());
        } else if let Some(byte) = random.pick(&mut bytes) {
            *byte = int as u8;
        }
        *raw = bytes.into();
    } else if let Some(value) = random.pick(&mut tensor.float_data) {
        *value = float;
    } else if let Some(value) = random.pick(&mut tensor.int64_data) {
        *value = int;
    } else if let Some(value) = random.pick(&mut tensor.int32_data) {
        *value = int as i32;
    }
}
