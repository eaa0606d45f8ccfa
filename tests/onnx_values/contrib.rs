//! ONNX Runtime's own operators on floats: a few results that are written down, what fusion finds again of them, and what
//! is refused. Beside ONNX Runtime itself they are run by `tests/contrib`.

use nestjit::ErrorKind;

use super::*;

/// A node of ONNX Runtime's domain.
fn microsoft(op: &str, inputs: &[&str], attributes: Vec<nestjit::onnx::proto::AttributeProto>) -> NodeProto {
    let domain = Some("com.microsoft".into());
    let node = NodeProto { domain, name: Some("n".into()), ..node(op, inputs, &["y"]) };
    attributes.into_iter().fold(node, with)
}

type Input<'a> = (&'a str, DataType, &'a [usize]);

fn model_with(node: NodeProto, inputs: &[Input<'_>]) -> ModelProto {
    let mut model = single(17, node, inputs, Vec::new());
    model.opset_import.push(opset("com.microsoft", 1));
    model.opset_import.push(opset("com.microsoft.nchwc", 1));
    model
}

const F: DataType = DataType::Float;
const I: DataType = DataType::Int32;

#[test]
fn a_product_of_transposed_matrices() {
    let node = microsoft("FusedMatMul", &["a", "b"], vec![int("transA", 1), float("alpha", 0.5)]);
    let a = Tensor::new(&[2, 2], &[1.0f32, 2.0, 3.0, 4.0]).unwrap();
    let b = Tensor::new(&[2, 1], &[10.0f32, 100.0]).unwrap();
    let y = Tensor::new(&[2, 1], &[155.0f32, 210.0]).unwrap();
    assert_gives(model_with(node, &[("a", F, &[2, 2]), ("b", F, &[2, 1])]), &[a, b], &[y], 1e-6);
}

/// The tools of ONNX Runtime import no operator set for a domain that has one version.
#[test]
fn the_domain_need_not_be_imported() {
    let node = microsoft("BiasGelu", &["x", "b"], Vec::new());
    let mut model = model_with(node, &[("x", F, &[2, 3]), ("b", F, &[3])]);
    model.opset_import.retain(|set| set.domain().is_empty());
    assert!(import(model).is_ok());
}

/// With a weight of 0 for scores, the values that a query sees have equal shares.
#[test]
fn a_query_sees_the_cache_and_the_keys_up_to_its_own() {
    let names = ["q", "k", "v", "pk", "pv", "lengths", "total"];
    let mut node =
        microsoft("GroupQueryAttention", &names, vec![int("num_heads", 2), int("kv_num_heads", 1)]);
    node = with(with(node, float("scale", 1e-30)), int("local_window_size", -1));
    node.output = vec!["y".into(), "key".into(), "value".into()];
    let inputs: [Input<'_>; 6] = [
        ("q", F, &[1, 2, 4]),
        ("k", F, &[1, 2, 2]),
        ("v", F, &[1, 2, 2]),
        ("pk", F, &[1, 1, 3, 2]),
        ("pv", F, &[1, 1, 3, 2]),
        ("lengths", I, &[1]),
    ];
    let mut model = model_with(node, &inputs);
    model
        .graph
        .as_mut()
        .unwrap()
        .initializer
        .push(TensorProto { int32_data: vec![4], ..empty("total", I, &[]) });
    let tensor = |shape: &[usize], values: &[f32]| Tensor::new(shape, values).unwrap();
    let keys = tensor(&[1, 2, 2], &[0.5; 4]);
    let values = tensor(&[1, 2, 2], &[3.0, 30.0, 6.0, 60.0]);
    // The third place of the cache is free.
    let past = tensor(&[1, 1, 3, 2], &[0.0, 0.0, 9.0, 90.0, 7.0, 70.0]);
    let present = tensor(&[1, 1, 4, 2], &[0.0, 0.0, 9.0, 90.0, 3.0, 30.0, 6.0, 60.0]);
    let y = tensor(&[1, 2, 4], &[4.0, 40.0, 4.0, 40.0, 4.5, 45.0, 4.5, 45.0]);
    let present_keys = tensor(&[1, 1, 4, 2], &[0.0, 0.0, 9.0, 90.0, 0.5, 0.5, 0.5, 0.5]);
    let lengths = Tensor::new(&[1], &[3i32]).unwrap();
    let given = [noise(&[1, 2, 4], 3), keys, values, past.clone(), past, lengths];
    assert_gives(model, &given, &[y, present_keys, present], 1e-5);
}

/// Nothing that is computed depends on it, and it is wrong all the same.
#[test]
fn the_length_of_a_prompt_is_checked() {
    let names = ["q", "k", "v", "", "", "lengths", "total"];
    let node = microsoft("GroupQueryAttention", &names, vec![int("num_heads", 2), int("kv_num_heads", 1)]);
    let shapes: [Input<'_>; 4] =
        [("q", F, &[1, 3, 4]), ("k", F, &[1, 3, 2]), ("v", F, &[1, 3, 2]), ("lengths", I, &[1])];
    let mut model = model_with(node, &shapes);
    let total = TensorProto { int32_data: vec![3], ..empty("total", I, &[]) };
    model.graph.as_mut().unwrap().initializer.push(total);
    let executable = Compiler::new().threads(1).compile(&import(model).unwrap().into()).unwrap();
    for (last, right) in [(0, true), (2, true), (3, false), (-1, false), (100, false)] {
        let lengths = Tensor::new(&[1], &[last]).unwrap();
        let given = [noise(&[1, 3, 4], 1), noise(&[1, 3, 2], 2), noise(&[1, 3, 2], 3), lengths];
        match executable.run(&given) {
            Ok(_) => assert!(right, "{last}"),
            Err(e) => assert!(!right && e.to_string().contains(&last.to_string()), "{last}: {e}"),
        }
    }
}

/// Heads, masks and softmax become as few nests as those of the ONNX operator.
#[test]
fn attention_is_fused_as_that_of_onnx() {
    let shapes: [Input<'_>; 3] = [("q", F, &[1, 32, 64]), ("k", F, &[1, 32, 64]), ("v", F, &[1, 32, 64])];
    let own = microsoft("MultiHeadAttention", &["q", "k", "v"], vec![int("num_heads", 4)]);
    let theirs = node("Attention", &["q", "k", "v"], &["y"]);
    let theirs = with(with(theirs, int("q_num_heads", 4)), int("kv_num_heads", 4));
    let nests = |model: ModelProto| {
        let graph = import(model).unwrap();
        Compiler::new().threads(1).compile(&graph.into()).unwrap().program().nests.len()
    };
    let theirs = nests(in_opset(model_with(theirs, &shapes), 23));
    assert_eq!(nests(model_with(own, &shapes)), theirs);
}

#[test]
fn what_is_wrong_or_not_supported_is_named() {
    let refused = |op: &str, names: &[&str], attributes, inputs: &[Input<'_>]| {
        let (kind, message) = refusal(model_with(microsoft(op, names, attributes), inputs));
        let place = format!("node 'n' (com.microsoft.{op}, opset 1): ");
        (kind, message.strip_prefix(&place).unwrap_or(&message).to_owned())
    };
    let is = |kind, text: &str| (kind, text.to_owned());
    use ErrorKind::{Invalid, Shape, Unsupported};
    let image: [Input<'_>; 2] = [("x", F, &[1, 2, 5, 5]), ("w", F, &[3, 2, 3, 3])];
    assert_eq!(
        refused("FusedConv", &["x", "w"], vec![string("activation", "Swirl")], &image),
        is(Unsupported, "the activation 'Swirl' is not supported")
    );
    let rows: [Input<'_>; 3] = [("x", F, &[1, 4, 8]), ("w", F, &[8, 24]), ("m", I, &[3])];
    assert_eq!(
        refused("Attention", &["x", "w"], vec![int("num_heads", 2), int("do_rotary", 1)], &rows[..2]),
        is(Unsupported, "the attribute 'do_rotary' is 1, which is not supported")
    );
    assert_eq!(
        refused("Attention", &["x", "w"], vec![int("num_heads", 0)], &rows[..2]),
        is(Invalid, "num_heads must be positive, but is 0")
    );
    assert_eq!(
        refused("Attention", &["x", "w", "", "m"], vec![int("num_heads", 2)], &rows),
        is(Unsupported, "a mask of shape [3] is not supported for scores of shape [1, 2, 4, 4]")
    );
    let sizes = vec![int("num_heads", 2), ints("qkv_hidden_sizes", &[8, 8, 9])];
    assert_eq!(
        refused("Attention", &["x", "w"], sizes, &rows[..2]),
        is(Shape, "qkv_hidden_sizes is [8, 8, 9], but there are 24 columns of weights")
    );
    let grouped: [Input<'_>; 5] = [
        ("q", F, &[1, 2, 8]),
        ("k", F, &[1, 2, 4]),
        ("v", F, &[1, 2, 4]),
        ("lengths", I, &[1]),
        ("total", I, &[1]),
    ];
    let names = ["q", "k", "v", "", "", "lengths", "total"];
    let heads = |n, more| [vec![int("num_heads", n), int("kv_num_heads", 1)], more].concat();
    assert_eq!(
        refused(
            "GroupQueryAttention",
            &names,
            heads(2, vec![string("k_quant_type", "PER_TENSOR")]),
            &grouped
        ),
        is(Unsupported, "k_quant_type is 'PER_TENSOR': a quantised cache is not supported")
    );
    assert_eq!(
        refused("GroupQueryAttention", &names, heads(4, Vec::new()), &grouped),
        is(
            Shape,
            "keys and values of heads of shape [1, 1, 2, 4] and [1, 1, 2, 4], but [1, 1, 2, 2] is needed"
        )
    );
    let points: [Input<'_>; 2] = [("a", F, &[3, 4]), ("b", F, &[2, 4])];
    assert_eq!(
        refused("CDist", &["a", "b"], vec![string("metric", "yule")], &points),
        is(Unsupported, "the metric 'yule' is not supported")
    );
    assert_eq!(
        refused("Rfft", &["a"], vec![int("normalized", 1)], &points[..1]),
        is(Unsupported, "the attribute 'normalized' is 1, which is not supported")
    );
    assert_eq!(
        refused("SkipLayerNormalization", &["a", "b", "b"], Vec::new(), &points),
        is(Shape, "cannot broadcast 'a' f32[3, 4] and 'b' f32[2, 4] to one shape")
    );
    let odd: [Input<'_>; 2] = [("x", F, &[1, 3, 7]), ("b", F, &[7])];
    assert_eq!(
        refused("BiasSplitGelu", &["x", "b"], Vec::new(), &odd),
        is(Shape, "the last dimension of [1, 3, 7] cannot be cut in half")
    );
    let mut node = microsoft("Conv", &["x", "w"], Vec::new());
    node.domain = Some("com.microsoft.nchwc".into());
    let (kind, message) = refusal(model_with(node, &[("x", F, &[1, 3, 5, 5]), ("w", F, &[20, 3, 3, 3])]));
    assert_eq!(kind, Unsupported);
    assert!(message.ends_with("the model was optimised for another CPU"), "{message}");
}

/// A word that is not in the table is an error of the run, which names the input.
#[test]
fn words_outside_of_the_table_are_found_at_run_time() {
    let names = ["ids", "", "words", "positions", "", "gamma", "beta"];
    let node = microsoft("EmbedLayerNormalization", &names, Vec::new());
    let inputs: [Input<'_>; 5] = [
        ("ids", I, &[1, 2]),
        ("words", F, &[5, 4]),
        ("positions", F, &[2, 4]),
        ("gamma", F, &[4]),
        ("beta", F, &[4]),
    ];
    let graph = import(model_with(node, &inputs)).unwrap();
    let executable = Compiler::new().threads(1).compile(&graph.into()).unwrap();
    let tables = [noise(&[5, 4], 1), noise(&[2, 4], 2), noise(&[4], 3), noise(&[4], 4)];
    let run = |ids: [i32; 2]| executable.run(&[&[Tensor::new(&[1, 2], &ids).unwrap()], &tables[..]].concat());
    assert!(run([0, 4]).is_ok());
    for wrong in [5, -1] {
        let error = run([0, wrong]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Index, "{error}");
        assert!(error.to_string().contains("'ids'"), "{error}");
    }
}
