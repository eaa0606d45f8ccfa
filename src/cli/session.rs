//! What several subcommands do alike: load a model, find its inputs, compile it, time a run.

use std::path::{Path, PathBuf};
use std::time::Instant;

use nestjit::graph::{ValueId, Weights};
use nestjit::{
    Compiler, DType, Error, ErrorKind, Executable, GraphBuilder, Model, Precision, Result, RowRings, Tensor,
    TensorSpec, TensorView, bf16, f16,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::args::{PassArgs, PrecisionArg, Rings};
use super::npy;

/// The pass that merges nests; `bench` and `check` compile without it for comparison.
pub(crate) const FUSION: &str = "OpFusion";

pub(crate) fn inputs_of(model: &Model) -> Vec<TensorSpec> {
    ports(model, &model.graph.inputs)
}

pub(crate) fn outputs_of(model: &Model) -> Vec<TensorSpec> {
    ports(model, &model.graph.outputs)
}

fn ports(model: &Model, ids: &[ValueId]) -> Vec<TensorSpec> {
    let port = |id: &ValueId| {
        let value = model.graph.value(*id);
        TensorSpec { name: value.name.clone(), dtype: value.dtype, shape: value.shape.clone() }
    };
    ids.iter().map(port).collect()
}

/// The tensors of the files given for ports, each checked against its port.
pub(crate) fn named_tensors(
    files: &[(String, PathBuf)],
    what: &str,
    ports: &[TensorSpec],
) -> Result<Vec<Option<Tensor>>> {
    let mut tensors: Vec<Option<Tensor>> = ports.iter().map(|_| None).collect();
    for (name, file) in files {
        let at = port_named(name, what, ports)?;
        let tensor = npy::read(file, ports[at].dtype)?;
        expect_shape(&tensor, file, what, &ports[at])?;
        if tensors[at].replace(tensor).is_some() {
            return Err(Error::usage(format!("{what} '{}' is given twice", name.escape_debug())));
        }
    }
    Ok(tensors)
}

/// Expected outputs and their positions. Those of an `f32` output may be `f64`: a reference that is more exact.
pub(crate) fn expectations(
    files: &[(String, PathBuf)],
    ports: &[TensorSpec],
) -> Result<Vec<(usize, Tensor)>> {
    let read = |(name, file): &(String, PathBuf)| {
        let at = port_named(name, "output", ports)?;
        let tensor = match npy::read(file, ports[at].dtype) {
            Err(e) if ports[at].dtype == DType::F32 && e.kind() == ErrorKind::Shape => {
                npy::read(file, DType::F64).map_err(|_| e)?
            }
            read => read?,
        };
        expect_shape(&tensor, file, "output", &ports[at])?;
        Ok((at, tensor))
    };
    files.iter().map(read).collect()
}

fn port_named(name: &str, what: &str, ports: &[TensorSpec]) -> Result<usize> {
    let names = || ports.iter().map(|port| port.name.as_str());
    names().position(|port| port == name).ok_or_else(|| Error::unknown_name(what, name, "there is", names()))
}

fn expect_shape(tensor: &Tensor, file: &Path, what: &str, port: &TensorSpec) -> Result<()> {
    if tensor.shape() == port.shape {
        return Ok(());
    }
    let (file, found, name) = (npy::show(file), tensor.shape(), port.name.escape_debug());
    let message = format!("{file}: shape {found:?}, but {what} '{name}' has shape {:?}", port.shape);
    Err(Error::shape(message))
}

/// That files are given for inputs that there are, with what these inputs are.
pub(crate) fn expect_inputs(model: &Model, files: &[(String, PathBuf)]) -> Result<()> {
    named_tensors(files, "input", &inputs_of(model)).map(drop)
}

/// The inputs of a run, and the names of those that are random because no file was given.
pub(crate) fn inputs(model: &Model, files: &[(String, PathBuf)]) -> Result<(Vec<Tensor>, Vec<String>)> {
    let ports = inputs_of(model);
    let given = named_tensors(files, "input", &ports)?;
    let mut missing = Vec::new();
    let mut tensors = Vec::new();
    for (i, (port, tensor)) in ports.iter().zip(given).enumerate() {
        if tensor.is_none() {
            missing.push(port.name.clone());
        }
        tensors.push(tensor.map_or_else(|| random(port, i as u64), Ok)?);
    }
    Ok((tensors, missing))
}

/// Seeded values: floats in `-1..1`, integers and truth values 0 or 1 (which index most things).
pub(crate) fn random(port: &TensorSpec, seed: u64) -> Result<Tensor> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let n: usize = port.shape.iter().product();
    let mut bits = |n: usize| (0..n).map(|_| rng.random_range(0..2u8)).collect::<Vec<_>>();
    match port.dtype {
        DType::I64 => Tensor::new(&port.shape, &bits(n).into_iter().map(i64::from).collect::<Vec<_>>()),
        DType::I32 => Tensor::new(&port.shape, &bits(n).into_iter().map(i32::from).collect::<Vec<_>>()),
        DType::I8 | DType::U8 | DType::Bool => Tensor::from_bytes(port.dtype, &port.shape, &bits(n)),
        DType::I16 => Tensor::new(&port.shape, &bits(n).into_iter().map(i16::from).collect::<Vec<_>>()),
        DType::U16 => Tensor::new(&port.shape, &bits(n).into_iter().map(u16::from).collect::<Vec<_>>()),
        DType::U32 => Tensor::new(&port.shape, &bits(n).into_iter().map(u32::from).collect::<Vec<_>>()),
        DType::U64 => Tensor::new(&port.shape, &bits(n).into_iter().map(u64::from).collect::<Vec<_>>()),
        DType::F32 => Weights::new(seed).uniform(&port.shape, -1.0, 1.0),
        DType::F16 => {
            let values: Vec<f16> = (0..n).map(|_| f16::from_f32(rng.random_range(-1.0..1.0f32))).collect();
            Tensor::new(&port.shape, &values)
        }
        DType::BF16 => {
            let values: Vec<bf16> = (0..n).map(|_| bf16::from_f32(rng.random_range(-1.0..1.0f32))).collect();
            Tensor::new(&port.shape, &values)
        }
        DType::F64 => {
            let values: Vec<f64> = (0..n).map(|_| rng.random_range(-1.0..1.0f64)).collect();
            Tensor::new(&port.shape, &values)
        }
    }
}

/// The elements as `f64`.
pub(crate) fn to_f64(tensor: &Tensor) -> Result<Vec<f64>> {
    let mut values = Vec::with_capacity(tensor.len());
    for_each_f64(tensor, |value| values.push(value))?;
    Ok(values)
}

/// Calls `f` with each element, in order, without a copy of the tensor.
pub(crate) fn for_each_f64(tensor: &Tensor, f: impl FnMut(f64)) -> Result<()> {
    match tensor.dtype() {
        DType::F32 => tensor.values::<f32>()?.iter().map(|v| f64::from(*v)).for_each(f),
        DType::F64 => tensor.values::<f64>()?.iter().copied().for_each(f),
        DType::F16 => tensor.values::<f16>()?.iter().map(|v| v.to_f64()).for_each(f),
        DType::BF16 => tensor.values::<bf16>()?.iter().map(|v| v.to_f64()).for_each(f),
        DType::I64 => tensor.values::<i64>()?.iter().map(|v| *v as f64).for_each(f),
        DType::I32 => tensor.values::<i32>()?.iter().map(|v| f64::from(*v)).for_each(f),
        DType::I8 => tensor.values::<i8>()?.iter().map(|v| f64::from(*v)).for_each(f),
        DType::U8 => tensor.values::<u8>()?.iter().map(|v| f64::from(*v)).for_each(f),
        DType::I16 => tensor.values::<i16>()?.iter().map(|v| f64::from(*v)).for_each(f),
        DType::U16 => tensor.values::<u16>()?.iter().map(|v| f64::from(*v)).for_each(f),
        DType::U32 => tensor.values::<u32>()?.iter().map(|v| f64::from(*v)).for_each(f),
        DType::U64 => tensor.values::<u64>()?.iter().map(|v| *v as f64).for_each(f),
        DType::Bool => tensor.values::<bool>()?.iter().map(|v| f64::from(u8::from(*v))).for_each(f),
    }
    Ok(())
}

/// The compiler for these options; what they leave open, the environment decides.
pub(crate) fn compiler(threads: Option<usize>, passes: &PassArgs, fusion: bool) -> Compiler {
    let mut compiler = Compiler::new().row_rings(match passes.row_rings {
        Rings::Auto => RowRings::Auto,
        Rings::On => RowRings::On,
        Rings::Off => RowRings::Off,
    });
    if let Some(precision) = passes.precision {
        compiler = compiler.precision(match precision {
            PrecisionArg::F32 => Precision::F32,
            PrecisionArg::Bf16 => Precision::Bf16,
            PrecisionArg::F16 => Precision::F16,
        });
    }
    if let Some(threads) = threads {
        compiler = compiler.threads(threads);
    }
    for pass in &passes.disable_pass {
        compiler = compiler.disable_pass(pass);
    }
    if fusion { compiler } else { compiler.disable_pass(FUSION) }
}

pub(crate) fn compile(
    model: &Model,
    threads: Option<usize>,
    passes: &PassArgs,
    fusion: bool,
) -> Result<Executable> {
    compiler(threads, passes, fusion).compile(model)
}

/// An executable with everything that a timed run needs.
pub(crate) struct Ready {
    executable: Executable,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

impl Ready {
    /// Allocates the outputs.
    pub(crate) fn new(executable: Executable, inputs: Vec<Tensor>) -> Result<Ready> {
        let outputs = executable.allocate_outputs()?;
        Ok(Ready { executable, inputs, outputs })
    }

    pub(crate) fn executable(&self) -> &Executable {
        &self.executable
    }

    /// Runs once; the time in milliseconds.
    pub(crate) fn timed_run(&mut self) -> Result<f64> {
        let views: Vec<TensorView<'_>> = self.inputs.iter().map(TensorView::from).collect();
        let start = Instant::now();
        self.executable.run_into(&views, &mut self.outputs)?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    }
}

/// Compiles and runs a trivial model: what the first compilation of a process pays for once happens here.
pub(crate) fn warm_up_compiler(threads: Option<usize>) -> Result<()> {
    let mut g = GraphBuilder::new("warm-up");
    let x = g.input("x", DType::F32, &[1]);
    let y = g.relu(x);
    g.output("y", y);
    let executable = compile(&Model::from(g.build()?), threads, &PassArgs::default(), true)?;
    executable.run(&[Tensor::new(&[1], &[1.0f32])?]).map(drop)
}
