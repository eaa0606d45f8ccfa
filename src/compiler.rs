//! From a model to an executable: the whole pipeline. Start reading here.
//!
//! A [`Compiler`] holds options; [`Compiler::compile`] is the pipeline itself. What each step does is in the
//! modules it calls.

use nestjit_ir::BufId;
use nestjit_ir::interp::Mode;
use nestjit_ir::verify::Stage;

use crate::budget;
use crate::codegen::{self, CodegenOptions};
use crate::error::{Error, Result};
use crate::graph::{Graph, Model, ModelOps, ValueId};
use crate::interpret;
use crate::laps::Laps;
use crate::lower::lower;
use crate::machine::{Isa, MachineModel};
use crate::options::{self, Fusion, Options, Precision, RowRings, check_threads, said_by};
use crate::passes::{self, PassManager, Passed};
use crate::remark::Remark;
use crate::runtime::executable::{Executable, Parts, Records, TensorSpec};
use crate::runtime::timing::{CompileTimings, phase};
use crate::tensor::Tensor;
use crate::threads::compiling_threads;
use crate::unit::Unit;

/// Compiles models.
///
/// ```
/// use nestjit::{Activation, Compiler, Sequential};
/// # fn main() -> nestjit::Result<()> {
/// let model = Sequential::new(&[64, 512]).dense(10, Activation::Relu).build()?;
/// let executable = Compiler::new().threads(2).compile(&model)?;
/// let unfused = Compiler::new().threads(2).disable_pass("OpFusion").compile(&model)?;
/// assert!(executable.kernels() < unfused.kernels());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Compiler {
    /// An option that makes no sense is reported when something is compiled.
    options: Result<Options>,
}

impl Default for Compiler {
    fn default() -> Compiler {
        Compiler::new()
    }
}

impl Compiler {
    /// A compiler with the options that the environment asks for: see [`crate::options::ENVIRONMENT`].
    pub fn new() -> Compiler {
        let known = |name: &String| match passes::find(name) {
            Ok(_) => Ok(()),
            Err(e) => Err(said_by(options::DISABLE_PASS, name, e)),
        };
        let options = Options::from_env();
        Compiler { options: options.and_then(|o| o.disabled_passes.iter().try_for_each(known).map(|()| o)) }
    }

    /// A compiler with these options, whatever the environment says.
    pub fn with_options(options: Options) -> Compiler {
        Compiler { options: Ok(options) }
    }

    /// The options.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] if one makes no sense.
    pub fn options(&self) -> Result<&Options> {
        self.options.as_ref().map_err(Error::clone)
    }

    /// The machine that is planned for, and the threads of a run.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] if an option makes no sense, or there is no such machine.
    pub fn target(&self) -> Result<(MachineModel, usize)> {
        self.setup().map(|setup| (setup.target, setup.threads))
    }

    fn set(mut self, f: impl FnOnce(&mut Options) -> Result<()>) -> Compiler {
        self.options = self.options.and_then(|mut options| f(&mut options).map(|()| options));
        self
    }

    /// How many threads a run uses, and compiling. It is planned for so many; if this process has fewer CPUs, no more than
    /// these work.
    #[must_use]
    pub fn threads(self, threads: usize) -> Compiler {
        self.set(|o| {
            o.threads = Some(check_threads(threads)?);
            Ok(())
        })
    }

    /// Switches a pass off, by its name in [`passes::PIPELINE`].
    #[must_use]
    pub fn disable_pass(self, name: &str) -> Compiler {
        self.disable_passes([name])
    }

    /// Switches passes off.
    #[must_use]
    pub fn disable_passes<S: AsRef<str>>(self, names: impl IntoIterator<Item = S>) -> Compiler {
        self.set(|o| {
            for name in names {
                let name = passes::find(name.as_ref())?;
                if o.disabled_passes.iter().all(|other| other != name) {
                    o.disabled_passes.push(name.to_owned());
                }
            }
            Ok(())
        })
    }

    /// Caps the vector instructions.
    #[must_use]
    pub fn isa(self, cap: Isa) -> Compiler {
        self.set(|o| {
            o.isa = Some(cap);
            Ok(())
        })
    }

    /// The machine to plan for, by name or as a file: see [`Options::machine`].
    #[must_use]
    pub fn machine(self, name: &str) -> Compiler {
        self.set(|o| {
            o.machine = Some(name.to_owned());
            Ok(())
        })
    }

    /// Whether to use dot products of bytes (VNNI) where the vector instructions have them.
    #[must_use]
    pub fn vnni(self, vnni: bool) -> Compiler {
        self.set(|o| {
            o.vnni = vnni;
            Ok(())
        })
    }

    /// Whether to use matrix tiles (AMX) where the CPU and the system have them.
    #[must_use]
    pub fn amx(self, amx: bool) -> Compiler {
        self.set(|o| {
            o.amx = amx;
            Ok(())
        })
    }

    /// What contractions of `f32` may compute in, where that is faster: see [`Precision`].
    #[must_use]
    pub fn precision(self, precision: Precision) -> Compiler {
        self.set(|o| {
            o.precision = precision;
            Ok(())
        })
    }

    /// Whether to verify the program after each pass.
    #[must_use]
    pub fn verify_passes(self, verify: bool) -> Compiler {
        self.set(|o| {
            o.verify_passes = verify;
            Ok(())
        })
    }

    /// How much memory this process may take for models, in bytes: see [`Options::memory`].
    #[must_use]
    pub fn memory_limit(self, bytes: u64) -> Compiler {
        self.set(|o| {
            if bytes == 0 {
                return Err(Error::usage("a memory limit of 0 bytes: the number must be at least 1"));
            }
            o.memory = Some(bytes);
            Ok(())
        })
    }

    /// Whether to keep the text after each pass for [`Executable::program_after`].
    #[must_use]
    pub fn keep_programs(self, keep: bool) -> Compiler {
        self.set(|o| {
            o.keep_programs = keep;
            Ok(())
        })
    }

    /// Whether to keep the machine code as text for [`Executable::machine_code`].
    #[must_use]
    pub fn keep_code(self, keep: bool) -> Compiler {
        self.set(|o| {
            o.keep_code = keep;
            Ok(())
        })
    }

    /// How far OpFusion goes.
    #[must_use]
    pub fn fusion(self, fusion: Fusion) -> Compiler {
        self.set(|o| {
            o.fusion = fusion;
            Ok(())
        })
    }

    /// Where rings of rows are made.
    #[must_use]
    pub fn row_rings(self, row_rings: RowRings) -> Compiler {
        self.set(|o| {
            o.row_rings = row_rings;
            Ok(())
        })
    }

    /// Compiles a model.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] if an option makes no sense; otherwise what is wrong with the model, with the
    /// node at fault.
    pub fn compile(&self, model: &Model) -> Result<Executable> {
        self.schedule(model)?.generate()
    }

    /// Compiles a program of loop nests: one that was parsed, or built by hand. It may be scheduled already.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] if the program is not well-formed; otherwise as [`Compiler::compile`].
    pub fn compile_unit(&self, name: &str, mut unit: Unit) -> Result<Executable> {
        let mut laps = Laps::start();
        let setup = self.setup()?;
        let mut manager = setup.manager()?;
        // Code is only generated for what is valid, and nobody has checked this program yet.
        passes::verify(&unit, Stage::Scheduled)?;
        laps.lap(phase::SETUP);

        manager.run_nest_passes(&mut unit, Stage::Scheduled, &mut laps)?;
        let (passed, interface) = (manager.finish(), Interface::of_unit(name, &unit));
        Scheduled { unit, interface, passed, setup, laps }.generate()
    }

    /// The front half of [`Compiler::compile`]: everything but code, constants and memory.
    ///
    /// # Errors
    /// As [`Compiler::compile`].
    pub fn schedule(&self, model: &Model) -> Result<Scheduled> {
        let mut laps = Laps::start();
        let setup = self.setup()?;
        let mut manager = setup.manager()?;
        model.graph.validate()?;
        let graph = model.graph.clone();
        laps.lap(phase::SETUP);

        let (graph, mut unit) = front(graph, &mut manager, &mut laps)?;
        let interface = Interface::of_graph(&graph, ModelOps::trace(&model.graph, &graph));
        // Memory of weights that nests do not read as they are can be used again.
        drop(graph);
        laps.lap(phase::LOWER);
        manager.run_nest_passes(&mut unit, Stage::Lowered, &mut laps)?;
        Ok(Scheduled { unit, interface, passed: manager.finish(), setup, laps })
    }

    /// The text of the program after a pass: what `compile` works with at that point. [`passes::LOWER`] stands
    /// for lowering.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] if there is no such pass or it is switched off; otherwise as
    /// [`Compiler::compile`].
    pub fn program_after(&self, model: &Model, pass: &str) -> Result<String> {
        let scheduled = self.clone().keep_programs(true).schedule(model)?;
        passes::program_of(&scheduled.passed.programs, &scheduled.setup.options, pass).map(str::to_owned)
    }

    /// The outputs of a model as the interpreter computes them from the lowered program, before any nest pass.
    /// With [`Mode::F64`] they are the reference: `f32` is computed, and returned, as `f64`.
    ///
    /// # Errors
    /// As [`Compiler::compile`] and [`Executable::run`].
    pub fn interpret(&self, model: &Model, inputs: &[Tensor], mode: Mode) -> Result<Vec<Tensor>> {
        let setup = self.setup()?;
        model.graph.validate()?;
        let (_, unit) = front(model.graph.clone(), &mut setup.manager()?, &mut Laps::start())?;
        interpret::interpret(&unit, inputs, mode)
    }

    fn setup(&self) -> Result<Setup> {
        let options = self.options.clone()?;
        budget::set_limit(options.memory);
        let mut target = match &options.machine {
            Some(name) => {
                MachineModel::named(name, options.isa).map_err(|e| said_by(options::MACHINE, name, e))?
            }
            None => MachineModel::host(options.isa)
                .map_err(|e| said_by(options::ISA, options.isa.map_or("", Isa::name), e))?,
        };
        target.vnni &= options.vnni;
        target.amx &= options.amx;
        target.bf16 &= options.precision == Precision::Bf16;
        target.amx_bf16 = target.amx && options.precision == Precision::Bf16;
        let threads = options.threads.unwrap_or(target.cores);
        Ok(Setup { options, target, threads })
    }
}

/// What is known before the model is looked at.
struct Setup {
    options: Options,
    target: MachineModel,
    threads: usize,
}

impl Setup {
    fn manager(&self) -> Result<PassManager<'_>> {
        PassManager::new(&self.options, &self.target, self.threads)
    }
}

/// The graph after the graph passes, and the plain nests that it becomes.
fn front(mut graph: Graph, manager: &mut PassManager<'_>, laps: &mut Laps) -> Result<(Graph, Unit)> {
    manager.run_graph_passes(&mut graph, laps)?;
    let unit = lower(&graph)?;
    Ok((graph, unit))
}

/// The name of a model, what goes in and out, and what it consists of.
struct Interface {
    model: String,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    /// The operations of the model; none if it was given as nests.
    ops: ModelOps,
}

impl Interface {
    fn of_graph(graph: &Graph, ops: ModelOps) -> Interface {
        let spec = |id: &ValueId| {
            let v = graph.value(*id);
            TensorSpec { name: v.name.clone(), dtype: v.dtype, shape: v.shape.clone() }
        };
        let specs = |ids: &[ValueId]| ids.iter().map(spec).collect();
        let (inputs, outputs) = (specs(&graph.inputs), specs(&graph.outputs));
        Interface { model: graph.name.clone(), inputs, outputs, ops }
    }

    fn of_unit(name: &str, unit: &Unit) -> Interface {
        let spec = |id: &BufId| {
            let b = unit.program.buf(*id);
            TensorSpec { name: b.name.clone(), dtype: b.dtype, shape: b.shape.clone() }
        };
        let specs = |ids: &[BufId]| ids.iter().map(spec).collect();
        let (inputs, outputs) = (specs(&unit.inputs), specs(&unit.outputs));
        Interface { model: name.to_owned(), inputs, outputs, ops: ModelOps::default() }
    }
}

/// A model after all passes: [`Scheduled::generate`] makes an executable of it.
pub struct Scheduled {
    unit: Unit,
    interface: Interface,
    passed: Passed,
    setup: Setup,
    laps: Laps,
}

impl Scheduled {
    /// The nests, with the values of their constants.
    pub fn unit(&self) -> &Unit {
        &self.unit
    }

    /// What the passes did and declined to do, in their order.
    pub fn remarks(&self) -> &[Remark] {
        &self.passed.remarks
    }

    /// The text after each pass that ran, if [`Options::keep_programs`].
    pub fn programs(&self) -> &[(&'static str, String)] {
        &self.passed.programs
    }

    /// The last steps: machine code, constants, memory.
    ///
    /// # Errors
    /// As [`Compiler::compile`].
    pub fn generate(self) -> Result<Executable> {
        let Scheduled { mut unit, interface, passed, setup, mut laps } = self;
        let Setup { options, target, threads } = setup;
        let plan = match unit.plan.take() {
            Some(plan) => plan,
            None => passes::separate_memory(&unit.program)?,
        };
        let codegen_options = CodegenOptions {
            threads: compiling_threads(threads),
            verify: options.verify_passes,
            keep_text: options.dump.is_some() || options.keep_code,
        };
        let code = codegen::compile(&unit, &target, &codegen_options)?;
        passed.dump_code(
            &options,
            &mut (0..code.nests().len()).map(|i| (code.nests()[i].name.as_str(), code.disassembly(i))),
        )?;
        laps.lap(phase::CODEGEN);

        let Interface { model, inputs, outputs, ops } = interface;
        let records = Records {
            model,
            ops,
            options,
            target,
            remarks: passed.remarks,
            programs: passed.programs,
            timings: CompileTimings::default(),
        };
        let parts = Parts { code, plan, unit, inputs, outputs, threads };
        let executable = Executable::new(parts, records)?;
        laps.lap(phase::PACK);
        Ok(executable.with_timings(CompileTimings::of(&laps)))
    }
}
