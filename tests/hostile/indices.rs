//! Indices, lengths and positions that cannot be: the same error, which names the operator, the input, the value and
//! the range, from the evaluator, the interpreter and compiled code, fused or not, on one thread and on two; and when the
//! model is imported, if the value is a constant of it.

use nestjit::graph::{Precision, evaluate};
use nestjit::interpret::interpret;
use nestjit::ir::interp::Mode;
use nestjit::lower::lower;
use nestjit::onnx::proto::tensor_proto::DataType::{Float, Int32, Int64};
use nestjit::onnx::proto::{AttributeProto, ModelProto, NodeProto, TensorProto};
use nestjit::{Compiler, DType, Error, ErrorKind, Model, Tensor};

use super::common::onnx::*;
use super::harness::without_panic;

/// An operator with an input that not every value makes sense in.
struct Case {
    node: NodeProto,
    opset: i64,
    inputs: Vec<(&'static str, Tensor)>,
    /// The input in question, whose elements are right as they are.
    checked: &'static str,
    /// What an element is.
    what: &'static str,
    /// The range as the error shows it.
    range: &'static str,
    wrong: Vec<i64>,
    right: Vec<i64>,
}

impl Case {
    fn new(
        op: &str,
        opset: i64,
        attributes: Vec<AttributeProto>,
        inputs: Vec<(&'static str, Tensor)>,
    ) -> Case {
        let names: Vec<&str> = inputs.iter().map(|(name, _)| *name).collect();
        let mut node = attributes.into_iter().fold(node(op, &names, &["y"]), with);
        node.name = Some("pick".into());
        let (what, range) = ("index", "");
        Case { node, opset, inputs, checked: "i", what, range, wrong: vec![], right: vec![] }
    }

    /// The operator takes another operand in the place of the input `at`, or none.
    fn left_out(mut self, at: usize) -> Case {
        self.node.input.insert(at, String::new());
        self
    }

    fn refuses(mut self, what: &'static str, wrong: &[i64], range: &'static str) -> Case {
        (self.what, self.wrong, self.range) = (what, wrong.to_vec(), range);
        self
    }

    fn accepts(mut self, right: &[i64]) -> Case {
        self.right = right.to_vec();
        self
    }

    /// The inputs, with the last element of the one in question replaced.
    fn with(&self, value: i64) -> Vec<(&'static str, Tensor)> {
        let replace = |tensor: &Tensor| {
            if tensor.dtype() == DType::I32 {
                let mut values = tensor.values::<i32>().unwrap().to_vec();
                *values.last_mut().unwrap() = i32::try_from(value).unwrap();
                return Tensor::new(tensor.shape(), &values).unwrap();
            }
            let mut values = tensor.values::<i64>().unwrap().to_vec();
            *values.last_mut().unwrap() = value;
            Tensor::new(tensor.shape(), &values).unwrap()
        };
        let all = self.inputs.iter().cloned();
        all.map(|(name, t)| if name == self.checked { (name, replace(&t)) } else { (name, t) }).collect()
    }

    /// The model, whose inputs are those that are no constants. Work before and after the operator is there to be fused
    /// with it.
    fn model(&self, constant: Option<TensorProto>) -> ModelProto {
        let given =
            self.inputs.iter().filter(|(name, _)| constant.as_ref().is_none_or(|c| c.name() != *name));
        let declared = given.map(|(name, t)| {
            let dims: Vec<String> = t.shape().iter().map(usize::to_string).collect();
            let dims: Vec<&str> = dims.iter().map(String::as_str).collect();
            let types = [(DType::I64, Int64), (DType::I32, Int32), (DType::F32, Float)];
            let dtype = types.into_iter().find(|(of, _)| *of == t.dtype()).unwrap().1;
            declared(name, dtype, &dims)
        });
        let mut pick = self.node.clone();
        pick.output = vec!["taken".into()];
        pick.input[0] = "before".into();
        let nodes = vec![
            node("Abs", &[self.node.input[0].as_str()], &["before"]),
            pick,
            node("Neg", &["taken"], &["y"]),
        ];
        let mut graph = graph_of(declared.collect(), nodes, &["y"]);
        graph.initializer.extend(constant);
        in_opset(model_of(graph), self.opset)
    }

    fn message(&self, value: i64) -> String {
        let (op, opset, what, range) = (self.node.op_type(), self.opset, self.what, self.range);
        let complaint = if range.is_empty() { "is negative".into() } else { format!("is outside {range}") };
        format!("node 'pick' ({op}, opset {opset}): the {what} {value} in '{}' {complaint}", self.checked)
    }
}

/// A way of computing the results of a model.
type Run = Box<dyn Fn(&[Tensor]) -> Result<Vec<Tensor>, Error>>;

/// Every way of computing the results of a model, ready to be called.
fn everywhere(m: ModelProto) -> Vec<(String, Run)> {
    let model: Model = import(m).unwrap().into();
    let mut ways: Vec<(String, Run)> = Vec::new();
    for threads in [1, 2] {
        for fused in [true, false] {
            let compiler = Compiler::new().threads(threads);
            let compiler = if fused { compiler } else { compiler.disable_pass("OpFusion") };
            let executable = compiler.compile(&model).unwrap();
            let run = move |inputs: &[Tensor]| without_panic(|| executable.run(inputs)).unwrap();
            ways.push((format!("{threads} threads, fused: {fused}"), Box::new(run)));
        }
    }
    let unit = lower(&model.graph).unwrap();
    ways.push(("interpreter".into(), Box::new(move |inputs| interpret(&unit, inputs, Mode::Exact))));
    let graph = model.graph;
    ways.push(("evaluator".into(), Box::new(move |inputs| evaluate(&graph, inputs, Precision::F32))));
    ways
}

fn cases() -> Vec<Case> {
    let f = |shape: &[usize]| Tensor::random(DType::F32, shape, 7).unwrap();
    let i = |shape: &[usize]| Tensor::zeros(DType::I64, shape).unwrap();
    let three = "0..3 (or -3..0, counted from the end)";
    let far = [3, 99, -4, i64::MAX, i64::MIN];
    let inside = [0, 2, -1, -3];
    let layer = |op: &str, gates: usize| {
        let inputs = vec![
            ("x", f(&[5, 2, 3])),
            ("w", f(&[1, gates * 4, 3])),
            ("r", f(&[1, gates * 4, 4])),
            ("i", Tensor::new(&[2], &[5i32, 5]).unwrap()),
        ];
        let layer = Case::new(op, 14, vec![int("hidden_size", 4)], inputs).left_out(3);
        layer.refuses("length", &[-1, 6, 1 << 30], "0..=5").accepts(&[0, 1, 5])
    };
    let cache = |mode: &str| {
        let inputs = vec![("x", f(&[2, 4, 3])), ("u", f(&[2, 2, 3])), ("i", i(&[2]))];
        Case::new("TensorScatter", 24, vec![string("mode", mode), int("axis", 1)], inputs)
    };
    let attention = vec![
        ("x", f(&[2, 1, 2, 4])),
        ("k", f(&[2, 1, 3, 4])),
        ("v", f(&[2, 1, 3, 4])),
        ("i", Tensor::new(&[2], &[3i64, 3]).unwrap()),
    ];
    vec![
        Case::new("Gather", 13, vec![], vec![("x", f(&[3, 40])), ("i", i(&[5]))])
            .refuses("index", &far, three)
            .accepts(&inside),
        Case::new("Gather", 13, vec![int("axis", 1)], vec![("x", f(&[4, 3])), ("i", i(&[2, 2]))])
            .refuses("index", &far, three)
            .accepts(&inside),
        Case::new("GatherElements", 13, vec![], vec![("x", f(&[3, 4])), ("i", i(&[3, 4]))])
            .refuses("index", &far, three)
            .accepts(&inside),
        Case::new("GatherElements", 13, vec![], vec![("x", f(&[3])), ("i", i(&[7]))])
            .refuses("index", &far, three)
            .accepts(&inside),
        Case::new("GatherND", 13, vec![], vec![("x", f(&[5, 3, 6])), ("i", i(&[4, 2]))])
            .refuses("index", &far, three)
            .accepts(&inside),
        Case::new("GatherND", 13, vec![int("batch_dims", 1)], vec![("x", f(&[2, 3, 6])), ("i", i(&[2, 1]))])
            .refuses("index", &far, three)
            .accepts(&inside),
        Case::new(
            "ScatterElements",
            13,
            vec![],
            vec![("x", f(&[3, 4])), ("i", i(&[2, 4])), ("u", f(&[2, 4]))],
        )
        .refuses("index", &far, three)
        .accepts(&inside),
        Case::new("ScatterND", 13, vec![], vec![("x", f(&[5, 3, 6])), ("i", i(&[4, 2])), ("u", f(&[4, 6]))])
            .refuses("index", &far, three)
            .accepts(&inside),
        Case::new("ReverseSequence", 10, vec![], vec![("x", f(&[5, 2, 9])), ("i", i(&[2]))])
            .refuses("length", &[-1, 6, i64::MAX, i64::MIN], "0..=5")
            .accepts(&[0, 1, 5]),
        layer("RNN", 1),
        layer("GRU", 3),
        layer("LSTM", 4),
        cache("linear").refuses("position", &[-1, 3, i64::MAX, i64::MIN], "0..3").accepts(&[0, 2]),
        cache("circular").refuses("position", &[-1, i64::MIN], "").accepts(&[0, 3, 4, 9]),
        Case::new("Attention", 24, vec![], attention)
            .left_out(3)
            .left_out(4)
            .left_out(5)
            .refuses("length", &[-1, 4, 9, i64::MAX], "0..=3")
            .accepts(&[1, 3]),
        Case::new(
            "RoiAlign",
            16,
            vec![int("sampling_ratio", 2)],
            vec![
                ("x", f(&[2, 1, 6, 6])),
                ("r", Tensor::new(&[1, 4], &[0f32, 0.0, 4.0, 4.0]).unwrap()),
                ("i", i(&[1])),
            ],
        )
        .refuses("index", &[-1, 2, i64::MAX, i64::MIN], "0..2")
        .accepts(&[0, 1]),
        Case::new(
            "MaxUnpool",
            11,
            vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])],
            vec![("x", f(&[1, 1, 2, 2])), ("i", Tensor::new(&[1, 1, 2, 2], &[0i64, 2, 8, 15]).unwrap())],
        )
        .refuses("index", &[-1, 16, i64::MAX, i64::MIN], "0..16")
        .accepts(&[0, 15]),
        Case::new(
            "RotaryEmbedding",
            23,
            vec![],
            vec![("x", f(&[1, 2, 3, 8])), ("c", f(&[4, 4])), ("s", f(&[4, 4])), ("i", i(&[1, 3]))],
        )
        .refuses("position", &[-1, 4, i64::MAX, i64::MIN], "0..4")
        .accepts(&[0, 3]),
        Case::new("NegativeLogLikelihoodLoss", 13, vec![], vec![("x", f(&[4, 3])), ("i", i(&[4]))])
            .refuses("index", &[-1, 3, i64::MAX, i64::MIN], "0..3")
            .accepts(&[0, 2]),
        Case::new(
            "SoftmaxCrossEntropyLoss",
            13,
            vec![int("ignore_index", -7)],
            vec![("x", f(&[4, 3])), ("i", i(&[4])), ("w", f(&[3]))],
        )
        .refuses("index", &[-1, 3, i64::MAX], "0..3")
        .accepts(&[0, 2, -7]),
    ]
}

#[test]
fn values_that_come_with_the_run() {
    for case in cases() {
        let op = case.node.op_type();
        let tensors = |value: i64| -> Vec<Tensor> { case.with(value).into_iter().map(|(_, t)| t).collect() };
        for (how, run) in everywhere(case.model(None)) {
            for &right in &case.right {
                let result = run(&tensors(right));
                assert!(result.is_ok(), "{op}, {right}, {how}: {result:?}");
            }
            for &wrong in &case.wrong {
                let error = run(&tensors(wrong)).expect_err(op);
                assert_eq!(
                    (error.kind(), error.to_string()),
                    (ErrorKind::Index, case.message(wrong)),
                    "{op}, {how}"
                );
                assert_eq!(error.node(), Some("pick"));
            }
        }
    }
}

#[test]
fn constants_are_refused_with_the_same_words() {
    for case in cases() {
        let model = |value: i64| {
            let (name, tensor) =
                case.with(value).into_iter().find(|(name, _)| *name == case.checked).unwrap();
            let dims: Vec<i64> = tensor.shape().iter().map(|n| *n as i64).collect();
            let dtype = if tensor.dtype() == DType::I32 { Int32 } else { Int64 };
            let raw_data = Some(tensor.bytes().unwrap().to_vec().into());
            case.model(Some(TensorProto { raw_data, ..empty(name, dtype, &dims) }))
        };
        for &right in &case.right {
            import(model(right)).unwrap();
        }
        for &wrong in &case.wrong {
            assert_eq!(refusal(model(wrong)), (ErrorKind::Index, case.message(wrong)));
        }
    }
}

/// Nests that are equal share their code, but not the operators they belong to.
#[test]
fn equal_nests_name_their_own_operators() {
    let gather = |name: &str, x: &str, i: &str, y: &str| NodeProto {
        name: Some(name.into()),
        ..node("Gather", &[x, i], &[y])
    };
    let nodes = vec![
        gather("first", "x", "i", "a"),
        gather("second", "x", "j", "b"),
        node("Abs", &["a"], &["y"]),
        node("Abs", &["b"], &["z"]),
    ];
    let inputs =
        vec![declared("x", Float, &["3", "8"]), declared("i", Int64, &["4"]), declared("j", Int64, &["4"])];
    let m = model_of(graph_of(inputs, nodes, &["y", "z"]));
    let x = Tensor::random(DType::F32, &[3, 8], 1).unwrap();
    let (good, bad) = (Tensor::new(&[4], &[0i64; 4]).unwrap(), Tensor::new(&[4], &[0i64, 1, 2, 3]).unwrap());
    for (how, run) in everywhere(m) {
        for (indices, name, input) in [([&bad, &good], "first", "i"), ([&good, &bad], "second", "j")] {
            let text = format!(
                "node '{name}' (Gather, opset 17): the index 3 in '{input}' is outside 0..3 (or -3..0, counted from \
                 the end)"
            );
            let error = run(&[x.clone(), indices[0].clone(), indices[1].clone()]).unwrap_err();
            assert_eq!(error.to_string(), text, "{how}");
        }
    }
}

/// The class of a one-hot vector may be none: that is no error.
#[test]
fn a_class_that_does_not_exist_is_off_everywhere() {
    let mut graph =
        graph_of(vec![declared("i", Int64, &["4"])], vec![node("OneHot", &["i", "d", "v"], &["y"])], &["y"]);
    graph.initializer = vec![i64s("d", &[], &[3]), f32s("v", &[2], &[0.0, 1.0])];
    let i = Tensor::new(&[4], &[1i64, -1, 3, -4]).unwrap();
    for (how, run) in everywhere(model_of(graph)) {
        let y = run(std::slice::from_ref(&i)).unwrap().swap_remove(0);
        let expected = [0.0f32, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(y.values::<f32>().unwrap(), expected, "{how}");
    }
}
