//! What the compiler did to random graphs: that they come to the parts of it where faults hide.

use std::collections::BTreeSet;

use nestjit::Executable;
use nestjit::ir::visit::{declared_temps, target_index, walk_exprs, walk_stmts};
use nestjit::ir::{BufId, DType, Expr, Index, Nest, Role, Stmt};

/// What must have been reached.
const WANTED: [&str; 8] = [
    "ChooseLayout",
    "Parallelize",
    "RowRings",
    "Winograd",
    "a run-time index into what is local to a nest",
    "a temporary of integers",
    "a temporary of truth values",
    "a merge",
];

#[derive(Default)]
pub struct Reach(BTreeSet<&'static str>);

impl Reach {
    pub fn see(&mut self, executable: &Executable) {
        for remark in executable.remarks().iter().filter(|remark| remark.applied()) {
            let name = if remark.pass() == "OpFusion" { "a merge" } else { remark.pass() };
            self.0.extend(WANTED.into_iter().find(|wanted| *wanted == name));
        }
        let program = executable.program();
        for nest in &program.nests {
            if has_local_run_time_index(nest) {
                self.0.insert("a run-time index into what is local to a nest");
            }
        }
        for id in program.buf_ids() {
            let buffer = program.buf(id);
            if buffer.role == Role::Temp && !buffer.dtype.is_float() {
                let is_bool = buffer.dtype == DType::Bool;
                self.0.insert(if is_bool {
                    "a temporary of truth values"
                } else {
                    "a temporary of integers"
                });
            }
        }
    }

    pub fn missing(&self) -> Vec<&'static str> {
        WANTED.into_iter().filter(|wanted| !self.0.contains(wanted)).collect()
    }
}

fn has_local_run_time_index(nest: &Nest) -> bool {
    let locals = declared_temps(&nest.body);
    let mut found = false;
    let mut look = |buf: &BufId, index: &[Index]| {
        found |= locals.contains(buf) && index.iter().any(|index| index.as_affine().is_none());
    };
    walk_exprs(&nest.body, &mut |expr| {
        if let Expr::Load(load) = expr {
            look(&load.buf, &load.index);
        }
    });
    walk_stmts(&nest.body, &mut |stmt| {
        let buf = match stmt {
            Stmt::Store(store) => store.buf,
            Stmt::Reduce(reduce) => reduce.buf,
            _ => return,
        };
        look(&buf, target_index(stmt).unwrap_or_default());
    });
    found
}
