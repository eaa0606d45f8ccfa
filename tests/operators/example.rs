//! Examples of operators: read from their notation, made into models.

use nestjit::onnx::proto::attribute_proto::AttributeType;
use nestjit::onnx::proto::tensor_proto::DataType;
use nestjit::onnx::proto::tensor_shape_proto::{Dimension, dimension::Value as Dim};
use nestjit::onnx::proto::type_proto::{Tensor as TensorType, Value as TypeValue};
use nestjit::onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto,
};
use nestjit::{DType, Tensor, bf16, f16};

/// A type: a particular one, or that which is tried.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Type {
    Tried,
    Fixed(DType),
}

impl Type {
    fn parse(text: &str) -> Option<Type> {
        if text == "T" { Some(Type::Tried) } else { DType::from_name(text).map(Type::Fixed) }
    }

    fn get(self, tried: DType) -> DType {
        match self {
            Type::Tried => tried,
            Type::Fixed(dtype) => dtype,
        }
    }
}

/// `TYPE[SHAPE]`, with values if it is a constant.
#[derive(Clone, PartialEq, Debug)]
pub struct Operand {
    pub dtype: Type,
    shape: Vec<usize>,
    values: Option<Vec<f64>>,
}

#[derive(Clone, PartialEq, Debug)]
enum Attribute {
    Int(i64),
    Float(f32),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Text(String),
    Texts(Vec<String>),
    TypeNumber,
    Tensor(Operand),
    Subgraph(String),
}

/// A line of the file.
#[derive(Clone, PartialEq, Debug)]
pub struct Example {
    /// As it is written: with its domain, or without if the line is about operators of the name in all domains.
    pub name: String,
    pub operator: String,
    /// `None` for the newest version.
    pub version: Option<i64>,
    pub operands: Vec<Option<Operand>>,
    attributes: Vec<(String, Attribute)>,
    results: usize,
}

/// Which of two numbers `SMALL:LARGE` a line stands for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Size {
    Small,
    Large,
}

impl Size {
    /// The line with one of two numbers wherever it has both.
    fn of(self, line: &str) -> String {
        let (mut out, mut rest) = (String::new(), line);
        while let Some((before, after)) = rest.split_once(':') {
            let digit = |c: char| c.is_ascii_digit();
            let kept = before.trim_end_matches(digit);
            let end = after.find(|c| !digit(c)).unwrap_or(after.len());
            out += match self {
                Size::Small => before,
                Size::Large => kept,
            };
            if self == Size::Large {
                out += &after[..end];
            }
            rest = &after[end..];
        }
        out + rest
    }
}

impl Example {
    /// From a line, in a size.
    pub fn parse(line: &str, size: Size) -> Result<Example, String> {
        Example::read(&size.of(line))
    }

    fn read(line: &str) -> Result<Example, String> {
        let mut parts = line.split(" ;").map(str::trim);
        let mut words = parts.next().unwrap_or_default().split_whitespace();
        let name = words.next().ok_or("no operator")?;
        let (operator, version) = match name.split_once('@') {
            Some((name, version)) => (name, Some(version.parse().map_err(|_| "no version after @")?)),
            None => (name, None),
        };
        let (name, operator) =
            (operator.to_owned(), operator.rsplit('.').next().unwrap_or(operator).to_owned());
        let operand = |word: &str| if word == "-" { Ok(None) } else { operand(word).map(Some) };
        let operands = words.map(operand).collect::<Result<_, String>>()?;
        let attribute = |word: &str| {
            let (name, value) = word.split_once('=').ok_or_else(|| format!("{word} has no value"))?;
            Ok((name.to_owned(), attribute(value)?))
        };
        let attributes = parts.next().unwrap_or_default().split_whitespace().map(attribute);
        let attributes = attributes.collect::<Result<_, String>>()?;
        let results = match parts.next() {
            Some(count) => count.parse().map_err(|_| format!("{count} results"))?,
            None => 1,
        };
        Ok(Example { name, operator, version, operands, attributes, results })
    }

    /// This example, with those of another one's attributes that it does not have.
    pub fn with_attributes_of(&self, other: &Example) -> Example {
        let mut example = self.clone();
        let missing = |(name, _): &&(String, Attribute)| self.attributes.iter().all(|(own, _)| own != name);
        example.attributes.extend(other.attributes.iter().filter(missing).cloned());
        example
    }

    /// Whether nothing is said of attributes.
    pub fn has_no_attributes(&self) -> bool {
        self.attributes.is_empty()
    }

    /// Where the tried type is: the numbers of operands, and names of attributes.
    pub fn tried(&self) -> Vec<String> {
        let is_tried = |operand: &Option<Operand>| operand.as_ref().is_some_and(|o| o.dtype == Type::Tried);
        let operands =
            self.operands.iter().enumerate().filter(|(_, o)| is_tried(o)).map(|(i, _)| i.to_string());
        let named = |(name, value): &(String, Attribute)| match value {
            Attribute::TypeNumber => Some(name.clone()),
            Attribute::Tensor(operand) if operand.dtype == Type::Tried => Some(name.clone()),
            _ => None,
        };
        operands.chain(self.attributes.iter().filter_map(named)).collect()
    }

    /// The model of this example, and the values of its inputs.
    pub fn model(&self, domain: &str, version: i64, dtype: DType) -> (ModelProto, Vec<Tensor>) {
        let mut graph = GraphProto { name: Some("example".into()), ..GraphProto::default() };
        let (mut names, mut inputs) = (Vec::new(), Vec::new());
        for (i, operand) in self.operands.iter().enumerate() {
            let Some(operand) = operand else {
                names.push(String::new());
                continue;
            };
            let name = format!("x{i}");
            let (element, shape) = (operand.dtype.get(dtype), &operand.shape);
            match operand.values {
                Some(_) => graph.initializer.push(operand.tensor(&name, dtype)),
                None => {
                    graph.input.push(declared(&name, element, shape));
                    inputs.push(Tensor::random(element, shape, i as u64 + 1).expect("examples are small"));
                }
            }
            names.push(name);
        }
        let outputs: Vec<String> = (0..self.results).map(|i| format!("y{i}")).collect();
        graph.output = outputs.iter().map(|name| named(name)).collect();
        graph.node.push(NodeProto {
            name: Some("example".into()),
            domain: Some(domain.into()),
            op_type: Some(self.operator.clone()),
            input: names,
            output: outputs,
            attribute: self.attributes.iter().map(|(name, value)| value.proto(name, dtype)).collect(),
            ..NodeProto::default()
        });
        let opset = OperatorSetIdProto { domain: Some(domain.into()), version: Some(version) };
        let model = ModelProto {
            ir_version: Some(10),
            opset_import: vec![opset],
            graph: Some(graph),
            ..ModelProto::default()
        };
        (model, inputs)
    }
}

fn operand(text: &str) -> Result<Operand, String> {
    let failure = || format!("{text} is no operand");
    let (dtype, rest) = text.split_once('[').ok_or_else(failure)?;
    let (shape, rest) = rest.split_once(']').ok_or_else(failure)?;
    let values = match rest.strip_prefix('=') {
        Some(values) => Some(list(values).ok_or_else(failure)?),
        None if rest.is_empty() => None,
        None => return Err(failure()),
    };
    let (dtype, shape) = (Type::parse(dtype).ok_or_else(failure)?, list(shape).ok_or_else(failure)?);
    Ok(Operand { dtype, shape, values })
}

fn list<T: std::str::FromStr>(text: &str) -> Option<Vec<T>> {
    text.split(',').filter(|v| !v.is_empty()).map(|v| v.parse().ok()).collect()
}

fn attribute(text: &str) -> Result<Attribute, String> {
    let failure = || format!("{text} is no value of an attribute");
    if let Some(list_of) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        if list_of.starts_with('"') {
            let text = |t: &str| Some(t.strip_prefix('"')?.strip_suffix('"')?.to_owned());
            return list_of
                .split(',')
                .map(text)
                .collect::<Option<_>>()
                .map(Attribute::Texts)
                .ok_or_else(failure);
        }
        return match list_of.contains('.') {
            true => list(list_of).map(Attribute::Floats).ok_or_else(failure),
            false => list(list_of).map(Attribute::Ints).ok_or_else(failure),
        };
    }
    if let Some(text) = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) {
        return Ok(Attribute::Text(text.to_owned()));
    }
    if let Some(name) = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
        return Ok(Attribute::Subgraph(name.to_owned()));
    }
    match text {
        "T" => Ok(Attribute::TypeNumber),
        _ if text.contains('[') => operand(text).map(Attribute::Tensor),
        _ if text.contains('.') => text.parse().map(Attribute::Float).map_err(|_| failure()),
        _ => text.parse().map(Attribute::Int).map_err(|_| failure()),
    }
}

impl Operand {
    /// The constant.
    fn tensor(&self, name: &str, tried: DType) -> TensorProto {
        let dtype = self.dtype.get(tried);
        let (count, values) = (self.shape.iter().product(), self.values.as_deref().unwrap_or(&[]));
        let value = |i: usize| values.get(i).or(values.last()).copied().unwrap_or_default();
        let elements = (0..count).map(value);
        let bytes: Vec<u8> = match dtype {
            DType::F32 => elements.flat_map(|v| (v as f32).to_le_bytes()).collect(),
            DType::F64 => elements.flat_map(f64::to_le_bytes).collect(),
            DType::F16 => elements.flat_map(|v| f16::from_f64(v).to_le_bytes()).collect(),
            DType::BF16 => elements.flat_map(|v| bf16::from_f64(v).to_le_bytes()).collect(),
            DType::I64 => elements.flat_map(|v| (v as i64).to_le_bytes()).collect(),
            DType::I32 => elements.flat_map(|v| (v as i32).to_le_bytes()).collect(),
            DType::U32 => elements.flat_map(|v| (v as u32).to_le_bytes()).collect(),
            DType::U64 => elements.flat_map(|v| (v as u64).to_le_bytes()).collect(),
            DType::I16 | DType::U16 => elements.flat_map(|v| (v as i16).to_le_bytes()).collect(),
            DType::I8 | DType::U8 => elements.map(|v| v as i8 as u8).collect(),
            DType::Bool => elements.map(|v| u8::from(v != 0.0)).collect(),
        };
        TensorProto {
            name: Some(name.into()),
            dims: self.shape.iter().map(|d| *d as i64).collect(),
            data_type: Some(number(dtype) as i32),
            raw_data: Some(bytes.into()),
            ..TensorProto::default()
        }
    }
}

impl Attribute {
    fn proto(&self, name: &str, tried: DType) -> AttributeProto {
        let mut proto = AttributeProto { name: Some(name.into()), ..AttributeProto::default() };
        let kind = match self {
            Attribute::Int(value) => {
                proto.i = Some(*value);
                AttributeType::Int
            }
            Attribute::TypeNumber => {
                proto.i = Some(number(tried) as i64);
                AttributeType::Int
            }
            Attribute::Float(value) => {
                proto.f = Some(*value);
                AttributeType::Float
            }
            Attribute::Ints(values) => {
                proto.ints = values.clone();
                AttributeType::Ints
            }
            Attribute::Floats(values) => {
                proto.floats = values.clone();
                AttributeType::Floats
            }
            Attribute::Text(text) => {
                proto.s = Some(text.clone().into_bytes().into());
                AttributeType::String
            }
            Attribute::Texts(texts) => {
                proto.strings = texts.iter().map(|t| t.clone().into_bytes().into()).collect();
                AttributeType::Strings
            }
            Attribute::Tensor(operand) => {
                proto.t = Some(operand.tensor("", tried));
                AttributeType::Tensor
            }
            Attribute::Subgraph(name) => {
                proto.g = Some(subgraph(name));
                AttributeType::Graph
            }
        };
        proto.r#type = Some(kind.into());
        proto
    }
}

/// A body that returns what it is given, in the form that If, Loop or Scan want.
fn subgraph(name: &str) -> GraphProto {
    let (inputs, outputs): (&[&str], &[(&str, &str)]) = match name {
        "branch" => (&[], &[("x0", "b0")]),
        "loop" => (&["i", "go", "a"], &[("go", "b0"), ("a", "b1")]),
        "scan" => (&["a", "b"], &[("a", "b0"), ("b", "b1")]),
        other => panic!("there is no subgraph {other}"),
    };
    let identity = |(from, to): &(&str, &str)| NodeProto {
        op_type: Some("Identity".into()),
        input: vec![(*from).to_owned()],
        output: vec![(*to).to_owned()],
        ..NodeProto::default()
    };
    GraphProto {
        name: Some(name.into()),
        input: inputs.iter().map(|name| self::named(name)).collect(),
        output: outputs.iter().map(|(_, name)| named(name)).collect(),
        node: outputs.iter().map(identity).collect(),
        ..GraphProto::default()
    }
}

fn named(name: &str) -> ValueInfoProto {
    ValueInfoProto { name: Some(name.into()), ..ValueInfoProto::default() }
}

fn declared(name: &str, dtype: DType, shape: &[usize]) -> ValueInfoProto {
    let dim = |d: &usize| Dimension { value: Some(Dim::DimValue(*d as i64)), denotation: None };
    let shape = TensorShapeProto { dim: shape.iter().map(dim).collect() };
    let tensor = TensorType { elem_type: Some(number(dtype) as i32), shape: Some(shape) };
    let of_type = TypeProto { value: Some(TypeValue::TensorType(tensor)), denotation: None };
    ValueInfoProto { r#type: Some(of_type), ..named(name) }
}

fn number(dtype: DType) -> DataType {
    match dtype {
        DType::F32 => DataType::Float,
        DType::F64 => DataType::Double,
        DType::F16 => DataType::Float16,
        DType::BF16 => DataType::Bfloat16,
        DType::I64 => DataType::Int64,
        DType::I32 => DataType::Int32,
        DType::I8 => DataType::Int8,
        DType::U8 => DataType::Uint8,
        DType::I16 => DataType::Int16,
        DType::U16 => DataType::Uint16,
        DType::U32 => DataType::Uint32,
        DType::U64 => DataType::Uint64,
        DType::Bool => DataType::Bool,
    }
}
