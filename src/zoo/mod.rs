//! The built-in models: small enough to be read, each a workload that fusion is known for. They are written
//! with the public builders and have seeded weights, so that anyone can reproduce a measurement.

use crate::error::{Error, Result};
use crate::graph::Format::{ChannelsFirst, ChannelsLast};
use crate::graph::Model;

mod convolutional;
mod dense;
mod recurrent;

#[cfg(test)]
mod tests;

/// A built-in model.
#[derive(Clone, Copy, Debug)]
pub struct ZooEntry {
    /// The name by which commands and [`build`] know it.
    pub name: &'static str,
    /// What it is, in one line.
    pub summary: &'static str,
    /// Builds it.
    pub build: fn() -> Result<Model>,
}

/// The built-in models, in the order in which they are listed to users.
pub fn list() -> &'static [ZooEntry] {
    const fn entry(name: &'static str, summary: &'static str, build: fn() -> Result<Model>) -> ZooEntry {
        ZooEntry { name, summary, build }
    }
    const LIST: &[ZooEntry] = &[
        entry("mlp10", "64x512, ten Dense 512 + ReLU, Dense 10 + softmax", dense::mlp10),
        entry("weenet", "1x64x128x128, depthwise conv 3x3 of 64, BatchNorm, ReLU", || {
            convolutional::weenet("weenet", 64, ChannelsFirst)
        }),
        entry("weenet_nhwc", "weenet with the channels last", || {
            convolutional::weenet("weenet_nhwc", 64, ChannelsLast)
        }),
        entry("weenet_conv", "1x64x128x128, conv 3x3 to 64, BatchNorm, ReLU", || {
            convolutional::weenet("weenet_conv", 1, ChannelsFirst)
        }),
        entry("tvm_conv", "1x128x28x28, conv 1x1 to 256, BatchNorm, ReLU", convolutional::tvm_conv),
        entry("tvm_dw", "1x512x14x14, depthwise conv 3x3, BatchNorm, ReLU", convolutional::tvm_dw),
        entry("rnn_cell", "an RNN cell, hidden size 128, batch 1", recurrent::rnn_cell),
        entry("lstm_cell", "an LSTM cell, hidden size 128, batch 1", recurrent::lstm_cell),
        entry("lstm_seq", "an LSTM over 64 steps, hidden size 128, batch 1", recurrent::lstm_seq),
        entry("conv_swish", "1x3x64x64, conv 3x3 to 64 + bias + swish, twice", || {
            convolutional::conv_swish("conv_swish", ChannelsFirst)
        }),
        entry("conv_swish_nhwc", "conv_swish with the channels last", || {
            convolutional::conv_swish("conv_swish_nhwc", ChannelsLast)
        }),
        entry("conv_squeeze_bias", "1x64x1x256, conv 1x3 to 128, squeeze, bias", || {
            convolutional::conv_squeeze_bias("conv_squeeze_bias", ChannelsFirst)
        }),
        entry("conv_squeeze_bias_nhwc", "conv_squeeze_bias with the channels last", || {
            convolutional::conv_squeeze_bias("conv_squeeze_bias_nhwc", ChannelsLast)
        }),
        entry("conv_bn_side_relu", "1x64x56x56, conv 3x3 to 64, BatchNorm, residual input, ReLU", || {
            convolutional::conv_bn_side_relu("conv_bn_side_relu", ChannelsFirst)
        }),
        entry("conv_bn_side_relu_nhwc", "conv_bn_side_relu with the channels last", || {
            convolutional::conv_bn_side_relu("conv_bn_side_relu_nhwc", ChannelsLast)
        }),
    ];
    LIST
}

/// Builds a built-in model.
///
/// # Errors
/// [`crate::ErrorKind::Usage`], listing the names, if there is none of this name.
pub fn build(name: &str) -> Result<Model> {
    match list().iter().find(|entry| entry.name == name) {
        Some(entry) => (entry.build)(),
        None => {
            let names: Vec<&str> = list().iter().map(|entry| entry.name).collect();
            Err(Error::usage(format!(
                "there is no built-in model '{}'; there are: {}",
                name.escape_debug(),
                names.join(", ")
            )))
        }
    }
}

impl Model {
    /// A built-in model: see [`crate::zoo`].
    ///
    /// # Errors
    /// As [`build`].
    pub fn zoo(name: &str) -> Result<Model> {
        build(name)
    }
}
