//! The worker that runs nestjit. With `--machine` it prints what one core can do instead.

use nestjit::runtime::measure::{Rates, measure};
use nestjit::machine::MachineModel;
use nestjit::{Compiler, Executable, Model, Tensor, TensorView};
use peers::{Result, Session, Task, serve};

struct Nestjit {
    executable: Executable,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

impl Session for Nestjit {
    fn run(&mut self) -> Result<()> {
        let inputs: Vec<TensorView<'_>> = self.inputs.iter().map(TensorView::from).collect();
        Ok(self.executable.run_into(&inputs, &mut self.outputs)?)
    }

    fn output(&self) -> Result<Vec<u8>> {
        Ok(self.outputs[0].bytes()?.to_vec())
    }
}

fn load(task: &Task) -> Result<Nestjit> {
    let model = Model::from_onnx(&task.model)?;
    let executable = Compiler::new().threads(task.threads).compile(&model)?;
    let tensor = |(i, spec): (usize, &nestjit::TensorSpec)| -> Result<Tensor> {
        Ok(Tensor::from_bytes(spec.dtype, &spec.shape, &task.input(i)?)?)
    };
    let inputs = executable.inputs().iter().enumerate().map(tensor).collect::<Result<_>>()?;
    let outputs = executable.allocate_outputs()?;
    Ok(Nestjit { executable, inputs, outputs })
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("--machine") {
        let target = MachineModel::host(None).expect("without a cap any machine will do");
        let Rates { peak_gflops, read_gbytes } = measure(target.isa, target.l3_bytes(), 1).rates;
        let isa = format!("{:?}", target.isa).to_lowercase();
        println!(
            "{}",
            serde_json::json!({ "isa": isa, "peak_gflops": peak_gflops, "read_gbytes": read_gbytes })
        );
        return;
    }
    serve(load);
}
