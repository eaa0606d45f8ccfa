//! What convolutions, pooling and matrix products can be told, with defaults.

use crate::error::{Error, Result};
use crate::graph::{Format, Window};

/// How a window treats the border.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Padding {
    /// No padding.
    #[default]
    Valid,
    /// As much as makes the result `ceil(input / stride)`; an odd element goes after the last.
    Same,
    /// As [`Padding::Same`], but an odd element goes before the first.
    SameLower,
    /// So many elements before and after each spatial dimension.
    Explicit {
        /// Elements before the first.
        begin: Vec<usize>,
        /// Elements after the last.
        end: Vec<usize>,
    },
}

impl Padding {
    /// The same padding before and after each spatial dimension.
    pub fn symmetric(pads: &[usize]) -> Padding {
        Padding::Explicit { begin: pads.to_vec(), end: pads.to_vec() }
    }
}

/// What a convolution can be told. Empty lists stand for ones.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Conv {
    /// Steps between windows.
    pub strides: Vec<usize>,
    /// Distances between elements of a window.
    pub dilations: Vec<usize>,
    /// Padding.
    pub padding: Padding,
    /// The number of groups.
    pub groups: usize,
    /// Where the channels are.
    pub format: Format,
}

impl Default for Conv {
    fn default() -> Conv {
        Conv {
            strides: Vec::new(),
            dilations: Vec::new(),
            padding: Padding::Valid,
            groups: 1,
            format: Format::ChannelsFirst,
        }
    }
}

/// What a convolution over two spatial dimensions can be told: [`Conv`] without the lists.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Conv2d {
    /// Steps between windows.
    pub stride: [usize; 2],
    /// Distances between elements of a window.
    pub dilation: [usize; 2],
    /// Padding.
    pub padding: Padding,
    /// The number of groups.
    pub groups: usize,
    /// Where the channels are.
    pub format: Format,
}

impl Default for Conv2d {
    fn default() -> Conv2d {
        Conv2d {
            stride: [1, 1],
            dilation: [1, 1],
            padding: Padding::Valid,
            groups: 1,
            format: Format::ChannelsFirst,
        }
    }
}

impl From<Conv2d> for Conv {
    fn from(conv: Conv2d) -> Conv {
        Conv {
            strides: conv.stride.to_vec(),
            dilations: conv.dilation.to_vec(),
            padding: conv.padding,
            groups: conv.groups,
            format: conv.format,
        }
    }
}

/// What pooling can be told.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Pool {
    /// Extents of the window.
    pub kernel: Vec<usize>,
    /// Steps between windows; empty: the kernel's extents.
    pub strides: Vec<usize>,
    /// Distances between elements of a window; empty: ones.
    pub dilations: Vec<usize>,
    /// Padding.
    pub padding: Padding,
    /// Whether the last window may end beyond the padding.
    pub ceil_mode: bool,
    /// For averages, whether padding counts.
    pub count_include_pad: bool,
    /// Where the channels are.
    pub format: Format,
}

impl Pool {
    /// Windows side by side.
    pub fn new(kernel: &[usize]) -> Pool {
        Pool { kernel: kernel.to_vec(), ..Pool::default() }
    }
}

/// What a matrix product can be told; see [`crate::graph::Op::Gemm`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Gemm {
    /// Factor of the product.
    pub alpha: f64,
    /// Factor of the addend.
    pub beta: f64,
    /// Whether the left operand is given transposed.
    pub trans_a: bool,
    /// Whether the right operand is given transposed.
    pub trans_b: bool,
}

impl Default for Gemm {
    fn default() -> Gemm {
        Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: false }
    }
}

/// The window over `shape` with explicit padding.
///
/// Fails only if padding depends on attributes that inference would reject.
pub(super) fn window(
    shape: &[usize],
    format: Format,
    kernel: &[usize],
    strides: &[usize],
    dilations: &[usize],
    padding: &Padding,
) -> Result<Window> {
    let ones_unless = |list: &[usize]| if list.is_empty() { vec![1; kernel.len()] } else { list.to_vec() };
    let strides = ones_unless(strides);
    let dilations = ones_unless(dilations);
    let (pads_begin, pads_end) = match padding {
        Padding::Valid => (vec![0; kernel.len()], vec![0; kernel.len()]),
        Padding::Explicit { begin, end } => (begin.clone(), end.clone()),
        Padding::Same | Padding::SameLower => {
            let spatial = shape.get(format.first_spatial()..).unwrap_or_default();
            let spatial = &spatial[..spatial.len().min(shape.len().saturating_sub(2))];
            let total = same_padding(spatial, kernel, &strides, &dilations)?;
            let smaller: Vec<usize> = total.iter().map(|t| t / 2).collect();
            let larger: Vec<usize> = total.iter().map(|t| t - t / 2).collect();
            if *padding == Padding::Same { (smaller, larger) } else { (larger, smaller) }
        }
    };
    Ok(Window { kernel: kernel.to_vec(), strides, dilations, pads_begin, pads_end })
}

/// How much padding makes each result `ceil(input / stride)`.
fn same_padding(
    spatial: &[usize],
    kernel: &[usize],
    strides: &[usize],
    dilations: &[usize],
) -> Result<Vec<usize>> {
    let lists = [("kernel", kernel), ("strides", strides), ("dilations", dilations)];
    for (name, list) in lists {
        if list.len() != spatial.len() || list.contains(&0) {
            return Err(Error::invalid(format!(
                "the {name} {list:?} must have an entry of at least 1 for each of {} spatial dimensions",
                spatial.len()
            )));
        }
    }
    let total = |d: usize| {
        let reach = (kernel[d] - 1).checked_mul(dilations[d])?.checked_add(1)?;
        let windows = spatial[d].div_ceil(strides[d]);
        let covered = windows.saturating_sub(1).checked_mul(strides[d])?.checked_add(reach)?;
        Some(covered.saturating_sub(spatial[d]))
    };
    let totals: Option<Vec<usize>> = (0..spatial.len()).map(total).collect();
    totals.ok_or_else(|| {
        Error::new(crate::ErrorKind::Limit, "the window is larger than the address space".to_owned())
    })
}
