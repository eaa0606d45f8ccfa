//! Writing nests from Rust: one closure per loop.
//!
//! The builder only assembles; it does not check (see [`crate::verify`]) and never simplifies.
//!
//! ```
//! use nestjit_ir::{Buffer, DType, Expr, NestBuilder, Program, ReduceOp, Role, SCALAR};
//!
//! let mut p = Program::default();
//! let x = p.add_buffer(Buffer::new("x", DType::F32, &[64, 512], Role::In));
//! let w = p.add_buffer(Buffer::new("w", DType::F32, &[512, 256], Role::Const));
//! let y = p.add_buffer(Buffer::new("y", DType::F32, &[64, 256], Role::Out));
//! let mut b = NestBuilder::new(&mut p, "dense0");
//! b.for_("n", 64, |b, n| {
//!     b.for_("m", 256, |b, m| {
//!         let t = b.temp("t", DType::F32, &[]);
//!         b.store(t, SCALAR, Expr::f32(0.0));
//!         b.for_("k", 512, |b, k| {
//!             b.reduce(ReduceOp::Add, t, SCALAR, Expr::load(x, [n, k]) * Expr::load(w, [k, m]));
//!         });
//!         b.store(y, [n, m], Expr::load(t, SCALAR).relu());
//!     });
//! });
//! b.finish();
//! assert_eq!(p.nests.len(), 1);
//! ```

use crate::affine::Var;
use crate::expr::indices;
use crate::nest::{
    BufId, Buffer, Call, Expr, For, Index, LoopKind, Nest, Program, Reduce, Role, Stmt, Store,
};
use crate::ops::ReduceOp;
use crate::types::DType;

/// Builds one nest of a program; [`NestBuilder::finish`] appends it.
pub struct NestBuilder<'p> {
    program: &'p mut Program,
    name: String,
    ops: Vec<String>,
    /// The statements of the block being written; a loop swaps in its own while its closure runs.
    block: Vec<Stmt>,
}

impl<'p> NestBuilder<'p> {
    /// Starts a nest. If the program already has a nest of that name, a suffix `_1`, `_2`, ... is added.
    pub fn new(program: &'p mut Program, name: &str) -> NestBuilder<'p> {
        let name = program.unique_nest_name(name);
        NestBuilder { program, name, ops: Vec::new(), block: Vec::new() }
    }

    /// Records the model operation that this nest computes.
    pub fn op(&mut self, name: impl Into<String>) -> &mut Self {
        self.ops.push(name.into());
        self
    }

    /// The program that the nest is built for.
    pub fn program(&mut self) -> &mut Program {
        self.program
    }

    /// `for name < extent { body }`.
    pub fn for_<R>(
        &mut self,
        name: &str,
        extent: usize,
        body: impl FnOnce(&mut NestBuilder<'p>, Var) -> R,
    ) -> R {
        self.for_kind(name, extent, LoopKind::Serial, body)
    }

    /// A loop of a certain kind.
    pub fn for_kind<R>(
        &mut self,
        name: &str,
        extent: usize,
        kind: LoopKind,
        body: impl FnOnce(&mut NestBuilder<'p>, Var) -> R,
    ) -> R {
        let var = self.program.add_var(name);
        let outer = std::mem::take(&mut self.block);
        let result = body(self, var);
        let body = std::mem::replace(&mut self.block, outer);
        self.block.push(Stmt::For(For { var, extent, kind, body }));
        result
    }

    /// One loop per dimension of `shape`, outermost first, named after `prefix` and the dimension (`i0`,
    /// `i1`, ...). With rank 0 the body is placed as it is.
    pub fn for_each<R>(
        &mut self,
        prefix: &str,
        shape: &[usize],
        body: impl FnOnce(&mut NestBuilder<'p>, &[Var]) -> R,
    ) -> R {
        let names: Vec<String> = (0..shape.len()).map(|d| format!("{prefix}{d}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.for_all(&names, shape, body)
    }

    /// One loop per pair of name and extent, outermost first.
    ///
    /// # Panics
    /// If there are not as many names as extents.
    pub fn for_all<R>(
        &mut self,
        names: &[&str],
        extents: &[usize],
        body: impl FnOnce(&mut NestBuilder<'p>, &[Var]) -> R,
    ) -> R {
        assert_eq!(names.len(), extents.len(), "one extent per loop name");
        let vars: Vec<Var> = names.iter().map(|&n| self.program.add_var(n)).collect();
        let outer = std::mem::take(&mut self.block);
        let result = body(self, &vars);
        let mut inner = std::mem::replace(&mut self.block, outer);
        for (&var, &extent) in vars.iter().zip(extents).rev() {
            inner = vec![Stmt::For(For { var, extent, kind: LoopKind::Serial, body: inner })];
        }
        self.block.append(&mut inner);
        result
    }

    /// Declares a local buffer for the rest of the current block. A suffix makes the name unique.
    pub fn temp(&mut self, name: &str, dtype: DType, shape: &[usize]) -> BufId {
        let name = self.program.unique_buffer_name(name);
        let buf = self.program.add_buffer(Buffer::new(name, dtype, shape, Role::Local));
        self.block.push(Stmt::Temp(buf));
        buf
    }

    /// `buf[index] = value`.
    pub fn store<I: Into<Index>>(&mut self, buf: BufId, index: impl IntoIterator<Item = I>, value: Expr) {
        self.block.push(Stmt::Store(Store { buf, index: indices(index), value }));
    }

    /// `buf[index] = op(buf[index], value)`.
    pub fn reduce<I: Into<Index>>(
        &mut self,
        op: ReduceOp,
        buf: BufId,
        index: impl IntoIterator<Item = I>,
        value: Expr,
    ) {
        self.block.push(Stmt::Reduce(Reduce { op, buf, index: indices(index), value }));
    }

    /// A call to a runtime function.
    pub fn call(&mut self, function: &str, inputs: &[BufId], outputs: &[BufId], attrs: &[i64]) {
        self.block.push(Stmt::Call(Call {
            function: function.to_owned(),
            inputs: inputs.to_vec(),
            outputs: outputs.to_vec(),
            attrs: attrs.to_vec(),
        }));
    }

    /// Appends a statement as it is.
    pub fn push(&mut self, stmt: Stmt) {
        self.block.push(stmt);
    }

    /// Appends the nest to the program and returns its position.
    pub fn finish(self) -> usize {
        self.program.nests.push(Nest { name: self.name, body: self.block, ops: self.ops });
        self.program.nests.len() - 1
    }
}

impl Program {
    /// `name`, or `name_1`, `name_2`, ... if a buffer already has it.
    pub fn unique_buffer_name(&mut self, name: &str) -> String {
        // In an excerpt, a name is what is wanted, to be made unique where it is placed.
        match self.placeholders.are_used() {
            true => name.to_owned(),
            false => self.buffer_names.free(name, &self.buffers, |b| &b.name),
        }
    }

    /// `name`, or `name_1`, `name_2`, ... if a nest already has it.
    pub fn unique_nest_name(&mut self, name: &str) -> String {
        self.nest_names.free(name, &self.nests, |n| &n.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_zero_needs_no_loop_and_names_become_unique() {
        let mut p = Program::default();
        let y = p.add_buffer(Buffer::new("y", DType::F32, &[], Role::Out));
        for _ in 0..2 {
            let mut b = NestBuilder::new(&mut p, "f");
            b.op("Const").for_each("i", &[], |b, vars| {
                let t = b.temp("y", DType::F32, &[2]);
                b.store(t, [0], Expr::f32(1.0));
                b.store(y, vars, Expr::load(t, [0]));
            });
            b.finish();
        }
        assert_eq!(p.nests[0].body.len(), 3);
        assert_eq!((p.nests[0].name.as_str(), p.nests[1].name.as_str()), ("f", "f_1"));
        assert_eq!(p.buffers.iter().map(|b| b.name.as_str()).collect::<Vec<_>>(), ["y", "y_1", "y_2"]);
    }

    #[test]
    fn for_each_nests_outermost_first() {
        let mut p = Program::default();
        let y = p.add_buffer(Buffer::new("y", DType::F32, &[2, 3], Role::Out));
        let mut b = NestBuilder::new(&mut p, "f");
        b.for_each("i", &[2, 3], |b, v| b.store(y, v, Expr::f32(0.0)));
        b.finish();
        let Stmt::For(outer) = &p.nests[0].body[0] else { panic!("a loop") };
        let Stmt::For(inner) = &outer.body[0] else { panic!("a loop") };
        assert_eq!((outer.extent, p.var_name(outer.var)), (2, "i0"));
        assert_eq!((inner.extent, p.var_name(inner.var)), (3, "i1"));
    }
}
