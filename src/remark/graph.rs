//! What graph passes say of nodes.

/// What became of a contraction with quantised operands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Integers {
    /// It multiplies 8-bit integers.
    Multiplied,
    /// It multiplies integers that `f32` holds exactly.
    ExactFloats,
    /// It takes weights of four bits out of their bytes.
    Packed,
    /// This value is no 8-bit integer with a zero point and a scale.
    FloatOperand {
        /// The name of the value.
        value: String,
    },
    /// A scale or zero point varies along what is summed up.
    ScaleAlongSum {
        /// The name of the scale or zero point.
        value: String,
        /// Its shape, aligned to that of the operand.
        shape: Vec<usize>,
        /// The dimension.
        axis: usize,
    },
    /// Padding stands for a zero point that need not be a byte.
    PaddedZeroPoint,
    /// The product of the scales is infinite or no number.
    Scale,
    /// Nothing is known of a zero point.
    UnknownZeroPoint,
    /// Sums could leave 32 bits.
    SumOverflow {
        /// How many products are added up.
        terms: usize,
    },
}

/// Why a node whose operands are constant is not computed at compile time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NotFolded {
    /// The result is much larger.
    Larger {
        /// The bytes of the result.
        result: usize,
        /// The bytes of the operands.
        operands: usize,
    },
    /// Computing it is an error.
    Fails {
        /// What the error says.
        error: String,
    },
}

/// Where a BatchNorm went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BatchNorm {
    /// Into the weights of this node.
    Folded {
        /// Its name.
        into: String,
    },
    /// Nowhere.
    Kept(KeptNorm),
}

/// Why a BatchNorm is not folded into weights.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeptNorm {
    /// What it normalises is used elsewhere.
    Shared,
    /// The weights or the bias before it are not constant.
    DynamicWeights,
    /// It does not follow a convolution or a matrix product.
    NoWeights,
    /// The weights are halves that are read too seldom for being widened.
    HalfWeights,
}
