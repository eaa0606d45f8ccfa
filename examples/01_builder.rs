//! Lesson 1: building a model, compiling it, running it.
//!
//! A model is a graph of operations. There are two ways to write one in Rust: layer by layer with `Sequential`,
//! which draws weights from a seed, and value by value with `GraphBuilder`, which can express everything.

use ndarray::{Array2, Axis, array};
use nestjit::{Activation, Compiler, DType, GraphBuilder, Model, Result, Sequential, Tensor};

/// Runs the lesson.
pub fn main() -> Result<()> {
    sequential()?;
    functional()?;
    mistakes()
}

/// Layers on top of each other.
fn sequential() -> Result<()> {
    let model =
        Sequential::new(&[8, 64]).dense(128, Activation::Relu).dense(10, Activation::Softmax).build()?;
    let executable = Compiler::new().compile(&model)?;

    // Inputs are `ndarray` arrays or views; outputs are tensors, which `view` shows as arrays again.
    let x = Array2::from_shape_fn((8, 64), |(i, j)| (i * j) as f32 / 512.0);
    let outputs = executable.run(&[x.view()])?;
    let sum = outputs[0].view::<f32>()?.index_axis(Axis(0), 0).sum();
    println!("sequential: {:?}, the first row sums up to {sum:.3}", outputs[0].shape());
    assert!((sum - 1.0).abs() < 1e-5);
    Ok(())
}

/// Any operations, here the activation `x * sigmoid(x)` written out. nestjit has no special case for it: it is
/// an expression, and ends up in the same loop as the matrix product.
fn functional() -> Result<()> {
    let mut g = GraphBuilder::new("functional");
    let x = g.input("x", DType::F32, &[2, 3]);
    let w = g.constant("w", array![[1.0f32, -1.0], [0.5, 0.0], [0.0, 2.0]]);
    let h = g.named("project").matmul(x, w);
    let s = g.sigmoid(h);
    let y = g.mul(h, s);
    g.output("y", y);
    let executable = Compiler::new().compile(&Model::from(g.build()?))?;

    let outputs = executable.run(&[array![[1.0f32, 0.0, 0.0], [0.0, 2.0, 1.0]]])?;
    println!("functional: {:?}", outputs[0].view::<f32>()?);
    let swish = |v: f32| v / (1.0 + (-v).exp());
    let expected = Tensor::from(array![[swish(1.0), swish(-1.0)], [swish(1.0), swish(2.0)]]);
    let worst = outputs[0].values::<f32>()?.iter().zip(expected.values::<f32>()?).map(|(a, b)| (a - b).abs());
    assert!(worst.fold(0.0, f32::max) < 1e-6);
    Ok(())
}

/// The builder's methods do not fail; `build` lists everything that is wrong, with the node at fault.
fn mistakes() -> Result<()> {
    let mut g = GraphBuilder::new("mistakes");
    let x = g.input("x", DType::F32, &[2, 3]);
    let y = g.named("flatten").reshape(x, &[7]);
    let z = g.named("mix").transpose(x, &[0, 0]);
    g.output("y", y);
    g.output("z", z);
    let Err(error) = g.build() else { panic!("the model is wrong") };
    println!("mistakes:\n{error}");
    assert_eq!((error.node(), error.op()), (Some("flatten"), Some("Reshape")));
    Ok(())
}
