//! BERT: a transformer over the tokens of a text.

use nestjit_ir::DType;

use super::transformer::Transformer;
use crate::error::{Error, Result};
use crate::graph::{GraphBuilder, Model, ValueId, Weights};
use crate::tensor::Tensor;

/// BERT of MiniLM's shape: 6 layers, 384 features, 12 heads. The input is the tokens' ids.
pub(super) fn bert_minilm(length: usize) -> Result<Model> {
    const VOCABULARY: usize = 30522;
    const POSITIONS: usize = 512;
    const WIDTH: usize = 384;
    const LAYERS: usize = 6;
    if length > POSITIONS {
        return Err(Error::usage(format!("bert_minilm takes at most {POSITIONS} tokens, not {length}")));
    }
    let mut net = Transformer {
        g: GraphBuilder::new("bert_minilm"),
        weights: Weights::new(160),
        width: WIDTH,
        heads: 12,
        epsilon: f64::from(1e-12_f32),
    };
    let ids = net.g.input("input_ids", DType::I64, &[1, length]);
    let places: Vec<i64> = (0..length as i64).collect();
    let places = net.parameter("embeddings.position_ids", Tensor::new(&[1, length], &places)?);
    let types = net.parameter("embeddings.token_type_ids", Tensor::zeros(DType::I64, &[1, length])?);
    let x = embedding(&mut net, "embeddings.word_embeddings", ids, VOCABULARY)?;
    let y = embedding(&mut net, "embeddings.token_type_embeddings", types, 2)?;
    let x = net.g.named("embeddings.add_types").add(x, y);
    let y = embedding(&mut net, "embeddings.position_embeddings", places, POSITIONS)?;
    let x = net.g.named("embeddings.add_positions").add(x, y);
    let mut x = net.layer_norm("embeddings.LayerNorm", x)?;
    for layer in 0..LAYERS {
        x = block(&mut net, &format!("encoder.layer.{layer}"), x, length)?;
    }
    net.g.output("last_hidden_state", x);
    let first = net.g.named("pooler.slice").slice_axis(x, 1, 0, 1);
    let first = net.g.named("pooler.squeeze").squeeze(first, &[1]);
    let pooled = net.linear("pooler.dense", first, WIDTH, WIDTH)?;
    let pooled = net.g.named("pooler.activation").tanh(pooled);
    net.g.output("pooler_output", pooled);
    Ok(net.g.build()?.into())
}

/// A vector for each id.
fn embedding(net: &mut Transformer, name: &str, ids: ValueId, count: usize) -> Result<ValueId> {
    let table = net.weights.uniform(&[count, net.width], -1.0, 1.0)?;
    let table = net.parameter(&format!("{name}.weight"), table);
    Ok(net.g.named(name).gather(table, ids, 0))
}

/// Attention, then two layers for each token; normalisation comes last in both parts.
fn block(net: &mut Transformer, name: &str, x: ValueId, tokens: usize) -> Result<ValueId> {
    let width = net.width;
    let mut parts = Vec::with_capacity(3);
    for part in ["query", "key", "value"] {
        parts.push(net.linear(&format!("{name}.attention.self.{part}"), x, width, width)?);
    }
    let y = net.attention(&format!("{name}.attention.self"), [parts[0], parts[1], parts[2]], tokens);
    let y = net.linear(&format!("{name}.attention.output.dense"), y, width, width)?;
    let y = net.g.named(&format!("{name}.attention.output.add")).add(y, x);
    let x = net.layer_norm(&format!("{name}.attention.output.LayerNorm"), y)?;
    let y = net.linear(&format!("{name}.intermediate.dense"), x, width, 4 * width)?;
    let y = net.gelu(&format!("{name}.intermediate.gelu"), y);
    let y = net.linear(&format!("{name}.output.dense"), y, 4 * width, width)?;
    let y = net.g.named(&format!("{name}.output.add")).add(y, x);
    net.layer_norm(&format!("{name}.output.LayerNorm"), y)
}
