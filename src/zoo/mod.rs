//! The built-in models: small ones, each a workload that fusion is known for, and networks that equal PyTorch's
//! in their operations. They are written with the public builders and have seeded weights, so that anyone can
//! reproduce a measurement.

use crate::error::{Error, Result};
use crate::graph::Format::{ChannelsFirst, ChannelsLast};
use crate::graph::Model;

mod bert;
mod convolutional;
mod dense;
mod densenet;
mod efficientnet;
mod mobilenet;
mod net;
mod recurrent;
mod resnet;
mod squeezenet;
mod transformer;
mod vit;

#[cfg(test)]
mod tests;

/// A built-in model.
#[derive(Clone, Copy, Debug)]
pub struct ZooEntry {
    /// The name by which commands and [`build`] know it.
    pub name: &'static str,
    /// What it is, in one line.
    pub summary: &'static str,
    /// What it costs to build and to run.
    pub size: Size,
    maker: Maker,
}

/// What a model costs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Size {
    /// One to a few layers: it can be interpreted and evaluated in moments.
    Small,
    /// A whole network, with weights of up to 350 MB.
    Network,
}

#[derive(Clone, Copy, Debug)]
enum Maker {
    Fixed(fn() -> Result<Model>),
    /// The resolution of the image, or the number of tokens, that it was designed for.
    Scaled(usize, fn(usize) -> Result<Model>),
}

impl ZooEntry {
    /// Builds it.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn build(&self) -> Result<Model> {
        match self.maker {
            Maker::Fixed(build) => build(),
            Maker::Scaled(resolution, build) => build(resolution),
        }
    }

    /// Builds a network for another resolution (height and width of the image; for a text the number of
    /// tokens).
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] for small models, and whatever is wrong with a network of this resolution.
    pub fn build_at(&self, resolution: usize) -> Result<Model> {
        match self.maker {
            Maker::Fixed(_) => {
                Err(Error::usage(format!("the built-in model '{}' has one resolution only", self.name)))
            }
            Maker::Scaled(_, build) => build(resolution),
        }
    }

    /// The resolution that the network was designed for; `None` for small models.
    pub fn resolution(&self) -> Option<usize> {
        match self.maker {
            Maker::Fixed(_) => None,
            Maker::Scaled(resolution, _) => Some(resolution),
        }
    }
}

/// The built-in models, in the order in which they are listed to users.
pub fn list() -> &'static [ZooEntry] {
    const fn entry(name: &'static str, summary: &'static str, build: fn() -> Result<Model>) -> ZooEntry {
        ZooEntry { name, summary, size: Size::Small, maker: Maker::Fixed(build) }
    }
    const fn network(
        name: &'static str,
        summary: &'static str,
        resolution: usize,
        build: fn(usize) -> Result<Model>,
    ) -> ZooEntry {
        ZooEntry { name, summary, size: Size::Network, maker: Maker::Scaled(resolution, build) }
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
        network("resnet18", "ResNet-18", 224, resnet::resnet18),
        network("resnet34", "ResNet-34", 224, resnet::resnet34),
        network("resnet50", "ResNet-50 v1.5", 224, resnet::resnet50),
        network("mobilenet_v2", "MobileNetV2", 224, mobilenet::mobilenet_v2),
        network("efficientnet_b0", "EfficientNet-B0", 224, |r| efficientnet::efficientnet(0, r)),
        network("efficientnet_b1", "EfficientNet-B1", 240, |r| efficientnet::efficientnet(1, r)),
        network("efficientnet_b2", "EfficientNet-B2", 260, |r| efficientnet::efficientnet(2, r)),
        network("efficientnet_b3", "EfficientNet-B3", 300, |r| efficientnet::efficientnet(3, r)),
        network("efficientnet_b4", "EfficientNet-B4", 380, |r| efficientnet::efficientnet(4, r)),
        network("efficientnet_b5", "EfficientNet-B5", 456, |r| efficientnet::efficientnet(5, r)),
        network("efficientnet_b6", "EfficientNet-B6", 528, |r| efficientnet::efficientnet(6, r)),
        network("efficientnet_b7", "EfficientNet-B7", 600, |r| efficientnet::efficientnet(7, r)),
        network("squeezenet1_1", "SqueezeNet 1.1", 224, squeezenet::squeezenet1_1),
        network("densenet121", "DenseNet-121", 224, densenet::densenet121),
        network("vit_b_16", "ViT-B/16", 224, vit::vit_b_16),
        network("bert_minilm", "BERT of MiniLM's shape, 128 tokens", 128, bert::bert_minilm),
    ];
    LIST
}

/// Builds a built-in model. A network's name may be followed by another resolution than its own:
/// `resnet18@64`.
///
/// # Errors
/// [`crate::ErrorKind::Usage`], listing the names, if there is none of this name.
pub fn build(name: &str) -> Result<Model> {
    let (base, resolution) = match name.split_once('@') {
        Some((base, resolution)) => (base, Some(resolution)),
        None => (name, None),
    };
    let Some(entry) = list().iter().find(|entry| entry.name == base) else {
        let names = list().iter().map(|entry| entry.name);
        return Err(Error::unknown_name("built-in model", base, "there are:", names));
    };
    let Some(resolution) = resolution else { return entry.build() };
    let resolution = resolution.parse().map_err(|_| {
        let name = name.escape_debug();
        Error::usage(format!("'{name}': a number must follow the '@': the resolution of the network"))
    })?;
    let mut model = entry.build_at(resolution)?;
    model.graph.name = name.to_owned();
    Ok(model)
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
