//! Packed weights are in memory once: for all programs of a session, and for all sessions of a file.

use nestjit::onnx::proto::TensorProto;
use nestjit::{Compiler, Session, Tensor};
use prost::Message;

use super::build::{With, floats, graph, model, node, nodes, proto};

fn random(shape: &[usize], seed: u64) -> Tensor {
    Tensor::random(nestjit::DType::F32, shape, seed).unwrap()
}

fn weights(name: &str, shape: &[i64], raw: bool) -> TensorProto {
    let extents: Vec<usize> = shape.iter().map(|d| *d as usize).collect();
    let values = random(&extents, 7);
    let plain = floats(name, shape, values.values().unwrap());
    if !raw {
        return plain;
    }
    let bytes = values.bytes().unwrap().to_vec();
    TensorProto { raw_data: Some(bytes.into()), float_data: Vec::new(), ..plain }
}

/// Bytes that the session keeps without arenas, which depend on shapes.
fn kept(session: &Session) -> usize {
    session.trim();
    session.memory_bytes()
}

fn agrees(session: &Session, reference: &Session, input: &Tensor) {
    let found = session.run(&[input]).unwrap();
    let expected = reference.run(&[input]).unwrap();
    for (a, b) in found[0].values::<f32>().unwrap().iter().zip(expected[0].values::<f32>().unwrap()) {
        assert!((a - b).abs() <= 1e-5 * b.abs().max(100.0), "{a} {b}");
    }
}

#[test]
fn programs_for_several_shapes_share_weights() {
    let nodes = nodes("MatMul: x, w -> h\nRelu: h -> r\nMatMul: r, v -> y");
    let of = |raw| {
        let weights = ["w", "v"].map(|name| weights(name, &[512, 512], raw));
        model(graph(&["x: f32 n 512"], &["y"], nodes.clone()), weights.to_vec())
    };
    for raw in [false, true] {
        let session = Session::new(of(raw), Compiler::new().threads(2));
        let reference = Session::reference(of(raw));
        agrees(&session, &reference, &random(&[64, 512], 1));
        let one = kept(&session);
        assert!(one >= 2 << 20, "two matrices of a megabyte: {one}");
        for rows in [96, 128, 160] {
            agrees(&session, &reference, &random(&[rows, 512], 1));
        }
        assert_eq!(session.cached(), 4);
        let four = kept(&session);
        assert!(four < one + (1 << 20), "{one} bytes for one program, {four} for four");
    }
}

#[test]
fn sessions_of_a_file_share_weights() {
    let conv = node("Conv: x, w -> c").ints("pads", &[1, 1, 1, 1]);
    let scale = [("s", 0.5), ("b", 0.25), ("m", 0.125), ("v", 2.0)];
    let mut initializers: Vec<TensorProto> =
        scale.iter().map(|(name, value)| floats(name, &[128], &[*value; 128])).collect();
    initializers.push(weights("w", &[128, 128, 3, 3], true));
    let nodes = vec![conv, node("BatchNormalization: c, s, b, m, v -> n"), node("Relu: n -> y")];
    let proto = proto(graph(&["x: f32 n 128 h w"], &["y"], nodes), initializers, Vec::new());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("conv.onnx");
    std::fs::write(&path, proto.encode_to_vec()).unwrap();
    let open = || Session::from_onnx(&path, Compiler::new().threads(1)).unwrap();
    let reference = Session::reference(nestjit::onnx::OnnxModel::from_path(&path).unwrap());
    let first = open();
    agrees(&first, &reference, &random(&[1, 128, 24, 24], 1));
    let alone = kept(&first);
    let second = open();
    agrees(&second, &reference, &random(&[1, 128, 24, 24], 2));
    let both = kept(&first) + kept(&second);
    assert!(both < alone + alone / 2, "{alone} bytes for one session, {both} for two");
    drop(first);
    agrees(&second, &reference, &random(&[1, 128, 24, 24], 3));
    assert!(kept(&second).abs_diff(alone) < 4096, "one session again");

    // Another file of the same name has other weights.
    let mut other = proto;
    for weights in &mut other.graph.as_mut().unwrap().initializer {
        if weights.name() == "w" {
            let negative: Vec<f32> =
                random(&[128, 128, 3, 3], 7).values::<f32>().unwrap().iter().map(|w| -w).collect();
            weights.raw_data = Some(bytemuck::cast_slice::<f32, u8>(&negative).to_vec().into());
        }
    }
    std::fs::write(&path, other.encode_to_vec()).unwrap();
    let reference = Session::reference(nestjit::onnx::OnnxModel::from_path(&path).unwrap());
    agrees(&open(), &reference, &random(&[1, 128, 24, 24], 1));
}
