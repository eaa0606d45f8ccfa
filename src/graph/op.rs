//! The operations of a [`super::Graph`]. Operands, results and attributes of each are stated here; shapes are
//! computed by `infer`, values by `eval` (the oracle) and by lowering.
//!
//! `N` is the batch dimension, `C` the channels, `S1..Sk` the spatial dimensions (any number of them).

use nestjit_ir::{CheckKind, DType};

mod function;

pub use self::function::{Binary, Unary};

/// The most steps of an [`Op::PairwiseCoupling`].
pub const COUPLING_STEPS: usize = 100;

/// Where the channels of an image-like tensor are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Format {
    /// `[N, C, S1, .., Sk]`.
    #[default]
    ChannelsFirst,
    /// `[N, S1, .., Sk, C]`.
    ChannelsLast,
}

impl Format {
    /// The channel dimension of a tensor of this rank.
    pub fn channel_axis(self, rank: usize) -> usize {
        match self {
            Format::ChannelsFirst => 1,
            Format::ChannelsLast => rank - 1,
        }
    }

    /// The first spatial dimension.
    pub fn first_spatial(self) -> usize {
        match self {
            Format::ChannelsFirst => 2,
            Format::ChannelsLast => 1,
        }
    }
}

/// How a reduction combines values.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(
    missing_docs,
    reason = "each is the function it is named after; formulas are given where names are not enough"
)]
#[non_exhaustive]
pub enum Reduction {
    Sum,
    Mean,
    Max,
    Min,
    Prod,
    /// `sum(|x|)`.
    L1,
    /// `sqrt(sum(x^2))`.
    L2,
    SumSquare,
    LogSum,
    /// `log(sum(exp(x)))`, computed without overflow.
    LogSumExp,
    /// On `bool`.
    Any,
    /// On `bool`.
    All,
}

/// Padding, strides and dilations of a window that slides over `k` spatial dimensions.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Window {
    /// Extents of the window; for convolutions they are the weight's.
    pub kernel: Vec<usize>,
    /// Steps between windows, at least 1.
    pub strides: Vec<usize>,
    /// Distances between elements of a window, at least 1.
    pub dilations: Vec<usize>,
    /// Padding before the first element of each spatial dimension.
    pub pads_begin: Vec<usize>,
    /// Padding after the last element of each spatial dimension.
    pub pads_end: Vec<usize>,
}

/// What a pooling window computes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum PoolKind {
    /// The largest element; padding never wins.
    Max,
    /// The mean; padding counts as zeros if `count_include_pad`, not at all otherwise.
    Average {
        /// Whether padding counts.
        count_include_pad: bool,
    },
}

/// What [`Op::Pad`] writes around a tensor.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum PadMode {
    /// This value (converted to the tensor's type).
    Constant(f64),
    /// The tensor mirrored at its border, the border itself not repeated; as often as it takes.
    Reflect,
    /// The border element.
    Edge,
    /// The tensor again, from its other end; as often as it takes.
    Wrap,
}

/// The kind of a recurrent layer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RecurrentKind {
    /// `h' = f(x W + h R + b)`; one gate.
    Rnn,
    /// Gates in the order input, output, forget, cell (ONNX).
    Lstm,
    /// Gates in the order update, reset, hidden (ONNX).
    Gru {
        /// Whether the reset gate applies after the recurrent product (as in cuDNN and PyTorch).
        linear_before_reset: bool,
    },
}

impl RecurrentKind {
    /// The number of gates.
    pub fn gates(self) -> usize {
        match self {
            RecurrentKind::Rnn => 1,
            RecurrentKind::Lstm => 4,
            RecurrentKind::Gru { .. } => 3,
        }
    }
}

/// In which order a sequence is read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Direction {
    /// First to last.
    #[default]
    Forward,
    /// Last to first.
    Reverse,
    /// Both, with weights of their own.
    Bidirectional,
}

impl Direction {
    /// 1, or 2 if bidirectional.
    pub fn count(self) -> usize {
        if self == Direction::Bidirectional { 2 } else { 1 }
    }
}

/// An operation.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Op {
    /// `x -> y`, elementwise.
    Unary(Unary),
    /// `a, b -> y`, elementwise with broadcasting; both have one type.
    Binary(Binary),
    /// `condition, a, b -> y`, elementwise with broadcasting.
    Where,
    /// `x -> y`: `min(max(x, min), max)`; NaN stays NaN.
    Clip {
        /// The lower bound, if there is one.
        min: Option<f64>,
        /// The upper bound, if there is one.
        max: Option<f64>,
    },
    /// `x -> y` with elements converted as [`nestjit_ir::Expr::Cast`] does.
    Cast {
        /// The new type.
        to: DType,
    },
    /// `x -> x`, elementwise on `i64`: a run in which an element is outside `low..high` ends with an error that names
    /// the operation and the element. It stands where a value that comes with the run (a length, a position, an index)
    /// must be possible.
    Check {
        /// What the elements are. Indices counted from the end are those of a dimension of extent `high`, `low` is 0,
        /// and the result is counted from the start.
        kind: CheckKind,
        /// The least value allowed.
        low: i64,
        /// One more than the largest value allowed.
        high: i64,
        /// The model's name for the tensor that is checked.
        input: String,
    },
    /// `x -> x`, elementwise nothing: inference-time dropout.
    Dropout,
    /// `a, b -> y`: NumPy's matmul, with broadcast batch dimensions and 1-D operands. Both have one type, which `y` has
    /// too; or each is `i8` or `u8` and `y` is `i32`: products and sums are those of `i32`. Integers wrap.
    MatMul,
    /// `a, b[, c] -> y`: `alpha * op(a) op(b) + beta * c`, with `c` broadcast to `[M, N]`. Types as for
    /// [`Op::MatMul`], `c` being of the result's; integers take no factors but 1.
    Gemm {
        /// Factor of the product.
        alpha: f64,
        /// Factor of `c`.
        beta: f64,
        /// Whether `a` is `[K, M]`.
        trans_a: bool,
        /// Whether `b` is `[N, K]`.
        trans_b: bool,
    },
    /// `x, q, scale[, zero] -> y`: the product of `x`, `[.., K]`, and the matrix that integers of few bits stand for,
    /// `[.., N]`. In `q`, `u8`, `[N, blocks, block * bits / 8]`, those of a column lie one behind the other along K, the
    /// first in the lowest bits of a byte; so many make a block, of which the last may be filled up. `scale` is
    /// `[blocks, N]`, of the floating-point type of `x` and `y`; `zero` is, too, or it is `u8`, and without it zero points
    /// are the middle of the range, `2^(bits - 1)`. The matrix is `(q - zero) * scale`. Factors of a block are added up,
    /// and the sum is scaled.
    PackedMatMul {
        /// Bits of an integer: 2, 4 or 8.
        bits: usize,
        /// Integers of a block, which fill whole bytes.
        block: usize,
    },
    /// `x, weight[, bias] -> y`. The weight is `[Co, Ci / groups, k1, .., kk]` whatever the format; the bias
    /// is `[Co]`. Types as for [`Op::MatMul`], the bias being of the result's.
    Conv {
        /// Padding, strides, dilations; `window.kernel` repeats the weight's extents.
        window: Window,
        /// The number of groups; divides `Ci` and `Co`.
        groups: usize,
        /// The format of `x` and `y`.
        format: Format,
        /// What is read beyond the edges of `x`: 0, or, if `x` is `i8` or `u8`, any value of that type, such as the one
        /// that stands for 0 in a quantised tensor.
        pad_value: i16,
    },
    /// `x, bias -> y`: adds a `[shape[axis]]` vector along `axis`.
    BiasAdd {
        /// The dimension that the bias indexes.
        axis: usize,
    },
    /// `x, scale, bias, mean, variance -> y`, all `[C]`: `(x - mean) / sqrt(variance + epsilon) * scale + bias`.
    BatchNorm {
        /// Added to the variance.
        epsilon: f64,
        /// The format of `x` and `y`.
        format: Format,
    },
    /// `x, scale[, bias] -> y`: normalised over the dimensions from `axis` on; scale and bias broadcast to
    /// `shape[axis..]`.
    LayerNorm {
        /// The first normalised dimension.
        axis: usize,
        /// Added to the variance.
        epsilon: f64,
    },
    /// `x, scale -> y`: `x / sqrt(mean(x^2) + epsilon) * scale` over the dimensions from `axis` on.
    RmsNorm {
        /// The first normalised dimension.
        axis: usize,
        /// Added to the mean square.
        epsilon: f64,
    },
    /// `x, scale, bias -> y`, `[C]` each: normalised over the spatial dimensions of each sample and channel.
    InstanceNorm {
        /// Added to the variance.
        epsilon: f64,
        /// The format of `x` and `y`.
        format: Format,
    },
    /// `x, scale, bias -> y`, `[C]` each: normalised over the spatial dimensions and `C / groups` channels.
    GroupNorm {
        /// The number of groups; divides `C`.
        groups: usize,
        /// Added to the variance.
        epsilon: f64,
        /// The format of `x` and `y`.
        format: Format,
    },
    /// `x -> y`: `exp(x - max) / sum(exp(x - max))` along one dimension.
    Softmax {
        /// The dimension.
        axis: usize,
    },
    /// `x -> y`: `x - max - log(sum(exp(x - max)))` along one dimension.
    LogSoftmax {
        /// The dimension.
        axis: usize,
    },
    /// `x -> y`, a window over the spatial dimensions.
    Pool {
        /// What is computed.
        kind: PoolKind,
        /// Extents, padding, strides, dilations.
        window: Window,
        /// Whether the last window may start within the tensor and end beyond its padding.
        ceil_mode: bool,
        /// The format of `x` and `y`.
        format: Format,
    },
    /// `x -> y`, all spatial dimensions reduced to 1.
    GlobalPool {
        /// What is computed.
        kind: PoolKind,
        /// The format of `x` and `y`.
        format: Format,
    },
    /// `x -> y`.
    Reduce {
        /// How values are combined.
        op: Reduction,
        /// The dimensions reduced, ascending, no doubles; empty reduces nothing.
        axes: Vec<usize>,
        /// Whether they stay with extent 1.
        keep_dims: bool,
    },
    /// `x -> y`, `i64`: the index of the extremum along `axis`.
    ArgReduce {
        /// Whether the largest is sought, not the smallest.
        max: bool,
        /// The dimension.
        axis: usize,
        /// Whether the dimension stays with extent 1.
        keep_dims: bool,
        /// Whether the last of equal extrema counts, not the first.
        last: bool,
    },
    /// `x -> y`: the same elements in row-major order. Flatten, Squeeze and Unsqueeze are this too.
    Reshape {
        /// The new shape.
        shape: Vec<usize>,
    },
    /// `x -> y`: dimension `i` of `y` is dimension `perm[i]` of `x`.
    Transpose {
        /// A permutation.
        perm: Vec<usize>,
    },
    /// `x -> y`: `y[i] = x[start + i * step]` in each dimension.
    Slice {
        /// The first index of each dimension.
        starts: Vec<usize>,
        /// The extent of each dimension of `y`.
        extents: Vec<usize>,
        /// The step of each dimension; negative steps go backwards.
        steps: Vec<i64>,
    },
    /// `x -> y`. Negative pads remove elements.
    Pad {
        /// Elements added before each dimension.
        begin: Vec<i64>,
        /// Elements added after each dimension.
        end: Vec<i64>,
        /// What they are.
        mode: PadMode,
    },
    /// `x1, x2, .. -> y`.
    Concat {
        /// The dimension along which tensors are joined.
        axis: usize,
    },
    /// `x -> y1, y2, ..`.
    Split {
        /// The dimension that is cut.
        axis: usize,
        /// The extents of the parts.
        sizes: Vec<usize>,
    },
    /// `data, indices -> y`: `data.shape[..axis] + indices.shape + data.shape[axis + 1..]`. Negative indices
    /// count from the end; others outside the dimension are an error at run time. Indices are `i64` or `i32`, or `u8` if
    /// the dimension has 256 elements or more.
    Gather {
        /// The dimension indexed.
        axis: usize,
    },
    /// `data [N, S], indices [M], updates [M, S] -> y [N, S]`: rows of `data` replaced by, or combined with, rows
    /// of `updates`, one after the other. Negative indices count from the end; others outside `N` are an error
    /// at run time.
    Scatter {
        /// How rows are combined: sum, product, maximum or minimum; `None` replaces.
        reduction: Option<Reduction>,
    },
    /// `x -> y`: broadcast to a shape.
    Expand {
        /// The new shape; each dimension of `x` (aligned at the end) is 1 or equal.
        shape: Vec<usize>,
    },
    /// `x, w, r[, b[, initial_h[, initial_c]]] -> y, y_h[, y_c]`: a recurrent layer, shapes as in ONNX:
    /// `x [T, B, I]`, `w [D, G*H, I]`, `r [D, G*H, H]`, `b [D, 2*G*H]`, `initial_* [D, B, H]`,
    /// `y [T, D, B, H]`, `y_h`, `y_c [D, B, H]`.
    Recurrent {
        /// RNN, LSTM or GRU.
        kind: RecurrentKind,
        /// The extent `H`.
        hidden: usize,
        /// In which order the sequence is read.
        direction: Direction,
        /// Per direction: RNN `f`; LSTM `f, g, h`; GRU `f, g`.
        activations: Vec<Unary>,
        /// Bounds of the gates' arguments: `-clip ..= clip`.
        clip: Option<f64>,
    },
    /// `r -> p`, `[N, C, C]` to `[N, C]`: how probable each of `C` classes is, from how probable each is beside each other
    /// one. `r[n, i, j]`, not 0 for `i` other than `j` and not read for `i` equal to `j`, is the probability of `i` if it is `i`
    /// or `j`. It is what minimises `sum((r[j, i] p[i] - r[i, j] p[j])^2)`, by the iteration of Wu, Lin and Weng (2004), which
    /// ends at an error of `0.005 / C`, or after [`COUPLING_STEPS`] steps.
    PairwiseCoupling,
    /// `x, r, scale, zero[, initial_h[, initial_c]] -> y, y_h, y_c`: an LSTM with a state in 8 bits. `x`,
    /// `[T, B, D * 4*H]`, are the products with the input, biases included, of one direction after the other; `r`,
    /// `[D, 4*H, H]`, is `i8`, `scale` and `zero`, `[D, 4*H]`, are `f32` and `i32`: a recurrent weight is
    /// `(r - zero) * scale`. In each step of a direction the hidden states of all sequences are quantised to `u8` over
    /// the range from the least to the largest of them, to which 0 belongs, and multiplied as integers. Gates, states
    /// and results are those of [`Op::Recurrent`].
    DynamicQuantizeLstm {
        /// The extent `H`.
        hidden: usize,
        /// In which order the sequence is read.
        direction: Direction,
        /// Per direction `f, g, h`.
        activations: Vec<Unary>,
        /// Bounds of the gates' arguments: `-clip ..= clip`.
        clip: Option<f64>,
    },
}
