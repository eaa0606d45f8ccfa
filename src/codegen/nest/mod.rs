//! Compiles one nest with Cranelift: every construct of the IR, in scalar form.
//!
//! A nest becomes one function per *segment*: each top-level parallel loop is a segment of its own, so that
//! the runtime can split it among threads; everything between two of them is one serial segment. A segment's
//! function is `fn(buffers, scratch, ranges) -> status`; see [`super::Entry`]. Parallel loops that are all that the one
//! around them does are cut together with it.
//!
//! `stmt` compiles statements, `access` addresses and bounds checks, `expr` and `arith` values, `half` those of 16 bits.
//! `direct` finds segments that need none of that.

mod access;
mod arith;
mod direct;
mod expr;
mod half;
mod stmt;

use std::sync::Arc;

use cranelift_codegen::ir::{self, AbiParam, UserFuncName, types};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, Variable};
use nestjit_ir::access::check_reach;
use nestjit_ir::visit::{Extents, check_sites, declared_temps, walk_exprs, walk_stmts};
use nestjit_ir::{BufId, Buffer, Expr, For, Nest, Program, Role, Site, Stmt, Var};

pub(super) use self::arith::clif_type;
use self::direct::direct;
use super::function::{CompiledFunction, Env, FunctionCompiler};
use super::hash::FastMap;
use super::module::ParallelLoop;
use super::vcode::select::Machine;
use super::vcode::select::plan::{Plan, accessed, plan};
use super::vcode::{clif, prefetch, x86};
use crate::error::{Error, ErrorKind, Result};
use crate::lanes::Refusal;

/// A loop that is not a part of a vector kernel.
#[derive(Clone, PartialEq, Debug)]
pub struct ScalarLoop {
    /// Its variable (of an equal nest, if code is shared).
    pub var: String,
    /// Why.
    pub why: Option<Refusal>,
    /// How often innermost statements run in it that are not parts of kernels either, in one run of the nest.
    pub steps: f64,
}

/// The machine code of a nest, not yet placed in memory.
pub(super) struct CompiledNest {
    /// The buffers that the nest accesses, in the order of the pointer table.
    pub params: Vec<BufId>,
    /// The segments, in execution order.
    pub segments: Vec<CompiledSegment>,
    /// The kernels that the segments call, by number.
    pub kernels: Vec<CompiledFunction>,
    /// Scratch memory that an execution of any segment needs.
    pub scratch_bytes: usize,
    /// What a nonzero status means: status `i + 1` is a failure of check `i`. Buffers are those of the nest that was
    /// compiled.
    pub checks: Vec<Check>,
    /// What kernels multiply in instructions made for that.
    pub computes: Vec<&'static str>,
    /// Loops that are not parts of kernels, and why.
    pub scalar_loops: Vec<ScalarLoop>,
    /// How often innermost statements that are not parts of kernels run in one execution.
    pub scalar_steps: f64,
}

impl CompiledNest {
    /// Every function: the kernels, then the segments.
    pub fn functions(&self) -> impl Iterator<Item = &CompiledFunction> {
        self.kernels.iter().chain(self.segments.iter().map(|s| &s.function))
    }
}

/// The machine code of a segment.
pub(super) struct CompiledSegment {
    pub loops: Vec<ParallelLoop>,
    pub function: CompiledFunction,
}

/// The bytes at the start of the scratch memory where a failed check leaves the value: an `i64`.
pub(super) const FAILED_VALUE_BYTES: usize = 8;

/// A check at run time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Check {
    /// An index of an access that may be outside its buffer.
    Access {
        /// The buffer.
        buf: BufId,
        /// The dimension.
        dim: usize,
    },
    /// A [`nestjit_ir::Check`].
    Value {
        /// The position in [`check_sites`] of the nest.
        site: usize,
        /// The range.
        low: i64,
        /// One more than the largest value allowed.
        high: i64,
    },
}

/// A part of a nest that is compiled to one function.
pub(super) struct SegmentBody<'a> {
    pub stmts: &'a [Stmt],
    /// The parallel loops that the segment consists of, outermost first; none if it is serial.
    pub parallel: Vec<&'a For>,
}

/// The most parallel loops of a segment. Those within them are loops like any other.
pub const MOST_LOOPS: usize = 4;

/// Cuts a nest into segments. A local buffer that is declared at the top level must be used by one serial
/// segment only, because threads have scratch memory of their own; otherwise the nest is one serial segment.
pub(super) fn segments(body: &[Stmt]) -> Vec<SegmentBody<'_>> {
    let segments = cut(body);
    let fits = |buf: &BufId| {
        let mut users = segments.iter().filter(|s| accessed(s.stmts).contains(buf));
        users.next().is_none_or(|s| s.parallel.is_empty()) && users.next().is_none()
    };
    if body.iter().all(|s| !matches!(s, Stmt::Temp(buf) if !fits(buf))) {
        segments
    } else {
        vec![SegmentBody { stmts: body, parallel: Vec::new() }]
    }
}

/// This parallel loop, and those that are all that the one before does.
fn parallel_loops(outermost: &For) -> Vec<&For> {
    let mut loops = vec![outermost];
    while let Some(Stmt::For(l)) =
        loops.last().and_then(|l| <&[Stmt; 1]>::try_from(l.body.as_slice()).ok().map(|b| &b[0]))
        && l.kind.is_parallel()
        && loops.len() < MOST_LOOPS
    {
        loops.push(l);
    }
    loops
}

fn cut(body: &[Stmt]) -> Vec<SegmentBody<'_>> {
    let mut segments = Vec::new();
    let mut start = 0;
    for (i, stmt) in body.iter().enumerate() {
        if let Stmt::For(l) = stmt
            && l.kind.is_parallel()
        {
            if start < i {
                segments.push(SegmentBody { stmts: &body[start..i], parallel: Vec::new() });
            }
            segments.push(SegmentBody { stmts: &body[i..=i], parallel: parallel_loops(l) });
            start = i + 1;
        }
    }
    if start < body.len() {
        segments.push(SegmentBody { stmts: &body[start..], parallel: Vec::new() });
    }
    segments
}

/// The buffers that a nest accesses without declaring them, in order of first occurrence.
pub(super) fn params(program: &Program, body: &[Stmt]) -> Result<Vec<BufId>> {
    let locals = declared_temps(body);
    let mut params: Vec<BufId> = Vec::new();
    let mut add = |b: BufId| {
        if !locals.contains(&b) && !params.contains(&b) {
            params.push(b);
        }
    };
    walk_stmts(body, &mut |s| match s {
        Stmt::Store(s) => add(s.buf),
        Stmt::Reduce(r) => add(r.buf),
        Stmt::Call(c) => c.inputs.iter().chain(&c.outputs).for_each(|b| add(*b)),
        Stmt::For(_) | Stmt::Temp(_) => {}
    });
    walk_exprs(body, &mut |e| {
        if let Expr::Load(l) = e {
            add(l.buf);
        }
    });
    match params.iter().find(|b| program.buffers.get(b.0 as usize).is_none_or(|b| b.role == Role::Local)) {
        Some(b) => Err(Error::internal(format!("buffer {} is used but not declared", b.0))),
        None => Ok(params),
    }
}

/// Whether reading the constants of a nest takes long: they are a large part of the second-level cache, or have left
/// it when they are needed again in the next run.
fn streams_constants(program: &Program, params: &[BufId], l2_bytes: usize) -> bool {
    let bytes = |b: &Buffer| if b.role == Role::Const { b.storage_bytes() } else { 0 };
    let own: usize = params.iter().map(|b| bytes(program.buf(*b))).sum();
    let all: usize = program.buffers.iter().map(bytes).sum();
    4 * own > l2_bytes || 4 * all > 3 * l2_bytes
}

/// Compiles a nest.
pub(super) fn compile_nest(
    compiler: &mut FunctionCompiler<'_>,
    program: &Program,
    nest: &Nest,
) -> Result<CompiledNest> {
    let params = params(program, &nest.body)?;
    // The verifier has seen what was to be compiled; passes have put indices into indices since.
    if let Some(error) = check_reach(program, &nest.body, &Extents::default()) {
        return Err(Error::new(ErrorKind::Limit, format!("nest @{}: {error}", nest.name)));
    }
    let mut compiled = CompiledNest {
        params,
        segments: Vec::new(),
        kernels: Vec::new(),
        scratch_bytes: 0,
        checks: Vec::new(),
        computes: Vec::new(),
        scalar_loops: Vec::new(),
        scalar_steps: 0.0,
    };
    let (extents, env, sites) = (Extents::of(&nest.body), compiler.env, check_sites(&nest.body));
    let tier = x86::Tier::of(env.target);
    let machine = match tier {
        Some(tier) => tier.machine(),
        None => Machine {
            lanes: clif::LANES,
            registers: clif::REGISTERS,
            fma: env.fma(),
            scale: false,
            ternary: false,
            dot: false,
            bf16: false,
            tiles: false,
            bf16_tiles: false,
        },
    };
    for (i, segment) in segments(&nest.body).into_iter().enumerate() {
        let mut plan = plan(program, &extents, &nest.body, (segment.stmts, &segment.parallel), machine);
        let refused = plan.refused.iter().map(|r| ScalarLoop {
            var: program.var_name(r.var).to_owned(),
            why: r.why,
            steps: scalar_steps(&nest.body, Some(r.var), &plan),
        });
        compiled.scalar_loops.extend(refused);
        compiled.scalar_steps += scalar_steps(segment.stmts, None, &plan);
        let first_kernel = compiled.kernels.len();
        if tier.is_some() && streams_constants(program, &compiled.params, env.target.l2_bytes()) {
            let constant = |buf: BufId| program.buf(buf).role == Role::Const;
            plan.regions.iter_mut().for_each(|r| prefetch::insert(&mut r.kernel, &constant));
        }
        for region in &plan.regions {
            region.kernel.computes(&mut compiled.computes);
            let name = format!("{}.kernel{}", nest.name, compiled.kernels.len());
            let mut function = match tier {
                Some(tier) => compiler.emit_kernel(&name, &region.kernel, tier)?,
                None => compiler.compile_kernel(&name, |func, func_ctx| {
                    clif::emit(&region.kernel, env, func, func_ctx);
                    Ok(())
                })?,
            };
            if compiler.keep_text() {
                function.prepend_text(&region.kernel.to_string());
            }
            compiled.kernels.push(function);
        }
        let name = format!("{}.{i}", nest.name);
        let loops = || segment.parallel.iter().map(|l| ParallelLoop::of(l)).collect();
        if tier.is_some()
            && let Some(direct) = direct(&segment, &plan, &compiled.params)
            && let Some(function) = compiler.emit_entry(&name, &direct.values, first_kernel)?
        {
            compiled.scratch_bytes = compiled.scratch_bytes.max(direct.kernel.scratch_bytes);
            compiled.segments.push(CompiledSegment { loops: loops(), function });
            continue;
        }
        let function = compiler.compile(&name, |func, func_ctx| {
            func.signature = entry_signature(env.call_conv());
            func.name = UserFuncName::user(0, 0);
            let builder = FunctionBuilder::new(func, func_ctx);
            let plan = (&plan, first_kernel);
            let mut emitter =
                Emitter::new(builder, program, &mut compiled, extents.clone(), env, plan, &sites);
            emitter.segment(&segment)?;
            let scratch = emitter.scratch_max;
            emitter.b.seal_all_blocks();
            emitter.b.finalize(env.frontend_config());
            compiled.scratch_bytes = compiled.scratch_bytes.max(scratch);
            Ok(())
        })?;
        compiled.segments.push(CompiledSegment { loops: loops(), function });
    }
    Ok(compiled)
}

/// How often innermost statements that are not parts of kernels run in one execution of `body`; those in the loop of a
/// variable only, if there is one.
fn scalar_steps(body: &[Stmt], within: Option<Var>, plan: &Plan) -> f64 {
    let (mut at, mut sum) = (0, 0.0);
    while let Some(stmt) = body.get(at) {
        if let Some(region) = plan.region(stmt) {
            at += plan.regions[region].len;
            continue;
        }
        sum += match stmt {
            Stmt::For(l) => l.extent as f64 * scalar_steps(&l.body, within.filter(|var| l.var != *var), plan),
            Stmt::Store(_) | Stmt::Reduce(_) | Stmt::Call(_) if within.is_none() => 1.0,
            Stmt::Temp(_) | Stmt::Store(_) | Stmt::Reduce(_) | Stmt::Call(_) => 0.0,
        };
        at += 1;
    }
    sum
}

/// `fn(buffers, scratch, ranges) -> status`.
fn entry_signature(call_conv: CallConv) -> ir::Signature {
    let mut signature = ir::Signature::new(call_conv);
    signature.params.extend([AbiParam::new(types::I64); 3]);
    signature.returns.push(AbiParam::new(types::I32));
    signature
}

/// Where a local buffer lives.
#[derive(Clone, Copy)]
enum Local {
    /// A scalar, in a register.
    Register(Variable),
    /// At this offset in the scratch memory.
    Scratch(usize),
}

/// Emits the code of one segment.
struct Emitter<'a, 'f> {
    b: FunctionBuilder<'f>,
    program: &'a Program,
    env: Env<'a>,
    /// Whether products and sums are contracted as kernels contract them.
    fma: bool,
    params: Vec<BufId>,
    checks: &'a mut Vec<Check>,
    /// The sites of the nest's checks.
    sites: &'a [Arc<Site>],
    extents: Extents,
    /// The values of loop variables that are known, because their loops are unrolled.
    consts: FastMap<Var, i64>,
    /// The values of the other loop variables.
    vars: FastMap<Var, ir::Value>,
    /// The storage of the parameters.
    pointers: FastMap<BufId, ir::Value>,
    regions: FastMap<BufId, ir::AliasRegion>,
    locals: FastMap<BufId, Local>,
    /// The pointer table and the scratch memory.
    table: ir::Value,
    scratch: ir::Value,
    /// Where the ranges of the segment's parallel loops are, and their variables, beginnings and ends.
    asked: ir::Value,
    ranges: Vec<(Var, ir::Value, ir::Value)>,
    scratch_top: usize,
    scratch_max: usize,
    functions: FastMap<usize, ir::FuncRef>,
    /// Statements emitted so far: what bounds unrolling.
    emitted: usize,
    /// What kernels execute, and the number of the first of them.
    plan: &'a Plan,
    first_kernel: usize,
}

impl<'a, 'f> Emitter<'a, 'f> {
    fn new(
        mut b: FunctionBuilder<'f>,
        program: &'a Program,
        nest: &'a mut CompiledNest,
        extents: Extents,
        env: Env<'a>,
        (plan, first_kernel): (&'a Plan, usize),
        sites: &'a [Arc<Site>],
    ) -> Emitter<'a, 'f> {
        let entry = b.create_block();
        b.append_block_params_for_function_params(entry);
        b.switch_to_block(entry);
        let p = b.block_params(entry).to_vec();
        Emitter {
            b,
            program,
            env,
            fma: env.fma(),
            params: nest.params.clone(),
            checks: &mut nest.checks,
            sites,
            extents,
            consts: FastMap::default(),
            vars: FastMap::default(),
            pointers: FastMap::default(),
            regions: FastMap::default(),
            locals: FastMap::default(),
            table: p[0],
            scratch: p[1],
            asked: p[2],
            ranges: Vec::new(),
            scratch_top: 0,
            scratch_max: 0,
            functions: FastMap::default(),
            emitted: 0,
            plan,
            first_kernel,
        }
    }
}
