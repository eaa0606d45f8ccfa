//! Statements: loops, stores, reductions, local buffers, calls.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    BlockArg, InstBuilder, MemFlagsData, StackSlotData, StackSlotKind, Value, types,
};
use cranelift_frontend::Variable;
use nestjit_ir::visit::{count_stmts, walk_exprs, walk_stmts};
use nestjit_ir::{Affine, BufId, Call, DType, Expr, For, Index, LoopKind, Reduce, Stmt};

use super::access::Place;
use super::arith::clif_type;
use super::{Emitter, Local, SegmentBody};
use crate::codegen::contract::fused_update;
use crate::codegen::runtime_fns;
use crate::codegen::vcode::Arg;
use crate::codegen::vcode::select::plan::accessed;
use crate::error::{Error, ErrorKind, Result};

/// Statements that a segment may grow to by unrolling; beyond it, unrolled loops stay loops.
const UNROLL_LIMIT: usize = 2_000;

/// Where the value is that an element has before a statement.
#[derive(Clone, Copy)]
enum Old {
    Register(Variable),
    Memory(DType, Place),
}

impl Old {
    fn read(self, emitter: &mut Emitter<'_, '_>) -> Value {
        match self {
            Old::Register(var) => emitter.b.use_var(var),
            Old::Memory(dtype, place) => emitter.read(dtype, place),
        }
    }
}

impl Emitter<'_, '_> {
    /// The whole function body of a segment.
    pub(super) fn segment(&mut self, segment: &SegmentBody<'_>) -> Result<()> {
        self.load_pointers(segment.stmts);
        self.load_ranges(&segment.parallel);
        self.block(segment.stmts)?;
        let ok = self.b.ins().iconst(types::I32, 0);
        self.b.ins().return_(&[ok]);
        Ok(())
    }

    /// Loads the storage pointers of all parameters that the statements use, once, at the entry.
    fn load_pointers(&mut self, body: &[Stmt]) {
        let mut used: Vec<BufId> = Vec::new();
        walk_stmts(body, &mut |s| match s {
            Stmt::Store(s) => used.push(s.buf),
            Stmt::Reduce(r) => used.push(r.buf),
            Stmt::Call(c) => used.extend(c.inputs.iter().chain(&c.outputs)),
            Stmt::For(_) | Stmt::Temp(_) => {}
        });
        walk_exprs(body, &mut |e| {
            if let Expr::Load(l) = e {
                used.push(l.buf);
            }
        });
        let flags = MemFlagsData::trusted().with_readonly().with_can_move();
        for (i, buf) in self.params.clone().into_iter().enumerate() {
            if used.contains(&buf) {
                let pointer = self.b.ins().load(types::I64, flags, self.table, (i * 8) as i32);
                self.pointers.insert(buf, pointer);
            }
        }
    }

    /// Loads the ranges of the parallel loops that the caller asks for.
    fn load_ranges(&mut self, parallel: &[&For]) {
        let flags = MemFlagsData::trusted().with_readonly().with_can_move();
        for (at, l) in parallel.iter().enumerate() {
            let begin = self.b.ins().load(types::I64, flags, self.asked, (at * 16) as i32);
            let end = self.b.ins().load(types::I64, flags, self.asked, (at * 16 + 8) as i32);
            self.ranges.push((l.var, begin, end));
        }
    }

    pub(super) fn block(&mut self, body: &[Stmt]) -> Result<()> {
        let top = self.scratch_top;
        let mut rest = body;
        while let [first, others @ ..] = rest {
            rest = match self.plan.region(first) {
                Some(region) => self.region(region, rest)?,
                None => {
                    self.stmt(first)?;
                    others
                }
            };
        }
        self.scratch_top = top;
        Ok(())
    }

    /// Calls the kernel of a region that starts here; returns the statements after it.
    fn region<'s>(&mut self, position: usize, body: &'s [Stmt]) -> Result<&'s [Stmt]> {
        let plan = self.plan;
        let region = &plan.regions[position];
        let (body, rest) = body.split_at(region.len);
        let used = accessed(body);
        for stmt in body {
            // A local that the kernel does not keep to itself, or that only what follows uses.
            if let Stmt::Temp(buf) = stmt
                && (plan.shared_locals.contains(buf) || !used.contains(buf))
            {
                self.declare(*buf)?;
            }
        }
        let size = (region.kernel.args.len() * 8) as u32;
        let slot = self.b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, size, 3));
        let table = self.b.ins().stack_addr(types::I64, slot, 0);
        for (i, arg) in region.kernel.args.iter().enumerate() {
            let value = match arg {
                Arg::Pointer(buf, offset) => {
                    let (base, offset) = (self.storage(*buf)?, self.affine(offset)?);
                    self.b.ins().iadd(base, offset)
                }
                Arg::Element(buf, computed, offset) => {
                    let index: Vec<Index> = (0..self.program.buf(*buf).shape.len())
                        .map(|d| match computed.iter().find(|c| c.0 == d) {
                            Some((_, value)) => Index::Value(Box::new(value.clone())),
                            None => Index::Affine(Affine::constant(0)),
                        })
                        .collect();
                    let (place, offset) = (self.place(*buf, &index)?, self.affine(offset)?);
                    let base = self.b.ins().iadd_imm_s(place.base, i64::from(place.displacement));
                    self.b.ins().iadd(base, offset)
                }
                Arg::Scratch => {
                    let top = self.scratch_top + region.kernel.scratch_bytes;
                    self.scratch_max = self.scratch_max.max(top);
                    self.b.ins().iadd_imm_s(self.scratch, self.scratch_top as i64)
                }
                Arg::Int(value) => self.affine(value)?,
                Arg::Begin(at) => self.ranges[*at].1,
                Arg::End(at) => self.ranges[*at].2,
            };
            self.b.ins().store(MemFlagsData::trusted(), value, table, (i * 8) as i32);
        }
        let kernel = self.env.import_kernel(self.b.func, self.first_kernel + position);
        self.b.ins().call(kernel, &[table]);
        Ok(rest)
    }

    fn stmt(&mut self, stmt: &Stmt) -> Result<()> {
        self.emitted += 1;
        match stmt {
            Stmt::For(l) => self.for_loop(l),
            Stmt::Temp(buf) => self.declare(*buf),
            Stmt::Store(s) => {
                let value = self.expr_of(&s.value, self.program.buf(s.buf).dtype)?;
                self.update(s.buf, &s.index, &mut |_, _| Ok(value))
            }
            Stmt::Reduce(r) => self.reduce_into(r),
            Stmt::Call(c) => self.call(c),
        }
    }

    fn for_loop(&mut self, l: &For) -> Result<()> {
        if let Some(&(_, begin, end)) = self.ranges.iter().find(|r| r.0 == l.var) {
            return self.range_loop(l, begin, end);
        }
        let size = l.extent.saturating_mul(count_stmts(&l.body));
        let unroll = l.kind == LoopKind::Unrolled && self.emitted.saturating_add(size) < UNROLL_LIMIT;
        if l.extent <= 1 || unroll {
            for i in 0..l.extent {
                self.consts.insert(l.var, i as i64);
                self.block(&l.body)?;
            }
            self.consts.remove(&l.var);
            return Ok(());
        }
        let zero = self.b.ins().iconst(types::I64, 0);
        let end = self.b.ins().iconst(types::I64, l.extent as i64);
        self.do_while(l, zero, end)
    }

    /// A parallel loop of the segment, over the range that the caller asks for.
    fn range_loop(&mut self, l: &For, begin: Value, end: Value) -> Result<()> {
        let (run, done) = (self.b.create_block(), self.b.create_block());
        let any = self.b.ins().icmp(IntCC::SignedLessThan, begin, end);
        self.b.ins().brif(any, run, &[], done, &[]);
        self.b.switch_to_block(run);
        self.do_while(l, begin, end)?;
        self.b.ins().jump(done, &[]);
        self.b.switch_to_block(done);
        Ok(())
    }

    /// A loop that is known to run at least once.
    fn do_while(&mut self, l: &For, begin: Value, end: Value) -> Result<()> {
        let (head, exit) = (self.b.create_block(), self.b.create_block());
        let var = self.b.append_block_param(head, types::I64);
        self.b.ins().jump(head, &[BlockArg::Value(begin)]);
        self.b.switch_to_block(head);
        self.vars.insert(l.var, var);
        self.block(&l.body)?;
        self.vars.remove(&l.var);
        let next = self.b.ins().iadd_imm_s(var, 1);
        let again = self.b.ins().icmp(IntCC::SignedLessThan, next, end);
        self.b.ins().brif(again, head, &[BlockArg::Value(next)], exit, &[]);
        self.b.switch_to_block(exit);
        Ok(())
    }

    fn declare(&mut self, buf: BufId) -> Result<()> {
        let buffer = self.program.buf(buf);
        if buffer.shape.is_empty() && !self.plan.shared_locals.contains(&buf) {
            let ty = clif_type(buffer.dtype);
            let var = match self.locals.get(&buf) {
                Some(Local::Register(var)) => *var,
                _ => self.b.declare_var(ty),
            };
            let zero = self.zero(buffer.dtype);
            self.b.def_var(var, zero);
            self.locals.insert(buf, Local::Register(var));
            return Ok(());
        }
        let offset = self.scratch_top;
        let top = buffer.storage_bytes().checked_next_multiple_of(64).and_then(|b| b.checked_add(offset));
        let Some(top) = top.filter(|t| i64::try_from(*t).is_ok()) else {
            return Err(Error::new(ErrorKind::Limit, format!("%{} is too large", buffer.name)));
        };
        self.scratch_top = top;
        self.scratch_max = self.scratch_max.max(top);
        self.locals.insert(buf, Local::Scratch(offset));
        Ok(())
    }

    fn reduce_into(&mut self, r: &Reduce) -> Result<()> {
        let dtype = self.program.buf(r.buf).dtype;
        if let Some((a, b)) = fused_update(r) {
            let (a, b) = (self.expr_of(a, dtype)?, self.expr_of(b, dtype)?);
            return self.update(r.buf, &r.index, &mut |e, old| {
                let old = old.read(e);
                e.multiply_add(dtype, a, b, old)
            });
        }
        let value = self.expr_of(&r.value, dtype)?;
        self.update(r.buf, &r.index, &mut |e, old| {
            let old = old.read(e);
            Ok(e.reduce(r.op, dtype, old, value))
        })
    }

    /// Gives an element the value that `new` makes, which may read the one that it has.
    fn update(
        &mut self,
        buf: BufId,
        index: &[Index],
        new: &mut dyn FnMut(&mut Self, Old) -> Result<Value>,
    ) -> Result<()> {
        if let Some(Local::Register(var)) = self.locals.get(&buf).copied() {
            let value = new(self, Old::Register(var))?;
            self.b.def_var(var, value);
            return Ok(());
        }
        let place = self.place(buf, index)?;
        let value = new(self, Old::Memory(self.program.buf(buf).dtype, place))?;
        self.b.ins().store(place.flags, value, place.base, place.displacement);
        Ok(())
    }

    fn call(&mut self, call: &Call) -> Result<()> {
        let unknown = || Error::internal(format!("there is no runtime function '{}'", call.function));
        match (call.function.as_str(), call.inputs.as_slice(), call.outputs.as_slice()) {
            ("copy", [from], [to]) => {
                let (source, target) = (self.program.buf(*from), self.program.buf(*to));
                let plain = |b: &nestjit_ir::Buffer| b.layout.is_row_major() && b.halo.is_empty();
                if !plain(source) || !plain(target) || source.logical_bytes() != target.logical_bytes() {
                    return Err(Error::internal(format!(
                        "%{} cannot be copied to %{} byte by byte",
                        source.name, target.name
                    )));
                }
                let bytes = self.b.ins().iconst(types::I64, source.logical_bytes() as i64);
                let (from, to) = (self.storage(*from)?, self.storage(*to)?);
                let function = runtime_fns::find("copy").ok_or_else(unknown)?;
                let function = self.function(function);
                self.b.ins().call(function, &[to, from, bytes]);
                Ok(())
            }
            _ => Err(unknown()),
        }
    }
}
