//! The attributes that convolutions and poolings have in common: kernel, strides, dilations, padding.

use super::super::limit;
use super::{Halt, NodeCx, Result, extent};
use crate::graph::Window;

/// Where what `auto_pad` adds goes, or that nothing is added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AutoPad {
    /// As `pads` says.
    Explicit,
    /// The odd element goes to the end.
    SameUpper,
    /// The odd element goes to the begin.
    SameLower,
    /// None.
    Valid,
}

impl AutoPad {
    /// How much of the padding is at the begin.
    pub fn begin(self, total: usize) -> usize {
        if self == AutoPad::SameLower { total.div_ceil(2) } else { total / 2 }
    }
}

pub(super) fn auto_pad(cx: &NodeCx<'_>) -> Result<AutoPad> {
    Ok(match cx.string("auto_pad", "NOTSET")? {
        "NOTSET" | "" => AutoPad::Explicit,
        "SAME_UPPER" => AutoPad::SameUpper,
        "SAME_LOWER" => AutoPad::SameLower,
        "VALID" => AutoPad::Valid,
        other => return Err(Halt::invalid(format!("there is no auto_pad '{}'", other.escape_debug()))),
    })
}

/// A list of one number per spatial dimension, or `default` for each.
pub(super) fn per_dimension(
    cx: &NodeCx<'_>,
    name: &'static str,
    count: usize,
    default: usize,
) -> Result<Vec<usize>> {
    let Some(list) = cx.attributes.ints(name)? else { return Ok(vec![default; count]) };
    if list.len() != count {
        return Err(Halt::invalid(format!("'{name}' has {} entries, but {count} are needed", list.len())));
    }
    list.iter()
        .map(|v| match extent(*v, name)? {
            large if large > limit::ATTRIBUTE => {
                Err(Halt::limit(format!("'{name}' is {large}, which is too large")))
            }
            v => Ok(v),
        })
        .collect()
}

/// The padding as stated, before and after each spatial dimension.
pub(super) fn pads(cx: &NodeCx<'_>, count: usize) -> Result<(Vec<usize>, Vec<usize>)> {
    let pads = per_dimension(cx, "pads", 2 * count, 0)?;
    Ok((pads[..count].to_vec(), pads[count..].to_vec()))
}

/// The window of a convolution or pooling over spatial dimensions of these extents.
pub(super) fn window(cx: &NodeCx<'_>, input: &[usize], kernel: Vec<usize>) -> Result<Window> {
    let count = input.len();
    let strides = per_dimension(cx, "strides", count, 1)?;
    let dilations = per_dimension(cx, "dilations", count, 1)?;
    let (mut pads_begin, mut pads_end) = pads(cx, count)?;
    for (list, what) in [(&kernel, "kernel"), (&strides, "strides"), (&dilations, "dilations")] {
        if list.contains(&0) {
            return Err(Halt::invalid(format!("the {what} must be at least 1, not {list:?}")));
        }
    }
    limit::check_kernel(&kernel)?;
    let auto = auto_pad(cx)?;
    if auto != AutoPad::Explicit {
        for d in 0..count {
            let total = match auto {
                AutoPad::Valid => 0,
                _ => {
                    let last = (input[d].div_ceil(strides[d]).max(1) - 1).checked_mul(strides[d]);
                    let reach = reach(kernel[d], dilations[d])?;
                    last.and_then(|l| l.checked_add(reach))
                        .ok_or_else(|| Halt::limit("the window is larger than the address space"))?
                        .saturating_sub(input[d])
                }
            };
            pads_begin[d] = auto.begin(total);
            pads_end[d] = total - pads_begin[d];
        }
    }
    Ok(Window { kernel, strides, dilations, pads_begin, pads_end })
}

/// The extent that a dilated kernel covers.
pub(super) fn reach(kernel: usize, dilation: usize) -> Result<usize> {
    kernel
        .checked_sub(1)
        .and_then(|k| k.checked_mul(dilation))
        .and_then(|r| r.checked_add(1))
        .ok_or_else(|| Halt::limit("the window is larger than the address space"))
}

/// The extents of the spatial dimensions of `[N, C, S1, .., Sk]`.
pub(super) fn spatial(shape: &[usize]) -> Result<&[usize]> {
    match shape {
        [_, _, spatial @ ..] if !spatial.is_empty() => Ok(spatial),
        _ => Err(Halt::shape(format!("the operand must be [N, C, ..spatial], not {shape:?}"))),
    }
}
