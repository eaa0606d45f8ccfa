//! Models of dense layers.

use crate::error::Result;
use crate::graph::builder::Activation;
use crate::graph::{Model, Sequential};

/// A perceptron of ten hidden layers.
pub(super) fn mlp10() -> Result<Model> {
    let mut model = Sequential::new(&[64, 512]).name("mlp10").seed(10);
    for _ in 0..10 {
        model = model.dense(512, Activation::Relu);
    }
    model.dense(10, Activation::Softmax).build()
}
