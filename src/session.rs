//! A session: an ONNX model whose shapes are not known before it is called. It is compiled for the shapes of a
//! call (and for the values of inputs that shapes depend on) when they come for the first time; what was compiled
//! is kept and found again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::compiler::Compiler;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::Model;
use crate::onnx::{Imported, InputSpec, OnnxModel, Specialization};
use crate::runtime::Executable;
use crate::tensor::Tensor;

/// How many compiled forms are kept, unless [`Session::cache_limit`] says otherwise.
const CACHE_LIMIT: usize = 16;

/// The largest input for whose value a model is compiled. Shapes and axes are small; what is larger is data, and
/// would be compiled for anew with every call.
const MAX_VALUE_BYTES: usize = 64 << 10;

/// An ONNX model, compiled when it is called.
///
/// Many threads may call it at once.
#[derive(Debug)]
pub struct Session {
    model: OnnxModel,
    compiler: Compiler,
    limit: usize,
    /// The most recently used last.
    cache: Mutex<Vec<Entry>>,
}

/// What a model was compiled for, and the result.
#[derive(Clone, Debug)]
struct Entry {
    shapes: Vec<Vec<usize>>,
    /// By position among the inputs; only inputs that shapes depend on.
    values: BTreeMap<usize, Tensor>,
    executable: Executable,
}

impl Entry {
    fn serves(&self, inputs: &[Tensor]) -> bool {
        self.shapes.iter().map(Vec::as_slice).eq(inputs.iter().map(Tensor::shape))
            && self.values.iter().all(|(i, value)| inputs[*i] == *value)
    }
}

/// What a call returned, and what it cost.
#[derive(Clone, Debug)]
pub struct Call {
    /// The outputs, in order.
    pub outputs: Vec<Tensor>,
    /// What compiling took, the import included, if this call compiled; `None` for a warm call.
    pub compiled: Option<Duration>,
    /// The whole call.
    pub total: Duration,
}

impl Session {
    /// A session for a model that is read already.
    pub fn new(model: OnnxModel, compiler: Compiler) -> Session {
        Session { model, compiler, limit: CACHE_LIMIT, cache: Mutex::default() }
    }

    /// A session for the model in a file.
    ///
    /// # Errors
    /// As [`OnnxModel::from_path`].
    pub fn from_onnx(path: impl AsRef<Path>, compiler: Compiler) -> Result<Session> {
        Ok(Session::new(OnnxModel::from_path(path)?, compiler))
    }

    /// Keeps at most this many compiled forms, at least one; the one that was not used for the longest time goes
    /// first.
    #[must_use]
    pub fn cache_limit(mut self, limit: usize) -> Session {
        self.limit = limit.max(1);
        self
    }

    /// The model.
    pub fn model(&self) -> &OnnxModel {
        &self.model
    }

    /// The inputs of a call, in order.
    pub fn inputs(&self) -> &[InputSpec] {
        self.model.inputs()
    }

    /// How many compiled forms are kept at the moment.
    pub fn cached(&self) -> usize {
        self.cache().len()
    }

    /// The outputs for inputs given in order.
    ///
    /// # Errors
    /// What is wrong with the model or not supported, all of it; and as [`Executable::run`].
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        Ok(self.call(inputs)?.outputs)
    }

    /// As [`Session::run`], and what it cost.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn call(&self, inputs: &[Tensor]) -> Result<Call> {
        let start = Instant::now();
        let (executable, compiled) = self.executable(inputs)?;
        let outputs = executable.run(inputs)?;
        Ok(Call { outputs, compiled, total: start.elapsed() })
    }

    /// The compiled form for these inputs, and what compiling took if it was not there yet. It is right for other
    /// inputs of the same shapes, as long as those that shapes depend on have the same values.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn executable(&self, inputs: &[Tensor]) -> Result<(Executable, Option<Duration>)> {
        let start = Instant::now();
        self.expect_inputs(inputs)?;
        if let Some(executable) = self.find(inputs) {
            return Ok((executable, None));
        }
        // Calls that need something else must not wait for this. Two that need the same compile it twice.
        let (model, values) = self.import(inputs)?;
        let executable = self.compiler.compile(&model)?;
        let shapes = inputs.iter().map(|t| t.shape().to_vec()).collect();
        let mut cache = self.cache();
        if !cache.iter().any(|entry| entry.serves(inputs)) {
            cache.push(Entry { shapes, values, executable: executable.clone() });
        }
        let excess = cache.len().saturating_sub(self.limit);
        cache.drain(..excess);
        Ok((executable, Some(start.elapsed())))
    }

    /// The model for these inputs, and the values that its shapes depend on.
    fn import(&self, inputs: &[Tensor]) -> Result<(Model, BTreeMap<usize, Tensor>)> {
        let mut values = BTreeMap::new();
        let mut specialization = Specialization::default();
        for (spec, tensor) in self.inputs().iter().zip(inputs) {
            specialization.shapes.insert(spec.name.clone(), tensor.shape().to_vec());
        }
        loop {
            let names = match self.model.import(&specialization)? {
                Imported::Graph(graph) => return Ok((graph.into(), values)),
                Imported::NeedsValues(names) => names,
            };
            for name in names {
                let position = self.inputs().iter().position(|i| i.name == name);
                let position = position.ok_or_else(|| Error::internal("an unknown input is needed"))?;
                let value = inputs[position].clone();
                if value.bytes().len() > MAX_VALUE_BYTES {
                    return Err(Error::unsupported(format!(
                        "shapes depend on the value of the input '{}', which is too large ({} bytes) to compile for",
                        name.escape_debug(),
                        value.bytes().len()
                    )));
                }
                if values.insert(position, value.clone()).is_some() {
                    return Err(Error::internal("the value of an input is needed twice"));
                }
                specialization.values.insert(name, value);
            }
        }
    }

    fn expect_inputs(&self, inputs: &[Tensor]) -> Result<()> {
        if inputs.len() != self.inputs().len() {
            let message = format!("{} inputs are needed, but {} given", self.inputs().len(), inputs.len());
            return Err(Error::new(ErrorKind::Shape, message));
        }
        for (spec, tensor) in self.inputs().iter().zip(inputs) {
            if spec.dtype != tensor.dtype() {
                let (name, wanted, found) = (spec.name.escape_debug(), spec.dtype, tensor.dtype());
                return Err(Error::shape(format!("input '{name}' is {wanted}, but {found} was given")));
            }
        }
        Ok(())
    }

    fn find(&self, inputs: &[Tensor]) -> Option<Executable> {
        let mut cache = self.cache();
        let position = cache.iter().position(|entry| entry.serves(inputs))?;
        let entry = cache.remove(position);
        let executable = entry.executable.clone();
        cache.push(entry);
        Some(executable)
    }

    fn cache(&self) -> MutexGuard<'_, Vec<Entry>> {
        // What a thread that panicked left behind is a list of whole entries all the same.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
