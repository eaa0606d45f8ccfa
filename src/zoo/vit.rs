//! The vision transformer: patches of an image as tokens.

use nestjit_ir::DType;

use super::transformer::Transformer;
use crate::error::Result;
use crate::graph::builder::{Conv2d, Gemm};
use crate::graph::{GraphBuilder, Model, ValueId, Weights};

/// ViT-B/16.
pub(super) fn vit_b_16(resolution: usize) -> Result<Model> {
    const PATCH: usize = 16;
    const WIDTH: usize = 768;
    const LAYERS: usize = 12;
    let side = resolution / PATCH;
    let tokens = side.saturating_mul(side).saturating_add(1);
    let mut net = Transformer {
        g: GraphBuilder::new("vit_b_16"),
        weights: Weights::new(150),
        width: WIDTH,
        heads: 12,
        epsilon: f64::from(1e-6_f32),
    };
    let x = net.g.input("input", DType::F32, &[1, 3, resolution, resolution]);
    let limit = 3.0 / ((3 * PATCH * PATCH) as f32).sqrt();
    let weight = net.weights.uniform(&[WIDTH, 3, PATCH, PATCH], -limit, limit)?;
    let weight = net.parameter("conv_proj.weight", weight);
    let bias = net.weights.bias(WIDTH)?;
    let bias = net.parameter("conv_proj.bias", bias);
    let options = Conv2d { stride: [PATCH; 2], ..Conv2d::default() };
    let x = net.g.named("conv_proj").conv2d(x, weight, Some(bias), options);
    let x = net.g.named("patches").reshape(x, &[1, WIDTH, tokens - 1]);
    let x = net.g.named("patches.transpose").transpose(x, &[0, 2, 1]);
    let class = net.weights.uniform(&[1, 1, WIDTH], -1.0, 1.0)?;
    let class = net.parameter("class_token", class);
    let x = net.g.named("concat").concat(&[class, x], 1);
    let positions = net.weights.uniform(&[1, tokens, WIDTH], -0.5, 0.5)?;
    let positions = net.parameter("encoder.pos_embedding", positions);
    let mut x = net.g.named("encoder.add").add(x, positions);
    for layer in 0..LAYERS {
        x = block(&mut net, &format!("encoder.layers.encoder_layer_{layer}"), x, tokens)?;
    }
    let x = net.layer_norm("encoder.ln", x)?;
    let x = net.g.named("class").slice_axis(x, 1, 0, 1);
    let x = net.g.named("class.squeeze").squeeze(x, &[1]);
    let limit = (3.0 / WIDTH as f32).sqrt();
    let weight = net.weights.uniform(&[1000, WIDTH], -limit, limit)?;
    let weight = net.parameter("heads.head.weight", weight);
    let bias = net.weights.bias(1000)?;
    let bias = net.parameter("heads.head.bias", bias);
    let options = Gemm { trans_b: true, ..Gemm::default() };
    let x = net.g.named("heads.head").gemm(x, weight, Some(bias), options);
    net.g.output("output", x);
    Ok(net.g.build()?.into())
}

/// Attention, then two layers for each token; normalisation comes first in both parts.
fn block(net: &mut Transformer, name: &str, x: ValueId, tokens: usize) -> Result<ValueId> {
    let width = net.width;
    let y = net.layer_norm(&format!("{name}.ln_1"), x)?;
    let y = net.linear(&format!("{name}.self_attention.in_proj"), y, width, 3 * width)?;
    let parts = net.g.named(&format!("{name}.self_attention.split")).split(y, 2, &[width; 3]);
    let y = net.attention(&format!("{name}.self_attention"), [parts[0], parts[1], parts[2]], tokens);
    let y = net.linear(&format!("{name}.self_attention.out_proj"), y, width, width)?;
    let x = net.g.named(&format!("{name}.add")).add(y, x);
    let y = net.layer_norm(&format!("{name}.ln_2"), x)?;
    let y = net.linear(&format!("{name}.mlp.0"), y, width, 4 * width)?;
    let y = net.gelu(&format!("{name}.mlp.1"), y);
    let y = net.linear(&format!("{name}.mlp.3"), y, 4 * width, width)?;
    Ok(net.g.named(&format!("{name}.add_mlp")).add(x, y))
}
