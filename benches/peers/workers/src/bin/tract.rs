//! The worker that runs tract.

use std::sync::Arc;

use peers::{Result, Session, Task, serve};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::tract_linalg::multithread::{Executor, set_default_executor};

struct Tract {
    plan: Arc<TypedRunnableModel>,
    inputs: TVec<TValue>,
    outputs: TVec<TValue>,
}

impl Session for Tract {
    fn run(&mut self) -> Result<()> {
        self.outputs = self.plan.run(self.inputs.clone()).map_err(|e| format!("{e:#}"))?;
        Ok(())
    }

    fn output(&self) -> Result<Vec<u8>> {
        Ok(self.outputs[0].as_bytes().to_vec())
    }
}

fn load(task: &Task) -> Result<Tract> {
    if task.threads > 1 {
        set_default_executor(Executor::multithread(task.threads));
    }
    let plan = || -> TractResult<Arc<TypedRunnableModel>> {
        onnx().model_for_path(&task.model)?.into_optimized()?.into_runnable()
    };
    let plan = plan().map_err(|e| format!("{e:#}"))?;
    let mut inputs = tvec!();
    for i in 0..plan.model().inputs.len() {
        let fact = plan.model().input_fact(i).map_err(|e| format!("{e:#}"))?;
        let shape = fact.shape.as_concrete().ok_or("the shapes are symbolic")?;
        let tensor = tensor(fact.datum_type, shape, &task.input(i)?);
        inputs.push(tensor.map_err(|e| format!("{e:#}"))?.into_tvalue());
    }
    Ok(Tract { plan, inputs, outputs: tvec!() })
}

fn tensor(dtype: DatumType, shape: &[usize], bytes: &[u8]) -> TractResult<Tensor> {
    if dtype == f32::datum_type() {
        let (elements, _) = bytes.as_chunks::<4>();
        let elements: Vec<f32> = elements.iter().map(|b| f32::from_ne_bytes(*b)).collect();
        return Tensor::from_shape(shape, &elements);
    }
    if dtype == i64::datum_type() {
        let (elements, _) = bytes.as_chunks::<8>();
        let elements: Vec<i64> = elements.iter().map(|b| i64::from_ne_bytes(*b)).collect();
        return Tensor::from_shape(shape, &elements);
    }
    Err(TractError::msg(format!("inputs of type {dtype:?}")))
}

fn main() {
    serve(load);
}
