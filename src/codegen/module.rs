//! The JIT module: compiles the nests of a unit, in parallel, and places them in memory.
//!
//! Functions are compiled to bytes on worker threads and defined on one; nests that are equal are compiled
//! once. Memory is never writable and executable at once, and is freed with the [`Code`].

use std::mem::ManuallyDrop;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{FuncId, Linkage, Module, ModuleRelocTarget, default_libcall_names};
use nestjit_ir::excerpt::{Detail, Key, Uses};
use nestjit_ir::visit::{check_sites, declared_temps, walk_exprs};
use nestjit_ir::{BufId, For, LoopKind, Program, Site, Stmt};

use super::code_memory::CodeMemory;
use super::function::{CompiledFunction, Env, FunctionCompiler, KERNEL, RUNTIME, make_isa};
use super::hash::FastMap;
use super::nest::{Check, CompiledNest, ScalarLoop, compile_nest};
use super::runtime_fns::TABLE;
use crate::error::{Error, ErrorKind, Result};
use crate::machine::MachineModel;
use crate::threads::on_threads;
use crate::unit::Unit;

/// The lanes of a vector register, for estimates.
const LANES: usize = 16;

/// The native function of a segment: `(buffers, scratch, ranges) -> status`.
///
/// `buffers` points to one storage pointer per [`NestCode::params`]; `scratch` to
/// [`NestCode::scratch_bytes`] bytes, aligned to 64, that no other thread uses meanwhile; `ranges` to the first iteration
/// and the one after the last to execute of each of [`Segment::loops`]. The status is 0, or says which index was outside
/// its buffer: see [`NestCode::failure`].
pub type Entry =
    unsafe extern "C" fn(buffers: *const *mut u8, scratch: *mut u8, ranges: *const [i64; 2]) -> i32;

/// How to compile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CodegenOptions {
    /// Threads that compile.
    pub threads: usize,
    /// Run Cranelift's verifier on every function.
    pub verify: bool,
    /// Keep the text of every function (Cranelift IR and machine code) for dumps.
    pub keep_text: bool,
}

impl Default for CodegenOptions {
    fn default() -> CodegenOptions {
        CodegenOptions { threads: 1, verify: cfg!(debug_assertions), keep_text: false }
    }
}

/// What compiling cost, and what came out.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct CodegenStats {
    /// From start to end.
    pub wall: Duration,
    /// Building Cranelift IR, summed over the threads.
    pub build: Duration,
    /// Cranelift's optimisation, register allocation and emission, summed over the threads.
    pub cranelift: Duration,
    /// Emitting kernels without Cranelift, summed over the threads.
    pub kernels: Duration,
    /// Linking and making the memory executable.
    pub link: Duration,
    /// Functions compiled.
    pub functions: usize,
    /// Bytes of machine code.
    pub code_bytes: usize,
    /// Nests that use the code of an equal nest.
    pub shared: usize,
}

/// A part of a nest that is executed by one function.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The function.
    pub entry: Entry,
    /// The parallel loops, outermost first, whose iterations different threads may execute; none for a serial segment.
    pub loops: Vec<ParallelLoop>,
}

/// A parallel loop of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ParallelLoop {
    /// The number of iterations.
    pub extent: usize,
    /// Into how many parts they are to be cut, if the program says so.
    pub parts: Option<NonZeroU32>,
}

impl ParallelLoop {
    /// What a loop of a program says.
    pub(super) fn of(l: &For) -> ParallelLoop {
        let parts = match l.kind {
            LoopKind::Parallel(parts) => parts,
            LoopKind::Serial | LoopKind::Vector | LoopKind::Unrolled => None,
        };
        ParallelLoop { extent: l.extent, parts }
    }
}

/// The code of one nest.
#[derive(Clone, Debug)]
pub struct NestCode {
    /// The nest's name.
    pub name: String,
    /// The operations of the model that it computes, for error messages.
    pub ops: Vec<String>,
    /// The buffers accessed, in the order of the pointer table.
    pub params: Vec<BufId>,
    /// The segments, to be executed in order, each after the one before is complete.
    pub segments: Vec<Segment>,
    /// Scratch memory that a thread needs to execute any segment.
    pub scratch_bytes: usize,
    /// What it multiplies other than numbers of `f32` and wider, in instructions made for that: `bf16`, `int8`, or in
    /// matrix tiles `bf16 in tiles`, `int8 in tiles`; in ascending order.
    pub computes: Vec<&'static str>,
    /// Loops that are not parts of vector kernels.
    pub scalar_loops: Vec<ScalarLoop>,
    /// How often innermost statements that are not parts of vector kernels run in one execution.
    pub scalar_steps: f64,
    /// The meaning of nonzero statuses.
    checks: Vec<FailedCheck>,
}

/// What a status says.
#[derive(Clone, Debug)]
enum FailedCheck {
    /// An index outside its buffer: the buffer's name, the dimension, its extent.
    Access(String, usize, usize),
    /// A value of the model outside `low..high`.
    Value(Arc<Site>, i64, i64),
}

impl NestCode {
    /// The error that a nonzero status stands for; `value` is what the code left at the start of the scratch memory.
    pub fn failure(&self, status: i32, value: i64) -> Error {
        let check = usize::try_from(status).ok().and_then(|s| self.checks.get(s.checked_sub(1)?));
        match check {
            Some(FailedCheck::Access(buffer, dim, extent)) => Error::new(
                ErrorKind::Index,
                format!(
                    "nest @{}{}: the index {value} of dimension {dim} of %{buffer} is outside 0..{extent}",
                    self.name,
                    if self.ops.is_empty() { String::new() } else { format!(" ({})", self.ops.join(", ")) },
                ),
            ),
            Some(FailedCheck::Value(site, low, high)) => {
                Error::new(ErrorKind::Index, site.message(value, *low, *high)).at(&site.node, &site.op)
            }
            None => Error::internal(format!("nest @{} ended with the unknown status {status}", self.name)),
        }
    }
}

/// The native code of a unit. Dropping it frees the code: no entry may be running or be called afterwards,
/// which is the reason why entries are `unsafe` to call.
pub struct Code {
    module: ManuallyDrop<JITModule>,
    nests: Vec<NestCode>,
    stats: CodegenStats,
    texts: Vec<Text>,
}

/// The code of a nest as text. Nests of equal code share it.
#[derive(Clone)]
struct Text {
    all: Arc<str>,
    listing: Arc<str>,
}

// SAFETY: after construction the module is only touched by `drop`, which has exclusive access; the code it
// owns is immutable, and the entries work on nothing but their arguments.
unsafe impl Sync for Code {}

impl Text {
    fn of(code: &CompiledNest) -> Text {
        let join = |texts: Vec<&str>| texts.join("\n").into();
        Text {
            all: join(code.functions().map(|f| f.text.as_str()).collect()),
            listing: join(code.functions().map(|f| f.listing.as_str()).collect()),
        }
    }
}

impl Code {
    /// The code of each nest, in the order of the program.
    pub fn nests(&self) -> &[NestCode] {
        &self.nests
    }

    /// What compiling cost.
    pub fn stats(&self) -> &CodegenStats {
        &self.stats
    }

    /// The Cranelift IR and the machine code of a nest as text; empty unless
    /// [`CodegenOptions::keep_text`] was set or there is no such nest.
    pub fn disassembly(&self, nest: usize) -> &str {
        self.texts.get(nest).map_or("", |text| &text.all)
    }

    /// The machine code of a nest alone as text; empty unless [`CodegenOptions::keep_text`] was set or there is no
    /// such nest.
    pub fn machine_code(&self, nest: usize) -> &str {
        self.texts.get(nest).map_or("", |text| &text.listing)
    }
}

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Code").field("nests", &self.nests).field("stats", &self.stats).finish_non_exhaustive()
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        // SAFETY: the module is not used again, and by the contract of `Entry` no code runs any more.
        unsafe { ManuallyDrop::take(&mut self.module).free_memory() };
    }
}

/// Compiles every nest of a unit.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if Cranelift has no backend for this machine; otherwise only for programs that
/// the verifier rejects.
pub fn compile(unit: &Unit, target: &MachineModel, options: &CodegenOptions) -> Result<Code> {
    let start = Instant::now();
    let program = &unit.program;
    let isa = make_isa(target, options, "speed")?;
    let kernel_isa = make_isa(target, options, "none")?;

    let mut unique: Vec<usize> = Vec::new();
    // Pointers are bound in an order that follows from the nest, so one function serves all that are equal up to names.
    let mut keys: FastMap<Key, usize> = FastMap::default();
    let code_of: Vec<usize> = program
        .nests
        .iter()
        .enumerate()
        .map(|(i, nest)| {
            let body = [nest.body.as_slice()];
            *keys.entry(Uses::of(&body).key(program, &body, Detail::Code)).or_insert_with(|| {
                unique.push(i);
                unique.len() - 1
            })
        })
        .collect();

    let order = largest_first(program, &unique);
    let mut stats = CodegenStats { shared: program.nests.len() - unique.len(), ..Default::default() };
    let compiled = compile_parallel(
        unit,
        &unique,
        &order,
        Env { isa: isa.as_ref(), kernel_isa: kernel_isa.as_ref(), target },
        options,
        &mut stats,
    )?;

    let link = Instant::now();
    let (module, entries) = link_module(isa, &compiled, &mut stats)?;
    let mut nests = Vec::with_capacity(program.nests.len());
    let mut texts = Vec::new();
    let mut shared_texts: Vec<Option<Text>> = vec![None; compiled.len()];
    for ((i, nest), &which) in program.nests.iter().enumerate().zip(&code_of) {
        let code = &compiled[which];
        let own = unique[which] == i;
        let params = if own { code.params.clone() } else { super::nest::params(program, &nest.body)? };
        let there = (program.nests[unique[which]].body.as_slice(), code.params.as_slice());
        let checks = failed_checks(program, &code.checks, there, (&nest.body, &params));
        nests.push(NestCode {
            name: nest.name.clone(),
            ops: nest.ops.clone(),
            segments: code
                .segments
                .iter()
                .zip(&entries[which])
                .map(|(s, &entry)| Segment { entry, loops: s.loops.clone() })
                .collect(),
            scratch_bytes: code.scratch_bytes,
            computes: code.computes.clone(),
            scalar_loops: code.scalar_loops.clone(),
            scalar_steps: code.scalar_steps,
            checks,
            params,
        });
        if options.keep_text {
            let text = shared_texts[which].get_or_insert_with(|| Text::of(code));
            texts.push(text.clone());
        }
    }
    stats.link = link.elapsed();
    stats.wall = start.elapsed();
    Ok(Code { module: ManuallyDrop::new(module), nests, stats, texts })
}

/// What the checks of a nest's code mean in a nest that uses the code, each given by its statements and parameters.
fn failed_checks(
    program: &Program,
    checks: &[Check],
    there: (&[Stmt], &[BufId]),
    here: (&[Stmt], &[BufId]),
) -> Vec<FailedCheck> {
    if checks.is_empty() {
        return Vec::new();
    }
    let sites = check_sites(here.0);
    // What the compiled nest calls a buffer is the one in the same place here.
    let buffers = |(body, params): (&[Stmt], &[BufId])| [params, &declared_temps(body)].concat();
    let (there, here) = (buffers(there), buffers(here));
    let meaning = |c: &Check| match c {
        Check::Access { buf, dim } => {
            let buffer = there.iter().position(|b| b == buf).map_or(*buf, |at| here[at]);
            let buffer = program.buf(buffer);
            FailedCheck::Access(buffer.name.clone(), *dim, buffer.shape[*dim])
        }
        Check::Value { site, low, high } => FailedCheck::Value(Arc::clone(&sites[*site]), *low, *high),
    };
    checks.iter().map(meaning).collect()
}

/// The order in which to begin with nests at these positions, so that threads end at about the same time: those that
/// become the most code first. Indices into `unique`.
fn largest_first(program: &Program, unique: &[usize]) -> Vec<usize> {
    let sizes: Vec<usize> = unique.iter().map(|&n| code_size(&program.nests[n].body)).collect();
    let mut order: Vec<usize> = (0..unique.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(sizes[i]));
    order
}

/// About how many instructions statements become: those of unrolled loops and of vector loops, which are several
/// registers long, occur many times.
fn code_size(body: &[Stmt]) -> usize {
    let size = |s: &Stmt| match s {
        Stmt::For(l) => {
            let copies = match l.kind {
                LoopKind::Unrolled => l.extent,
                LoopKind::Vector => l.extent.div_ceil(LANES).min(LANES),
                LoopKind::Serial | LoopKind::Parallel(_) => 1,
            };
            code_size(&l.body).saturating_mul(copies)
        }
        _ => {
            let mut size = 1;
            walk_exprs(std::slice::from_ref(s), &mut |_| size += 1);
            size
        }
    };
    body.iter().map(size).fold(0, usize::saturating_add)
}

/// Compiles the nests with these positions on several threads, beginning with them in the given order.
fn compile_parallel(
    unit: &Unit,
    unique: &[usize],
    order: &[usize],
    env: Env<'_>,
    options: &CodegenOptions,
    stats: &mut CodegenStats,
) -> Result<Vec<CompiledNest>> {
    let results: Vec<Mutex<Option<Result<CompiledNest>>>> = unique.iter().map(|_| Mutex::default()).collect();
    let next = AtomicUsize::new(0);
    let times = Mutex::new([Duration::ZERO; 3]);
    let work = || {
        let mut compiler = FunctionCompiler::new(env, options);
        while let Some(&i) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let nest = &unit.program.nests[unique[i]];
            let result = compile_nest(&mut compiler, &unit.program, nest);
            if let Ok(mut slot) = results[i].lock() {
                *slot = Some(result);
            }
        }
        if let Ok(mut times) = times.lock() {
            for (sum, time) in times.iter_mut().zip([compiler.build, compiler.cranelift, compiler.kernels]) {
                *sum += time;
            }
        }
    };
    let threads = options.threads.clamp(1, unique.len().max(1));
    on_threads(threads, work);
    if let Ok(times) = times.into_inner() {
        [stats.build, stats.cranelift, stats.kernels] = times;
    }
    results
        .into_iter()
        .map(|slot| match slot.into_inner() {
            Ok(Some(result)) => result,
            _ => Err(Error::internal("a compile thread ended early")),
        })
        .collect()
}

/// Defines all functions in one module, makes them executable, and returns the entries of each nest.
fn link_module(
    isa: OwnedTargetIsa,
    nests: &[CompiledNest],
    stats: &mut CodegenStats,
) -> Result<(JITModule, Vec<Vec<Entry>>)> {
    let fail = |e: &dyn std::fmt::Display| Error::internal(format!("placing code in memory: {e}"));
    let functions = || nests.iter().flat_map(CompiledNest::functions);
    stats.functions = functions().count();
    stats.code_bytes = functions().map(|f| f.bytes.len()).sum();
    // One contiguous reservation, so that calls between functions always reach.
    let reserve: usize = functions().map(CompiledFunction::most_bytes).sum();
    let memory = CodeMemory::new(reserve)
        .map_err(|e| Error::new(ErrorKind::Limit, format!("no memory for {reserve} bytes of code: {e}")))?;
    let mut builder = JITBuilder::with_isa(isa, default_libcall_names());
    builder.memory_provider(Box::new(memory));
    builder.symbols(TABLE.iter().map(|f| (f.name, f.address.0)));
    // Owned from here on, so that its memory is freed on errors too.
    let mut module = FreeOnDrop(ManuallyDrop::new(JITModule::new(builder)));

    let signature = module.0.make_signature();
    let mut runtime: FastMap<u32, FuncId> = FastMap::default();
    let mut ids = Vec::new();
    for nest in nests {
        let nest_ids = nest
            .functions()
            .map(|_| module.0.declare_anonymous_function(&signature).map_err(|e| fail(&e)))
            .collect::<Result<Vec<FuncId>>>()?;
        for (function, &id) in nest.functions().zip(&nest_ids) {
            let mut relocs = function.relocs.clone();
            for reloc in &mut relocs {
                match &mut reloc.name {
                    ModuleRelocTarget::FunctionOffset(f, _) => *f = id,
                    ModuleRelocTarget::User { namespace: RUNTIME, index } => {
                        let imported = match runtime.get(index) {
                            Some(imported) => *imported,
                            None => {
                                let name = TABLE[*index as usize].name;
                                let imported = module
                                    .0
                                    .declare_function(name, Linkage::Import, &signature)
                                    .map_err(|e| fail(&e))?;
                                runtime.insert(*index, imported);
                                imported
                            }
                        };
                        reloc.name = ModuleRelocTarget::from(imported);
                    }
                    ModuleRelocTarget::User { namespace: KERNEL, index } => {
                        reloc.name = ModuleRelocTarget::from(nest_ids[*index as usize]);
                    }
                    _ => {}
                }
            }
            module
                .0
                .define_function_bytes(id, function.align, &function.bytes, &relocs)
                .map_err(|e| fail(&e))?;
        }
        ids.extend(nest_ids.into_iter().skip(nest.kernels.len()));
    }
    module.0.finalize_definitions().map_err(|e| fail(&e))?;
    let mut ids = ids.into_iter();
    let entries = nests
        .iter()
        .map(|n| {
            n.segments
                .iter()
                .zip(&mut ids)
                .map(|(_, id)| {
                    let address = module.0.get_finalized_function(id);
                    // SAFETY: the function was compiled with the signature of `Entry` in C's convention.
                    unsafe { std::mem::transmute::<*const u8, Entry>(address) }
                })
                .collect()
        })
        .collect();
    Ok((module.keep(), entries))
}

/// Frees the memory of a module that does not come to be used.
struct FreeOnDrop(ManuallyDrop<JITModule>);

impl FreeOnDrop {
    fn keep(self) -> JITModule {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped, so the module is taken once.
        unsafe { ManuallyDrop::take(&mut this.0) }
    }
}

impl Drop for FreeOnDrop {
    fn drop(&mut self) {
        // SAFETY: the module is not used again, and none of its code was ever called.
        unsafe { ManuallyDrop::take(&mut self.0).free_memory() };
    }
}
