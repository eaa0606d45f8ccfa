//! Inference for what slides a window over spatial dimensions: convolution and pooling.

use nestjit_ir::DType;

use super::contraction::{expect_addend, product_type};
use super::{Class, Outputs, expect_class, expect_min_rank, expect_shape, operands, operands_or, show};
use crate::error::{Error, Result};
use crate::graph::{Format, PoolKind, Value, Window};

pub(super) fn conv(
    window: &Window,
    groups: usize,
    format: Format,
    pad_value: i16,
    inputs: &[&Value],
) -> Result<Outputs> {
    let [x, weight, bias] = operands_or(inputs, 2)?;
    let (Some(x), Some(weight)) = (x, weight) else { unreachable!("two operands are required") };
    let dtype = product_type(x, weight)?;
    let possible = match x.dtype {
        DType::U8 => 0..=255,
        DType::I8 => -128..=127,
        DType::F32
        | DType::F64
        | DType::F16
        | DType::BF16
        | DType::I64
        | DType::I32
        | DType::I16
        | DType::U64
        | DType::U32
        | DType::U16
        | DType::Bool => 0..=0,
    };
    if !possible.contains(&pad_value) {
        return Err(Error::invalid(format!("{} cannot be padded with {pad_value}", show(x))));
    }
    expect_min_rank(x, 3)?;
    let rank = x.shape.len();
    if weight.shape.len() != rank {
        return Err(Error::shape(format!("{} takes a weight of rank {rank}, not {}", show(x), show(weight))));
    }
    if weight.shape[2..] != window.kernel {
        return Err(Error::invalid(format!(
            "the kernel is {:?}, but the weight is {}",
            window.kernel,
            show(weight)
        )));
    }
    let channels = x.shape[format.channel_axis(rank)];
    let filters = weight.shape[0];
    if groups == 0 {
        return Err(Error::invalid("the number of groups must be at least 1"));
    }
    if !channels.is_multiple_of(groups) {
        return Err(Error::shape(format!("{groups} groups do not divide {channels} input channels")));
    }
    if !filters.is_multiple_of(groups) {
        return Err(Error::shape(format!("{groups} groups do not divide {filters} output channels")));
    }
    if weight.shape[1] != channels / groups {
        return Err(Error::shape(format!(
            "{} has {channels} channels in {groups} group{}, but the weight {} takes {} per group",
            show(x),
            super::plural(groups),
            show(weight),
            weight.shape[1]
        )));
    }
    if let Some(bias) = bias {
        expect_addend(bias, dtype, "the bias")?;
        expect_shape(bias, &[filters], "the bias")?;
    }
    Ok(vec![(dtype, slide(x, window, filters, false, format)?)])
}

pub(super) fn pool(
    kind: PoolKind,
    window: &Window,
    ceil_mode: bool,
    format: Format,
    inputs: &[&Value],
) -> Result<Outputs> {
    let [x] = operands(inputs)?;
    expect_class(x, if kind == PoolKind::Max { Class::Numeric } else { Class::Float })?;
    expect_min_rank(x, 3)?;
    let channels = x.shape[format.channel_axis(x.shape.len())];
    let shape = slide(x, window, channels, ceil_mode, format)?;
    // A window that lies in the padding alone has no maximum and no mean.
    for d in 0..window.kernel.len() {
        let reach = (window.kernel[d] - 1) * window.dilations[d] + 1;
        let pad = window.pads_begin[d].max(window.pads_end[d]);
        if pad >= reach {
            return Err(Error::invalid(format!(
                "padding {pad} is not smaller than the window's extent {reach} in spatial dimension {d}"
            )));
        }
    }
    Ok(vec![(x.dtype, shape)])
}

pub(super) fn global_pool(kind: PoolKind, format: Format, inputs: &[&Value]) -> Result<Outputs> {
    let [x] = operands(inputs)?;
    expect_class(x, if kind == PoolKind::Max { Class::Numeric } else { Class::Float })?;
    expect_min_rank(x, 3)?;
    let mut shape = x.shape.clone();
    let first = format.first_spatial();
    shape[first..first + x.shape.len() - 2].fill(1);
    Ok(vec![(x.dtype, shape)])
}

/// The shape of what the window yields, with `channels` channels.
fn slide(x: &Value, window: &Window, channels: usize, ceil_mode: bool, format: Format) -> Result<Vec<usize>> {
    let spatial = x.shape.len() - 2;
    let lists = [
        ("kernel", &window.kernel),
        ("strides", &window.strides),
        ("dilations", &window.dilations),
        ("padding before", &window.pads_begin),
        ("padding after", &window.pads_end),
    ];
    for (name, list) in lists {
        if list.len() != spatial {
            return Err(Error::invalid(format!(
                "{name} has {} entr{}, but {} has {spatial} spatial dimension{}",
                list.len(),
                if list.len() == 1 { "y" } else { "ies" },
                show(x),
                super::plural(spatial)
            )));
        }
    }
    for (name, list) in &lists[..3] {
        if list.contains(&0) {
            return Err(Error::invalid(format!("{name} must be at least 1, not {list:?}")));
        }
    }
    let mut shape = x.shape.clone();
    shape[format.channel_axis(x.shape.len())] = channels;
    for d in 0..spatial {
        let extent = &mut shape[format.first_spatial() + d];
        *extent = output_extent(*extent, window, d, ceil_mode)?;
    }
    Ok(shape)
}

/// How many windows fit along spatial dimension `d`.
fn output_extent(input: usize, window: &Window, d: usize, ceil_mode: bool) -> Result<usize> {
    let overflow = || {
        let message = format!("the window is larger than the address space in spatial dimension {d}");
        Error::new(crate::ErrorKind::Limit, message)
    };
    let reach = (window.kernel[d] - 1)
        .checked_mul(window.dilations[d])
        .and_then(|r| r.checked_add(1))
        .ok_or_else(overflow)?;
    let before = input.checked_add(window.pads_begin[d]).ok_or_else(overflow)?;
    let padded =
        before.checked_add(window.pads_end[d]).filter(|p| *p <= isize::MAX as usize).ok_or_else(overflow)?;
    let stride = window.strides[d];
    let windows = match padded.checked_sub(reach) {
        Some(room) if !ceil_mode => return Ok(room / stride + 1),
        Some(room) => room.div_ceil(stride) + 1,
        // A window that reaches out of the padding by less than a step is there; by a step, it is none.
        None if ceil_mode && reach - padded < stride => 1,
        None if ceil_mode && reach - padded < stride.saturating_mul(2) => return Ok(0),
        None => {
            return Err(Error::shape(format!(
                "the window's extent {reach} is larger than the padded input's {padded} in spatial dimension {d}"
            )));
        }
    };
    // PyTorch's rule, and ONNX's: the last window starts in the input or in the padding before it.
    Ok(if (windows - 1).saturating_mul(stride) >= before { windows - 1 } else { windows })
}
