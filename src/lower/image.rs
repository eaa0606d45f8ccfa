//! Indexing image-like tensors: where batch, channels and spatial dimensions are in each [`Format`].

use std::ops::Range;

use nestjit_ir::{Affine, Var};

use super::context::Loop;
use crate::graph::{Format, Window};

/// The spatial dimensions of a tensor of this rank.
pub(super) fn spatial_dims(format: Format, rank: usize) -> Range<usize> {
    format.first_spatial()..format.first_spatial() + rank - 2
}

/// Names of `count` spatial loops: `h`, `w` (after `prefix`) where there are two, numbers beyond three.
pub(super) fn spatial_names(prefix: &str, count: usize) -> Vec<String> {
    if count > 3 {
        return (0..count).map(|d| format!("{prefix}s{d}")).collect();
    }
    ["d", "h", "w"][3 - count..].iter().map(|name| format!("{prefix}{name}")).collect()
}

/// Loops over spatial extents.
pub(super) fn spatial_loops(prefix: &str, extents: &[usize]) -> Vec<Loop> {
    spatial_names(prefix, extents.len()).into_iter().zip(extents.iter().copied()).collect()
}

/// The index of an element.
pub(super) fn image_index(
    format: Format,
    sample: impl Into<Affine>,
    channel: impl Into<Affine>,
    spatial: impl IntoIterator<Item = Affine>,
) -> Vec<Affine> {
    let mut index = vec![sample.into()];
    match format {
        Format::ChannelsFirst => {
            index.push(channel.into());
            index.extend(spatial);
        }
        Format::ChannelsLast => {
            index.extend(spatial);
            index.push(channel.into());
        }
    }
    index
}

/// Loops over the elements of an image-like tensor in memory order; the channel may be several loops.
pub(super) struct ImageLoops {
    pub loops: Vec<Loop>,
    channels: Range<usize>,
    spatial: Range<usize>,
}

impl ImageLoops {
    pub fn new(format: Format, samples: usize, channels: Vec<Loop>, spatial: Vec<Loop>) -> ImageLoops {
        let (c, s) = (channels.len(), spatial.len());
        let mut loops = vec![("n".to_owned(), samples)];
        let (channel_range, spatial_range) = match format {
            Format::ChannelsFirst => {
                loops.extend(channels);
                loops.extend(spatial);
                (1..1 + c, 1 + c..1 + c + s)
            }
            Format::ChannelsLast => {
                loops.extend(spatial);
                loops.extend(channels);
                (1 + s..1 + s + c, 1..1 + s)
            }
        };
        ImageLoops { loops, channels: channel_range, spatial: spatial_range }
    }

    /// The variables of the channel loops.
    pub fn channels<'v>(&self, vars: &'v [Var]) -> &'v [Var] {
        &vars[self.channels.clone()]
    }

    /// The variables of the spatial loops.
    pub fn spatial<'v>(&self, vars: &'v [Var]) -> &'v [Var] {
        &vars[self.spatial.clone()]
    }
}

/// The spatial index that window element `k` of window `o` reads.
pub(super) fn window_index(window: &Window, o: &[Var], k: &[Var]) -> Vec<Affine> {
    (0..o.len())
        .map(|d| {
            let (stride, dilation) = (window.strides[d] as i64, window.dilations[d] as i64);
            o[d] * stride + k[d] * dilation - window.pads_begin[d] as i64
        })
        .collect()
}

/// Whether every window lies within the tensor, so that no padding is ever read.
pub(super) fn windows_inside(window: &Window, input: &[usize], output: &[usize]) -> bool {
    (0..input.len()).all(|d| {
        let last = output[d].saturating_sub(1).saturating_mul(window.strides[d]);
        let reach = (window.kernel[d] - 1).saturating_mul(window.dilations[d]);
        window.pads_begin[d] == 0 && last.saturating_add(reach) < input[d]
    })
}
