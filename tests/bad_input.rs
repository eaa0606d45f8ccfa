//! Models and inputs that are wrong: the exact error, the node at fault, and nothing half-done. And models that
//! are unusual but right.

use ndarray::{Array2, array, s};
use nestjit::graph::ValueId;
use nestjit::graph::builder::Conv2d;
use nestjit::{Compiler, DType, Error, ErrorKind, Executable, GraphBuilder, Model, Tensor};

/// The error of building a model with one `f32[2,3]` input.
fn build_error(body: impl FnOnce(&mut GraphBuilder, ValueId) -> ValueId) -> Error {
    let mut g = GraphBuilder::new("bad");
    let x = g.input("x", DType::F32, &[2, 3]);
    let y = body(&mut g, x);
    g.output("y", y);
    g.build().map(|_| ()).expect_err("the model is wrong")
}

fn compile(body: impl FnOnce(&mut GraphBuilder)) -> Executable {
    let mut g = GraphBuilder::new("good");
    body(&mut g);
    Compiler::new().threads(2).compile(&Model::from(g.build().unwrap())).unwrap()
}

/// `y = relu(x)` with `x: f32[2,3]`.
fn relu() -> Executable {
    compile(|g| {
        let x = g.input("x", DType::F32, &[2, 3]);
        let y = g.relu(x);
        g.output("y", y);
    })
}

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(DType::F32, shape).unwrap()
}

#[track_caller]
fn assert_error(error: &Error, kind: ErrorKind, text: &str) {
    assert_eq!((error.kind(), error.to_string().as_str()), (kind, text));
}

#[test]
fn shapes_that_do_not_fit() {
    let e = build_error(|g, x| {
        let w = g.constant("w", zeros(&[4, 5]));
        g.named("fc").matmul(x, w)
    });
    assert_error(
        &e,
        ErrorKind::Shape,
        "node 'fc' (MatMul): 'x' f32[2, 3] and 'w' f32[4, 5] cannot be multiplied: the inner dimensions are 3 and 4",
    );
    assert_eq!((e.node(), e.op()), (Some("fc"), Some("MatMul")));

    let e = build_error(|g, x| {
        let b = g.constant("b", zeros(&[4]));
        g.add(x, b)
    });
    assert_error(
        &e,
        ErrorKind::Shape,
        "node 'add_0' (Add): cannot broadcast 'x' f32[2, 3] and 'b' f32[4] to one shape",
    );

    let e = build_error(|g, x| g.reshape(x, &[4, 2]));
    assert_error(
        &e,
        ErrorKind::Shape,
        "node 'reshape_0' (Reshape): cannot reshape 'x' f32[2, 3] to [4, 2]: 6 and 8 elements",
    );

    let e = build_error(|g, x| g.transpose(x, &[0, 0]));
    assert_error(
        &e,
        ErrorKind::Invalid,
        "node 'transpose_0' (Transpose): [0, 0] is not a permutation of the 2 dimensions of 'x' f32[2, 3]",
    );

    let e = build_error(|g, x| g.concat(&[x], 7));
    assert_error(&e, ErrorKind::Invalid, "node 'concat_0' (Concat): axis 7 does not exist in 'x' f32[2, 3]");

    let e = build_error(|g, x| {
        let w = g.constant("w", zeros(&[8, 3, 3, 3]));
        g.conv2d(x, w, None, Conv2d::default())
    });
    assert_error(
        &e,
        ErrorKind::Shape,
        "node 'conv_0' (Conv): needs at least 3 dimensions, but 'x' f32[2, 3] was given",
    );
}

#[test]
fn types_that_do_not_fit() {
    let e = build_error(|g, x| {
        let i = g.constant("i", Tensor::new(&[3], &[1i64, 2, 3]).unwrap());
        g.add(x, i)
    });
    assert_error(
        &e,
        ErrorKind::Shape,
        "node 'add_0' (Add): operands must have one type, but 'x' is f32 and 'i' is i64",
    );
    let e = build_error(|g, x| g.gather(x, x, 0));
    assert_error(
        &e,
        ErrorKind::Shape,
        "node 'gather_0' (Gather): indices must be i64 or i32, but 'x' f32[2, 3] was given",
    );
}

#[test]
fn everything_that_is_wrong_is_listed() {
    let e = build_error(|g, x| {
        let a = g.named("first").reshape(x, &[7]);
        let b = g.named("second").reshape(x, &[8]);
        g.add(a, b)
    });
    assert_error(
        &e,
        ErrorKind::Shape,
        "node 'first' (Reshape): cannot reshape 'x' f32[2, 3] to [7]: 6 and 7 elements\nnode 'second' (Reshape): cannot reshape 'x' f32[2, 3] to [8]: 6 and 8 elements",
    );
}

#[test]
fn sizes_that_cannot_be_addressed() {
    let mut g = GraphBuilder::new("bad");
    let x = g.input("x", DType::F32, &[usize::MAX, 2]);
    g.output("y", x);
    assert_error(
        &g.build().map(|_| ()).unwrap_err(),
        ErrorKind::Limit,
        "input 'x': a tensor of shape [18446744073709551615, 2] is larger than the address space",
    );

    let e = build_error(|g, x| {
        let flat = g.reshape(x, &[6, 1]);
        g.expand(flat, &[6, usize::MAX / 8])
    });
    assert_error(
        &e,
        ErrorKind::Limit,
        "node 'expand_0' (Expand): a tensor of shape [6, 2305843009213693951] is larger than the address space",
    );
    assert_error(
        &Tensor::zeros(DType::F32, &[usize::MAX]).unwrap_err(),
        ErrorKind::Limit,
        "a tensor of shape [18446744073709551615] is larger than the address space",
    );
}

#[test]
fn indices_that_cannot_be_computed_with() {
    // The shape is fine: there is one element in the window, whatever the distance to the next.
    let mut g = GraphBuilder::new("far");
    let x = g.input("x", DType::F32, &[1, 1, 2, 3]);
    let w = g.constant("w", zeros(&[1, 1, 1, 1]));
    let y = g.conv2d(x, w, None, Conv2d { dilation: [1 << 62, 1], ..Conv2d::default() });
    g.output("y", y);
    let model = Model::from(g.build().unwrap());
    let e = Compiler::new().verify_passes(true).compile(&model).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Limit, "{e}");
    assert!(e.to_string().contains("index 2 overflows: it reaches further than 2^59 bytes"), "{e}");
}

#[test]
fn sizes_that_exceed_the_memory() {
    // Addressable, so it could be compiled; but a run cannot have so much memory, whatever the machine.
    let huge = 1usize << 50;
    let named = |e: Error| {
        assert_eq!(e.kind(), ErrorKind::Limit, "{e}");
        let text =
            "of which the largest is 'y' f32[1125899906842624]: 4503599627370496 bytes of memory are needed";
        assert!(e.to_string().contains(text), "{e}");
    };
    let mut g = GraphBuilder::new("bad");
    let x = g.input("x", DType::F32, &[1]);
    let y = g.expand(x, &[huge]);
    g.output("y", y);
    named(Compiler::new().compile(&Model::from(g.build().unwrap())).map(|_| ()).unwrap_err());

    // Nor is such a constant folded.
    let mut g = GraphBuilder::new("bad");
    let c = g.constant("c", zeros(&[1]));
    let y = g.expand(c, &[huge]);
    let y = g.relu(y);
    g.output("y", y);
    named(Compiler::new().compile(&Model::from(g.build().unwrap())).map(|_| ()).unwrap_err());
}

#[test]
fn names_that_do_not_exist_or_clash() {
    let mut g = GraphBuilder::new("bad");
    let x = g.input("x", DType::F32, &[1]);
    let z = g.input("x", DType::F32, &[1]);
    let y = g.add(x, z);
    g.output("y", y);
    assert_error(&g.build().map(|_| ()).unwrap_err(), ErrorKind::Invalid, "input 'x': the name is taken");

    let mut g = GraphBuilder::new("bad");
    g.input("x", DType::F32, &[1]);
    assert_error(&g.build().map(|_| ()).unwrap_err(), ErrorKind::Invalid, "the graph has no output");

    let mut g = GraphBuilder::new("good");
    let x = g.input("x", DType::F32, &[1]);
    g.output("y", x);
    let model = Model::from(g.build().unwrap());
    let e = Compiler::new().disable_pass("NoSuchPass").compile(&model).map(|_| ()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Usage);
    assert!(e.to_string().starts_with("there is no pass 'NoSuchPass'; the passes are "), "{e}");
    let e = Compiler::new().threads(0).compile(&model).map(|_| ()).unwrap_err();
    assert_error(&e, ErrorKind::Usage, "0 threads: the number must be in 1..=1024");
}

#[test]
fn inputs_of_a_run_are_checked() {
    let executable = relu();
    let error = |inputs: &[Tensor]| executable.run(inputs).map(|_| ()).unwrap_err();
    assert_error(&error(&[]), ErrorKind::Shape, "the model has 1 input ('x'), but 0 were given");
    let two = [zeros(&[2, 3]), zeros(&[2, 3])];
    assert_error(&error(&two), ErrorKind::Shape, "the model has 1 input ('x'), but 2 were given");
    let text = "the input 'x' is f32[2, 3], but f32[3, 2] was given";
    assert_error(&error(&[zeros(&[3, 2])]), ErrorKind::Shape, text);
    let doubles = Tensor::zeros(DType::F64, &[2, 3]).unwrap();
    let text = "the input 'x' is f32[2, 3], but f64[2, 3] was given";
    assert_error(&error(&[doubles]), ErrorKind::Shape, text);
    // And the executable is as good as before.
    assert_eq!(executable.run(&[zeros(&[2, 3])]).unwrap()[0], zeros(&[2, 3]));
}

#[test]
fn indices_outside_their_tensor_are_an_error_of_the_run() {
    let executable = compile(|g| {
        let data = g.constant("data", Tensor::new(&[3], &[10.0f32, 20.0, 30.0]).unwrap());
        let at = g.input("at", DType::I64, &[2]);
        let y = g.named("lookup").gather(data, at, 0);
        g.output("y", y);
    });
    let run = |at: [i64; 2]| executable.run(&[Tensor::new(&[2], &at).unwrap()]);
    assert_eq!(run([2, 0]).unwrap()[0].values::<f32>().unwrap(), [30.0, 10.0]);
    for at in [[0, 3], [i64::MAX, 0], [0, i64::MIN]] {
        let e = run(at).map(|_| ()).unwrap_err();
        let wrong = at.into_iter().find(|i| *i != 0).unwrap_or_default();
        let text = format!(
            "node 'lookup' (Gather): the index {wrong} in 'at' is outside 0..3 (or -3..0, counted from the end)"
        );
        assert_error(&e, ErrorKind::Index, &text);
    }
    assert_eq!(run([1, 1]).unwrap()[0].values::<f32>().unwrap(), [20.0, 20.0]);
}

#[test]
fn views_with_any_strides_are_inputs() {
    let a = array![[1.0f32, -2.0, 3.0], [-4.0, 5.0, -6.0]];
    let reversed = a.slice(s![..;-1, ..;-1]);
    let out = relu().run(&[reversed]).unwrap();
    assert_eq!(out[0].values::<f32>().unwrap(), [0.0, 5.0, 0.0, 3.0, 0.0, 1.0]);
    let transposed = Array2::from_shape_vec((3, 2), vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    let out = relu().run(&[transposed.t()]).unwrap();
    assert_eq!(out[0].values::<f32>().unwrap(), [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
}

#[test]
fn tensors_without_elements_work() {
    let executable = compile(|g| {
        let x = g.input("x", DType::F32, &[0, 3]);
        let w = g.constant("w", zeros(&[3, 4]));
        let y = g.matmul(x, w);
        let y = g.relu(y);
        g.output("rows", y);
        let sum = g.reduce_sum(y, &[0], false);
        g.output("sum", sum);
    });
    let out = executable.run(&[zeros(&[0, 3])]).unwrap();
    assert_eq!((out[0].shape(), out[1].shape()), (&[0usize, 4][..], &[4usize][..]));
    assert_eq!(out[1].values::<f32>().unwrap(), [0.0; 4]);
}

#[test]
fn tensors_of_rank_0_work() {
    let executable = compile(|g| {
        let x = g.input("x", DType::F32, &[]);
        let two = g.scalar(DType::F32, 2.0);
        let y = g.mul(x, two);
        g.output("y", y);
    });
    let out = executable.run(&[Tensor::scalar(21.0f32)]).unwrap();
    assert_eq!((out[0].shape(), out[0].values::<f32>().unwrap()), (&[][..], &[42.0f32][..]));
}

#[test]
fn an_output_may_be_an_input_or_a_constant() {
    let executable = compile(|g| {
        let x = g.input("x", DType::F32, &[2]);
        let c = g.constant("c", Tensor::new(&[1], &[7.0f32]).unwrap());
        g.output("same", x);
        g.output("constant", c);
    });
    let out = executable.run(&[Tensor::new(&[2], &[1.0f32, 2.0]).unwrap()]).unwrap();
    assert_eq!(out[0].values::<f32>().unwrap(), [1.0, 2.0]);
    assert_eq!(out[1].values::<f32>().unwrap(), [7.0]);
}
