//! The names of fused groups: `Conv_BatchNorm_Relu`, and the same in the words of TensorFlow's remapper.

use crate::graph::{ModelOp, ModelOps};

/// Operations that are named; the others are counted.
const NAMED: usize = 3;

/// `Conv_BatchNorm_SiLU_+3more`.
pub fn name(kinds: &[&str]) -> String {
    let mut name = kinds.iter().take(NAMED).copied().collect::<Vec<_>>().join("_");
    if kinds.len() > NAMED {
        name += &format!("_+{}more", kinds.len() - NAMED);
    }
    name
}

/// `Fuse Conv2D with BatchNorm and Relu: batch_norm=bn1 activation=relu conv2d=conv1`. `None` for fewer than two
/// operations. Names are those of the model, as they are.
pub fn remapper(ops: &ModelOps, group: &[&ModelOp]) -> Option<String> {
    if group.len() < 2 {
        return None;
    }
    let root = group.iter().position(|op| is_contraction(op.kind)).unwrap_or(0);
    let rest: Vec<&ModelOp> =
        group.iter().enumerate().filter(|(i, _)| *i != root).map(|(_, op)| *op).collect();
    let word = |op: &ModelOp| word(ops, op);
    let mut words: Vec<String> = rest.iter().take(NAMED).map(|op| word(op)).collect();
    if rest.len() > NAMED {
        words.push(format!("{} more", rest.len() - NAMED));
    }
    let list = match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, first)) => format!("{} and {last}", first.join(", ")),
        None => String::new(),
    };
    let named = rest.iter().take(NAMED).chain(std::iter::once(&group[root]));
    let named: Vec<String> = named.map(|op| format!("{}={}", part(&word(op)), op.name)).collect();
    Some(format!("Fuse {} with {list}: {}", word(group[root]), named.join(" ")))
}

/// Whether the remapper fuses other operations into this one.
fn is_contraction(kind: &str) -> bool {
    matches!(kind, "Conv" | "DepthwiseConv" | "MatMul" | "Gemm")
}

/// TensorFlow's name of an operation.
fn word(ops: &ModelOps, op: &ModelOp) -> String {
    let rank = op.inputs.first().map_or(0, |v| ops.values[*v].shape.len());
    match (op.kind, rank) {
        ("Conv", 3) => "Conv1D",
        ("Conv", 5) => "Conv3D",
        ("Conv", _) => "Conv2D",
        ("DepthwiseConv", _) => "DepthwiseConv2dNative",
        ("MatMul", 3..) => "BatchMatMul",
        ("Gemm", _) => "MatMul",
        ("SiLU", _) => "Swish",
        ("GlobalAveragePool" | "ReduceMean", _) => "Mean",
        ("GlobalMaxPool" | "ReduceMax", _) => "Max",
        ("ReduceSum", _) => "Sum",
        ("AveragePool", _) => "AvgPool",
        ("Concat", _) => "ConcatV2",
        ("Where", _) => "SelectV2",
        (kind, _) => kind,
    }
    .to_owned()
}

/// The role of an operation in the remapper's list of what it matched.
fn part(word: &str) -> String {
    match word {
        "BatchNorm" => "batch_norm".to_owned(),
        "BiasAdd" => "bias_add".to_owned(),
        "Relu" | "Relu6" | "LeakyRelu" | "Elu" | "Swish" | "HardSwish" | "Sigmoid" | "Tanh" | "Gelu"
        | "GeluTanh" | "Mish" => "activation".to_owned(),
        other => other.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use nestjit_ir::DType;

    use super::*;
    use crate::graph::{ModelValue, OperandAccess, ValueSource};

    #[test]
    fn long_groups_are_shortened() {
        assert_eq!(name(&["Relu"]), "Relu");
        assert_eq!(name(&["Conv", "BatchNorm", "SiLU"]), "Conv_BatchNorm_SiLU");
        assert_eq!(name(&["Conv", "BatchNorm", "SiLU", "Mul", "Add"]), "Conv_BatchNorm_SiLU_+2more");
        assert_eq!(name(&[]), "");
    }

    #[test]
    fn the_remapper_names_the_contraction_first() {
        let shape = vec![1, 3, 8, 8];
        let source = ValueSource::Input;
        let x = ModelValue { name: "x".to_owned(), dtype: DType::F32, shape, source, output: false };
        let op = |name: &str, kind| ModelOp {
            name: name.to_owned(),
            kind,
            inputs: vec![0],
            outputs: vec![],
            access: OperandAccess::Whole,
            kept: 0,
            nodes: vec![],
        };
        let list =
            [op("pad", "Pad"), op("c", "Conv"), op("bn", "BatchNorm"), op("r", "Relu"), op("a", "Add")];
        let ops = ModelOps { ops: vec![], values: vec![x], folded: 0 };
        let of = |range: std::ops::Range<usize>| remapper(&ops, &list[range].iter().collect::<Vec<_>>());
        assert_eq!(of(0..1), None);
        let conv = "Fuse Conv2D with BatchNorm and Relu: batch_norm=bn activation=r conv2d=c";
        assert_eq!(of(1..4).as_deref(), Some(conv));
        let all =
            "Fuse Conv2D with Pad, BatchNorm, Relu and 1 more: pad=pad batch_norm=bn activation=r conv2d=c";
        assert_eq!(of(0..5).as_deref(), Some(all));
        assert_eq!(of(3..5).as_deref(), Some("Fuse Relu with Add: add=a activation=r"));
    }
}
