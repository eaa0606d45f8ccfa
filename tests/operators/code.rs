//! What became of an operator: vector code or scalar code, and why.

use nestjit::ir::visit::{walk_exprs, work};
use nestjit::ir::{Expr, LoopKind, Program, Role, Stmt};
use nestjit::machine::Isa;
use nestjit::onnx::{OnnxModel, OpEntry, Specialization};
use nestjit::remark::{Reason, Vectors};
use nestjit::report::sentence::{refused, scalar};
use nestjit::{Compiler, DType, Executable};

use super::example::Example;

/// The share of the innermost statements that may run outside of vector loops.
const SHARE: f64 = 0.05;
/// With fewer innermost statements, there is nothing to judge.
const FEW: f64 = 256.0;

/// What became of an operator, from best to worst.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Code {
    /// It runs too little to be judged, or was computed at compile time.
    Little,
    /// Vector loops, but for a small share.
    Vector,
    /// A function of the runtime.
    Call,
    /// Scalar loops, for this reason.
    Scalar(String),
}

impl Code {
    /// That of an example in a version of its operator set, for a type that it is imported with.
    pub fn of(example: &Example, entry: &OpEntry, version: i64, dtype: DType) -> Result<Code, String> {
        let (model, _) = example.model(entry.domain, version, dtype);
        let graph = OnnxModel::from_proto(model).and_then(|m| m.graph(&Specialization::default()));
        let executable = graph.and_then(|graph| {
            // What every machine can compile for, whatever it has.
            Compiler::new().threads(1).isa(Isa::Simd128).compile(&graph.into())
        });
        Ok(Code::of_executable(&executable.map_err(|e| format!("the large form: {e}"))?))
    }

    fn of_executable(executable: &Executable) -> Code {
        let nests = &executable.program().nests;
        if nests.iter().flat_map(|nest| &nest.body).any(|s| matches!(s, Stmt::Call(_))) {
            return Code::Call;
        }
        if !nests.iter().any(|nest| reads_an_input(executable.program(), &nest.body)) {
            return Code::Little;
        }
        let (mut steps, mut scalar, mut worst) = (0.0, 0.0, (0.0, 0));
        for (i, nest) in nests.iter().enumerate() {
            let all = work(&nest.body) as f64;
            // Kernels may have scalar statements as well.
            let outside = executable.scalar_steps(i).max(all - in_vector_loops(&nest.body));
            (steps, scalar) = (steps + all, scalar + outside);
            if outside > worst.0 {
                worst = (outside, i);
            }
        }
        match steps {
            steps if steps < FEW => Code::Little,
            steps if scalar <= SHARE * steps => Code::Vector,
            _ => Code::Scalar(reason(executable, worst.1)),
        }
    }
}

/// Whether statements read what comes with a run.
fn reads_an_input(program: &Program, body: &[Stmt]) -> bool {
    let mut found = false;
    walk_exprs(body, &mut |e| {
        found |= matches!(e, Expr::Load(l) if program.buf(l.buf).role == Role::In);
    });
    found
}

/// How often innermost statements run in vector loops.
fn in_vector_loops(body: &[Stmt]) -> f64 {
    let of = |s: &Stmt| match s {
        Stmt::For(l) if l.kind == LoopKind::Vector => l.extent as f64 * work(&l.body) as f64,
        Stmt::For(l) => l.extent as f64 * in_vector_loops(&l.body),
        Stmt::Temp(_) | Stmt::Store(_) | Stmt::Reduce(_) | Stmt::Call(_) => 0.0,
    };
    body.iter().map(of).sum()
}

/// Why a nest is scalar: what Vectorize says of it, or code generation.
fn reason(executable: &Executable, nest: usize) -> String {
    let name = &executable.program().nests[nest].name;
    let remarks = executable
        .remarks()
        .iter()
        .filter(|r| r.pass() == "Vectorize" && r.producer(executable.program()) == *name);
    let mut declined = remarks.filter_map(|r| match r.reason {
        Reason::Vectors(Vectors::None(why)) => Some(scalar(why)),
        _ => None,
    });
    let declined = declined.next_back();
    let loops = executable.scalar_loops(nest).iter().max_by(|a, b| a.steps.total_cmp(&b.steps));
    let why = declined.or(loops.map(|l| refused(l.why)));
    why.unwrap_or("short loops, or statements between vector loops").to_owned()
}
