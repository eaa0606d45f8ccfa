//! What is tried with a model that may be anything, and what must not come of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, Once};

use nestjit::graph::Graph;
use nestjit::onnx::{Dim, Imported, OnnxModel, Specialization};
use nestjit::{Compiler, DType, Error, ErrorKind, Model, Tensor};

use super::allocator;
use super::common::compare::to_f64;

/// What an attempt may take: several of the largest tables that an import makes.
pub const MEMORY: usize = 4 << 30;

/// The largest values of a model that is compiled and run after a mutation: larger ones are legitimate, but slow.
const ELEMENTS: usize = 1 << 14;

/// How far a model came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// An error, which says what is wrong.
    Refused,
    /// A graph, which was too large to be run in a test.
    Imported,
    /// Outputs.
    Ran,
}

/// Panics: the names of threads, and what they say.
static PANICS: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());
static HOOK: Once = Once::new();

fn thread_name() -> String {
    std::thread::current().name().unwrap_or_default().to_owned()
}

/// The result, or how it panicked; panics of threads that nestjit starts count, too.
pub fn without_panic<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    HOOK.call_once(|| {
        let default = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.lock().unwrap_or_else(|e| e.into_inner()).push((thread_name(), info.to_string()));
            default(info);
        }));
    });
    let result = catch_unwind(AssertUnwindSafe(f));
    let here = thread_name();
    // The threads of other tests are named after them, `module::test`.
    let ours = |(thread, _): &mut (String, String)| *thread == here || !thread.contains("::");
    let mut all = PANICS.lock().unwrap_or_else(|e| e.into_inner());
    let panics: Vec<String> = all.extract_if(.., ours).map(|(_, text)| text).collect();
    match result {
        Ok(result) if panics.is_empty() => Ok(result),
        _ => Err(format!("panic: {}", panics.join("; "))),
    }
}

/// Imports, compiles and runs. `Err` is a defect of nestjit.
pub fn attempt(model: Result<OnnxModel, Error>, with_code: bool) -> Result<Outcome, String> {
    let (outcome, bytes) = allocator::peak_of(|| without_panic(|| explore(model, with_code)));
    let outcome = outcome?;
    if bytes > MEMORY {
        return Err(format!("{bytes} bytes were taken"));
    }
    match outcome {
        Ok(outcome) => Ok(outcome),
        Err(e) if e.kind() == ErrorKind::Internal => Err(e.to_string()),
        Err(e) if e.message().is_empty() => Err("an error says nothing".to_owned()),
        Err(_) => Ok(Outcome::Refused),
    }
}

fn explore(model: Result<OnnxModel, Error>, with_code: bool) -> Result<Outcome, Error> {
    let Some((graph, inputs)) = specialized(&model?)? else { return Ok(Outcome::Imported) };
    let large = |graph: &Graph| graph.values.iter().any(|v| v.shape.iter().product::<usize>() > ELEMENTS);
    if !with_code || large(&graph) || graph.nodes.len() > 200 {
        return Ok(Outcome::Imported);
    }
    let model = Model::from(graph);
    let fused = Compiler::new().threads(2).compile(&model)?.run(&inputs);
    let unfused = Compiler::new().threads(1).disable_pass("OpFusion").compile(&model)?.run(&inputs);
    match (fused, unfused) {
        (Ok(fused), Ok(unfused)) => agree(&fused, &unfused),
        // An index outside its tensor, for example: both must find it, wherever they do.
        (Err(fused), Err(unfused)) => match fused.kind() == unfused.kind() {
            true => Err(fused),
            false => Err(Error::internal(format!("fused: {fused}; unfused: {unfused}"))),
        },
        (Err(e), Ok(_)) => Err(Error::internal(format!("only fused code fails: {e}"))),
        (Ok(_), Err(e)) => Err(Error::internal(format!("only unfused code fails: {e}"))),
    }
}

/// The graph for small shapes and values wherever the model leaves them open, and inputs for it. `None` if its inputs
/// are large.
fn specialized(model: &OnnxModel) -> Result<Option<(Graph, Vec<Tensor>)>, Error> {
    let mut specialization = Specialization::default();
    let mut inputs = Vec::new();
    for spec in model.inputs() {
        let dims = spec.dims.clone().unwrap_or_else(|| vec![Dim::Fixed(2); 2]);
        let extent = |dim: &Dim| if let Dim::Fixed(extent) = dim { *extent } else { 2 };
        let shape: Vec<usize> = dims.iter().map(extent).collect();
        let elements = shape.iter().try_fold(1usize, |product, n| product.checked_mul(*n));
        if elements.is_none_or(|n| n > ELEMENTS) {
            // Only to see that it is refused, or goes through.
            return model.import(&specialization).map(|_| None);
        }
        inputs.push(values(spec.dtype, &shape)?);
        specialization.shapes.insert(spec.name.clone(), shape);
    }
    loop {
        match model.import(&specialization)? {
            Imported::Graph(graph) => return Ok(Some((graph, inputs))),
            Imported::NeedsValues(names) => {
                for name in names {
                    let at = model.inputs().iter().position(|i| i.name == name);
                    let value = at.map(|at| inputs[at].clone());
                    let value = value.ok_or_else(|| Error::internal(format!("no input is '{name}'")))?;
                    if specialization.values.insert(name.clone(), value).is_some() {
                        return Err(Error::internal(format!("'{name}' is asked for again")));
                    }
                }
            }
        }
    }
}

/// Floats in `-1..1`, integers from -1 to 2: indices and extents, some of them wrong.
fn values(dtype: DType, shape: &[usize]) -> Result<Tensor, Error> {
    let n: usize = shape.iter().product();
    let small = |i: usize| (i * 7 + 2) % 4;
    match dtype {
        DType::I64 => Tensor::new(shape, &(0..n).map(|i| small(i) as i64 - 1).collect::<Vec<_>>()),
        DType::I32 => Tensor::new(shape, &(0..n).map(|i| small(i) as i32 - 1).collect::<Vec<_>>()),
        DType::Bool => Tensor::new(shape, &(0..n).map(|i| i % 2 == 0).collect::<Vec<_>>()),
        DType::F32 | DType::F64 | DType::F16 | DType::BF16 => Tensor::random(dtype, shape, 1),
        DType::I16 | DType::I8 | DType::U64 | DType::U32 | DType::U16 | DType::U8 => {
            Tensor::random(dtype, shape, 1)
        }
    }
}

/// Whether two results are the same but for rounding. What differs where rounding is amplified is no finding: only
/// NaN, infinities and large differences are looked at, of more than one element in fifty. Where rounding decides between
/// two integers, they are neighbours.
fn agree(a: &[Tensor], b: &[Tensor]) -> Result<Outcome, Error> {
    for (a, b) in a.iter().zip(b) {
        let slack = |x: f64, y: f64| match a.dtype() {
            DType::F32 | DType::F64 => 1e-2 * (1.0 + x.abs().max(y.abs())),
            DType::F16 | DType::BF16 => 1e-1 * (1.0 + x.abs().max(y.abs())),
            DType::I64 | DType::I32 | DType::I16 | DType::I8 => 1.0,
            DType::U64 | DType::U32 | DType::U16 | DType::U8 => 1.0,
            DType::Bool => 0.0,
        };
        let close = |x: f64, y: f64| x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= slack(x, y);
        let is_same = a.shape() == b.shape() && a.dtype() == b.dtype() && {
            let pairs = to_f64(a).into_iter().zip(to_f64(b));
            pairs.filter(|(x, y)| !close(*x, *y)).count() * 50 <= a.len()
        };
        if !is_same {
            return Err(Error::internal(format!("fused and unfused code disagree: {a:?} and {b:?}")));
        }
    }
    Ok(Outcome::Ran)
}
