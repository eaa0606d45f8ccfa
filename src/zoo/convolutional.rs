//! Models of one or two convolutions and what follows them. Shapes are given with the channels first; with
//! [`Format::ChannelsLast`] the same model (the same weights, too) takes and yields them last.

use nestjit_ir::DType;

use crate::error::Result;
use crate::graph::builder::{Activation, Conv2d, Padding};
use crate::graph::sequential::Conv2dLayer;
use crate::graph::{Format, GraphBuilder, Model, Sequential, ValueId, Weights};

/// `[1, channels, height, width]` in a format.
fn image(channels: usize, height: usize, width: usize, format: Format) -> [usize; 4] {
    match format {
        Format::ChannelsFirst => [1, channels, height, width],
        Format::ChannelsLast => [1, height, width, channels],
    }
}

/// TVM's WeeNet: a convolution over a large image, so that what follows it costs as much as it does.
pub(super) fn weenet(name: &str, groups: usize, format: Format) -> Result<Model> {
    let layer = Conv2dLayer::new(64, [3, 3]).padding(Padding::Same).groups(groups).no_bias();
    Sequential::new(&image(64, 128, 128, format))
        .name(name)
        .seed(20)
        .format(format)
        .conv2d(layer)
        .batch_norm()
        .activation(Activation::Relu)
        .build()
}

/// A pointwise convolution of a MobileNet's size.
pub(super) fn tvm_conv() -> Result<Model> {
    Sequential::new(&[1, 128, 28, 28])
        .name("tvm_conv")
        .seed(30)
        .conv2d(Conv2dLayer::new(256, [1, 1]).no_bias())
        .batch_norm()
        .activation(Activation::Relu)
        .build()
}

/// A depthwise convolution of a MobileNet's size.
pub(super) fn tvm_dw() -> Result<Model> {
    Sequential::new(&[1, 512, 14, 14])
        .name("tvm_dw")
        .seed(31)
        .depthwise_conv2d(Conv2dLayer::new(1, [3, 3]).padding(Padding::Same).no_bias())
        .batch_norm()
        .activation(Activation::Relu)
        .build()
}

/// The pattern of TensorFlow's guide to its remapper: convolution, bias and an activation that is not ReLU.
pub(super) fn conv_swish(name: &str, format: Format) -> Result<Model> {
    let layer = || Conv2dLayer::new(64, [3, 3]).padding(Padding::Same).activation(Activation::Swish);
    Sequential::new(&image(3, 64, 64, format))
        .name(name)
        .seed(40)
        .format(format)
        .conv2d(layer())
        .conv2d(layer())
        .build()
}

/// A convolution with "same" padding and without a bias.
fn same_conv(
    g: &mut GraphBuilder,
    weights: &mut Weights,
    x: ValueId,
    shape: [usize; 4],
    format: Format,
) -> Result<ValueId> {
    let [filters, channels, height, width] = shape;
    let window = height * width;
    let kernel = weights.layer(&shape, channels * window, filters * window, Activation::Linear)?;
    let kernel = g.constant("kernel", kernel);
    let options = Conv2d { padding: Padding::Same, format, ..Conv2d::default() };
    Ok(g.named("conv").conv2d(x, kernel, None, options))
}

/// What a one-dimensional convolution becomes in TensorFlow: two-dimensional with a height of 1, which is
/// squeezed away before the bias is added.
pub(super) fn conv_squeeze_bias(name: &str, format: Format) -> Result<Model> {
    let mut weights = Weights::new(50);
    let mut g = GraphBuilder::new(name);
    let x = g.input("input", DType::F32, &image(64, 1, 256, format));
    let y = same_conv(&mut g, &mut weights, x, [128, 64, 1, 3], format)?;
    let y = g.named("squeeze").squeeze(y, &[format.first_spatial()]);
    let bias = g.constant("bias", weights.uniform(&[128], -0.5, 0.5)?);
    let y = g.named("bias_add").bias_add(y, bias, format.channel_axis(3));
    g.output("output", y);
    Ok(g.build()?.into())
}

/// The end of a residual block: the second operand of the sum comes from elsewhere.
pub(super) fn conv_bn_side_relu(name: &str, format: Format) -> Result<Model> {
    let mut weights = Weights::new(60);
    let mut g = GraphBuilder::new(name);
    let shape = image(64, 56, 56, format);
    let x = g.input("input", DType::F32, &shape);
    let side = g.input("side", DType::F32, &shape);
    let y = same_conv(&mut g, &mut weights, x, [64, 64, 3, 3], format)?;
    let parameters = weights.batch_norm(64)?.map(|tensor| g.constant("batch_norm", tensor));
    let y = g.named("batch_norm").batch_norm(y, parameters, f64::from(1e-5_f32), format);
    let y = g.named("add").add(y, side);
    let y = g.named("relu").relu(y);
    g.output("output", y);
    Ok(g.build()?.into())
}
