//! The names of operations in reports and errors: those of ONNX where it has the operation.

use super::{Binary, Op, PoolKind, RecurrentKind, Reduction, Unary};

impl Op {
    /// The name used in reports and errors: that of ONNX where it has the operation.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Unary(u) => u.name(),
            Op::Binary(b) => b.name(),
            Op::Where => "Where",
            Op::Clip { .. } => "Clip",
            Op::Cast { .. } => "Cast",
            Op::Check { .. } => "Check",
            Op::Dropout => "Dropout",
            Op::MatMul => "MatMul",
            Op::Gemm { .. } => "Gemm",
            Op::PackedMatMul { .. } => "PackedMatMul",
            Op::Conv { .. } => "Conv",
            Op::BiasAdd { .. } => "BiasAdd",
            Op::BatchNorm { .. } => "BatchNorm",
            Op::LayerNorm { .. } => "LayerNorm",
            Op::RmsNorm { .. } => "RMSNorm",
            Op::InstanceNorm { .. } => "InstanceNorm",
            Op::GroupNorm { .. } => "GroupNorm",
            Op::Softmax { .. } => "Softmax",
            Op::LogSoftmax { .. } => "LogSoftmax",
            Op::Pool { kind: PoolKind::Max, .. } => "MaxPool",
            Op::Pool { .. } => "AveragePool",
            Op::GlobalPool { kind: PoolKind::Max, .. } => "GlobalMaxPool",
            Op::GlobalPool { .. } => "GlobalAveragePool",
            Op::Reduce { op, .. } => op.name(),
            Op::ArgReduce { max: true, .. } => "ArgMax",
            Op::ArgReduce { .. } => "ArgMin",
            Op::Reshape { .. } => "Reshape",
            Op::Transpose { .. } => "Transpose",
            Op::Slice { .. } => "Slice",
            Op::Pad { .. } => "Pad",
            Op::Concat { .. } => "Concat",
            Op::Split { .. } => "Split",
            Op::Gather { .. } => "Gather",
            Op::Scatter { .. } => "Scatter",
            Op::Expand { .. } => "Expand",
            Op::Recurrent { kind: RecurrentKind::Rnn, .. } => "RNN",
            Op::Recurrent { kind: RecurrentKind::Lstm, .. } => "LSTM",
            Op::Recurrent { .. } => "GRU",
            Op::PairwiseCoupling => "PairwiseCoupling",
            Op::DynamicQuantizeLstm { .. } => "DynamicQuantizeLSTM",
        }
    }
}

impl Reduction {
    /// The name used in reports and errors.
    pub fn name(self) -> &'static str {
        match self {
            Reduction::Sum => "ReduceSum",
            Reduction::Mean => "ReduceMean",
            Reduction::Max => "ReduceMax",
            Reduction::Min => "ReduceMin",
            Reduction::Prod => "ReduceProd",
            Reduction::L1 => "ReduceL1",
            Reduction::L2 => "ReduceL2",
            Reduction::SumSquare => "ReduceSumSquare",
            Reduction::LogSum => "ReduceLogSum",
            Reduction::LogSumExp => "ReduceLogSumExp",
            Reduction::Any => "ReduceAny",
            Reduction::All => "ReduceAll",
        }
    }
}

impl Unary {
    /// The name used in reports and errors.
    pub fn name(self) -> &'static str {
        use Unary::*;
        match self {
            Identity => "Identity",
            Neg => "Neg",
            Abs => "Abs",
            Sign => "Sign",
            Floor => "Floor",
            Ceil => "Ceil",
            Round => "Round",
            Trunc => "Trunc",
            Sqrt => "Sqrt",
            Rsqrt => "Rsqrt",
            Reciprocal => "Reciprocal",
            Square => "Square",
            Exp => "Exp",
            Expm1 => "Expm1",
            Log => "Log",
            Log1p => "Log1p",
            Erf => "Erf",
            Sin => "Sin",
            Cos => "Cos",
            Tan => "Tan",
            Asin => "Asin",
            Acos => "Acos",
            Atan => "Atan",
            Sinh => "Sinh",
            Cosh => "Cosh",
            Asinh => "Asinh",
            Acosh => "Acosh",
            Atanh => "Atanh",
            Not => "Not",
            BitNot => "BitwiseNot",
            IsNan => "IsNaN",
            IsInf => "IsInf",
            Relu => "Relu",
            Relu6 => "Relu6",
            LeakyRelu { .. } => "LeakyRelu",
            Elu { .. } => "Elu",
            Celu { .. } => "Celu",
            Selu { .. } => "Selu",
            Sigmoid => "Sigmoid",
            Tanh => "Tanh",
            Silu => "SiLU",
            HardSigmoid { .. } => "HardSigmoid",
            Affine { .. } => "Affine",
            ScaledTanh { .. } => "ScaledTanh",
            HardSwish => "HardSwish",
            GeluErf => "Gelu",
            GeluTanh => "GeluTanh",
            Mish => "Mish",
            Softplus => "Softplus",
            Softsign => "Softsign",
            ThresholdedRelu { .. } => "ThresholdedRelu",
            Shrink { .. } => "Shrink",
        }
    }
}

impl Binary {
    /// The name used in reports and errors.
    pub fn name(self) -> &'static str {
        use Binary::*;
        match self {
            Add => "Add",
            Sub => "Sub",
            Mul => "Mul",
            Div => "Div",
            Rem => "Rem",
            Mod => "Mod",
            Pow => "Pow",
            Max => "Max",
            Min => "Min",
            Atan2 => "Atan2",
            Eq => "Equal",
            Ne => "NotEqual",
            Lt => "Less",
            Le => "LessOrEqual",
            Gt => "Greater",
            Ge => "GreaterOrEqual",
            And => "And",
            Or => "Or",
            Xor => "Xor",
            Shl => "ShiftLeft",
            Shr => "ShiftRight",
            PRelu => "PRelu",
        }
    }
}
