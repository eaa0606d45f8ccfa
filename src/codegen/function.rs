//! Compiling single functions to bytes, with Cranelift.
//!
//! Knows settings and references between functions; what functions do is written by `nest` and `vcode`, where
//! they come to lie is decided by `module`.

use std::time::{Duration, Instant};

use cranelift_codegen::Context;
use cranelift_codegen::binemit::Reloc;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{self, AbiParam, Function, UserExternalName, types};
use cranelift_codegen::isa::{CallConv, OwnedTargetIsa, TargetFrontendConfig, TargetIsa};
use cranelift_codegen::print_errors::pretty_error;
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::FunctionBuilderContext;
use cranelift_module::{FuncId, ModuleReloc, ModuleRelocTarget};

use super::module::CodegenOptions;
use super::runtime_fns::{Signature, TABLE};
use super::vcode::Kernel;
use super::vcode::x86::{self, EntryCode, Value};
use crate::error::{Error, Result};
use crate::machine::MachineModel;

/// The machine code of one function, its references not yet resolved.
pub(super) struct CompiledFunction {
    pub bytes: Vec<u8>,
    pub align: u64,
    /// References to [`RUNTIME`] and [`KERNEL`] functions; linking resolves them.
    pub relocs: Vec<ModuleReloc>,
    /// All forms of the function as text, if texts are kept.
    pub text: String,
    /// The machine code alone as text, if texts are kept.
    pub listing: String,
}

/// The namespace of references to the runtime table; indices are positions in [`TABLE`].
pub(super) const RUNTIME: u32 = 1;
/// The namespace of references to the nest's kernels, by number.
pub(super) const KERNEL: u32 = 2;

/// The most that a jump to a function that lies far away takes beside the code, which Cranelift's module makes room for.
const VENEER_BYTES: usize = 24;

impl CompiledFunction {
    /// The most bytes that it takes in memory.
    pub fn most_bytes(&self) -> usize {
        self.bytes.len() + (self.align as usize).max(x86::ALIGN as usize) + VENEER_BYTES * self.relocs.len()
    }

    /// Puts another form of the function before its text.
    pub fn prepend_text(&mut self, text: &str) {
        self.text = format!("{text}\n{}", self.text);
    }
}

/// What functions are compiled for.
#[derive(Clone, Copy)]
pub(super) struct Env<'a> {
    pub isa: &'a dyn TargetIsa,
    /// The same without the optimiser, for kernels.
    pub kernel_isa: &'a dyn TargetIsa,
    /// The machine as passes see it.
    pub target: &'a MachineModel,
}

impl Env<'_> {
    /// The calling convention of generated functions: C's.
    pub fn call_conv(&self) -> CallConv {
        self.isa.default_call_conv()
    }

    pub fn frontend_config(&self) -> TargetFrontendConfig {
        self.isa.frontend_config()
    }

    pub fn is_x86(&self) -> bool {
        matches!(self.isa.triple().architecture, target_lexicon::Architecture::X86_64)
    }

    /// Whether generated code may use fused multiply-add. (Without the instruction, Cranelift would call a
    /// library function per lane.)
    pub fn fma(&self) -> bool {
        let flag =
            |name: &str| self.isa.isa_flags().iter().any(|f| f.name == name && f.as_bool() == Some(true));
        let x86 = matches!(self.isa.triple().architecture, target_lexicon::Architecture::X86_64);
        self.target.fma && (!x86 || (flag("has_fma") && flag("has_avx")))
    }

    /// Declares a kernel of the nest in `func`.
    pub fn import_kernel(&self, func: &mut Function, number: usize) -> ir::FuncRef {
        let signature = func.import_signature(super::vcode::clif::signature(self.call_conv()));
        let name = UserExternalName::new(KERNEL, number as u32);
        let name = ir::ExternalName::user(func.declare_imported_user_function(name));
        func.import_function(ir::ExtFuncData { name, signature, colocated: true, patchable: false })
    }

    /// Declares a function of the runtime table in `func`.
    pub fn import_runtime(&self, func: &mut Function, position: usize) -> ir::FuncRef {
        let mut signature = ir::Signature::new(self.call_conv());
        let clif = |d| AbiParam::new(super::nest::clif_type(d));
        match TABLE[position].signature {
            Signature::Unary(d) => {
                signature.params.push(clif(d));
                signature.returns.push(clif(d));
            }
            Signature::Binary(d) => {
                signature.params.extend([clif(d), clif(d)]);
                signature.returns.push(clif(d));
            }
            Signature::Copy => signature.params.extend([AbiParam::new(types::I64); 3]),
        }
        let signature = func.import_signature(signature);
        let name = UserExternalName::new(RUNTIME, position as u32);
        let name = ir::ExternalName::user(func.declare_imported_user_function(name));
        func.import_function(ir::ExtFuncData { name, signature, colocated: false, patchable: false })
    }
}

/// Compiles functions, one after the other, on one thread.
pub(super) struct FunctionCompiler<'a> {
    pub env: Env<'a>,
    ctx: Context,
    func_ctx: FunctionBuilderContext,
    keep_text: bool,
    /// Time spent building Cranelift IR, and in Cranelift.
    pub build: Duration,
    pub cranelift: Duration,
    /// Time spent emitting kernels without Cranelift.
    pub kernels: Duration,
}

impl<'a> FunctionCompiler<'a> {
    pub fn new(env: Env<'a>, options: &CodegenOptions) -> FunctionCompiler<'a> {
        FunctionCompiler {
            env,
            ctx: Context::new(),
            func_ctx: FunctionBuilderContext::new(),
            keep_text: options.keep_text,
            build: Duration::ZERO,
            cranelift: Duration::ZERO,
            kernels: Duration::ZERO,
        }
    }

    /// Whether texts of functions are wanted.
    pub fn keep_text(&self) -> bool {
        self.keep_text
    }

    /// Compiles the function that `build` writes.
    pub fn compile(
        &mut self,
        name: &str,
        build: impl FnOnce(&mut Function, &mut FunctionBuilderContext) -> Result<()>,
    ) -> Result<CompiledFunction> {
        self.compile_for(self.env.isa, name, build)
    }

    /// Compiles the function that `build` writes, keeping the order of its instructions.
    pub fn compile_kernel(
        &mut self,
        name: &str,
        build: impl FnOnce(&mut Function, &mut FunctionBuilderContext) -> Result<()>,
    ) -> Result<CompiledFunction> {
        self.compile_for(self.env.kernel_isa, name, build)
    }

    /// Emits a kernel without Cranelift.
    pub fn emit_kernel(&mut self, name: &str, kernel: &Kernel, tier: x86::Tier) -> Result<CompiledFunction> {
        let start = Instant::now();
        let (bytes, text) = x86::emit(kernel, tier, self.keep_text)?;
        self.kernels += start.elapsed();
        let text = if self.keep_text { format!("; {name}\n{text}") } else { text };
        Ok(CompiledFunction { bytes, align: x86::ALIGN, relocs: Vec::new(), listing: text.clone(), text })
    }

    /// Emits a function of a segment that only calls a kernel of its nest; `None` if that is left to Cranelift.
    pub fn emit_entry(
        &mut self,
        name: &str,
        values: &[Value],
        kernel: usize,
    ) -> Result<Option<CompiledFunction>> {
        if self.env.call_conv() != CallConv::SystemV {
            return Ok(None);
        }
        let start = Instant::now();
        let entry = x86::emit_entry(values, self.keep_text)
            .map_err(|e| Error::internal(format!("cannot compile '{name}': {e}")))?;
        self.kernels += start.elapsed();
        let Some(EntryCode { bytes, text, call }) = entry else { return Ok(None) };
        let relocs = vec![ModuleReloc {
            offset: call as u32,
            kind: Reloc::X86CallPCRel4,
            name: ModuleRelocTarget::User { namespace: KERNEL, index: kernel as u32 },
            // From the end of the instruction.
            addend: -4,
        }];
        let text = if self.keep_text { format!("; {name}\n{text}") } else { text };
        Ok(Some(CompiledFunction { bytes, align: x86::ALIGN, relocs, listing: text.clone(), text }))
    }

    fn compile_for(
        &mut self,
        isa: &dyn TargetIsa,
        name: &str,
        build: impl FnOnce(&mut Function, &mut FunctionBuilderContext) -> Result<()>,
    ) -> Result<CompiledFunction> {
        let result = self.build_and_compile(isa, name, build);
        self.ctx.clear();
        if result.is_err() {
            // A builder that was abandoned midway leaves its context dirty.
            self.func_ctx = FunctionBuilderContext::new();
        }
        result
    }

    fn build_and_compile(
        &mut self,
        isa: &dyn TargetIsa,
        name: &str,
        build: impl FnOnce(&mut Function, &mut FunctionBuilderContext) -> Result<()>,
    ) -> Result<CompiledFunction> {
        // Clearing a context forgets this.
        self.ctx.set_disasm(self.keep_text);
        let start = Instant::now();
        build(&mut self.ctx.func, &mut self.func_ctx)?;
        self.build += start.elapsed();
        let mut text = String::new();
        if self.keep_text {
            text = format!("; {name}\n{}", self.ctx.func.display());
        }
        let start = Instant::now();
        self.ctx.compile(isa, &mut ControlPlane::default()).map_err(|e| {
            Error::internal(format!("cannot compile '{name}': {}", pretty_error(e.func, e.inner)))
        })?;
        self.cranelift += start.elapsed();
        let code = self
            .ctx
            .compiled_code()
            .ok_or_else(|| Error::internal(format!("'{name}' was compiled to nothing")))?;
        let mut listing = String::new();
        if let Some(machine_code) = &code.vcode {
            text.push('\n');
            text.push_str(machine_code);
            listing = format!("; {name}\n{machine_code}");
        }
        Ok(CompiledFunction {
            bytes: code.buffer.data().to_vec(),
            align: u64::from(code.buffer.alignment),
            // The id is a placeholder: linking replaces it.
            relocs: code
                .buffer
                .relocs()
                .iter()
                .map(|r| ModuleReloc::from_mach_reloc(r, &self.ctx.func, FuncId::from_u32(0)))
                .collect(),
            text,
            listing,
        })
    }
}

fn settings_error(e: &dyn std::fmt::Display) -> Error {
    Error::internal(format!("Cranelift settings: {e}"))
}

/// The instruction set: what the host has, capped by the target.
pub(super) fn make_isa(
    target: &MachineModel,
    options: &CodegenOptions,
    opt_level: &str,
) -> Result<OwnedTargetIsa> {
    let mut builder = cranelift_native::builder()
        .map_err(|e| Error::unsupported(format!("no code generator for this machine: {e}")))?;
    if cfg!(target_arch = "x86_64") && !target.fma {
        builder.set("has_fma", "false").map_err(|e| settings_error(&e))?;
    }
    finish_isa(builder, options, opt_level)
}

/// An instruction set with the settings of generated code.
pub(super) fn finish_isa(
    builder: cranelift_codegen::isa::Builder,
    options: &CodegenOptions,
    opt_level: &str,
) -> Result<OwnedTargetIsa> {
    let mut flags = settings::builder();
    for (name, value) in [
        ("opt_level", opt_level),
        ("unwind_info", "false"),
        ("is_pic", "false"),
        ("use_colocated_libcalls", "false"),
        // Loop alignment follows from function alignment: without it, timings depend on unrelated code.
        ("log2_min_function_alignment", "6"),
        // Every page of a large frame is touched, so that a full stack ends at its guard page.
        ("enable_probestack", "true"),
        ("probestack_strategy", "inline"),
        ("enable_verifier", if options.verify { "true" } else { "false" }),
    ] {
        flags.set(name, value).map_err(|e| settings_error(&e))?;
    }
    builder.finish(settings::Flags::new(flags)).map_err(|e| settings_error(&e))
}
