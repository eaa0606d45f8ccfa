//! Which nests are the same code: equal up to the names of their buffers and loop variables.

use std::collections::HashMap;
use std::fmt::Write;

use nestjit_ir::visit::{rename_bufs, walk_affine_mut, walk_stmts_mut};
use nestjit_ir::{Affine, BufId, Nest, Program, Stmt, Var};

/// A text that two nests share exactly if one function can serve both: the nest with buffers and variables
/// numbered in order of occurrence, and what the buffers are. Pointers are bound in that order too.
pub(super) fn key(program: &Program, nest: &Nest) -> String {
    let mut body = nest.body.clone();
    let mut bufs: Vec<BufId> = Vec::new();
    rename_bufs(&mut body, &mut |b| {
        let number = bufs.iter().position(|x| *x == b).unwrap_or_else(|| {
            bufs.push(b);
            bufs.len() - 1
        });
        BufId(number as u32)
    });
    let mut vars: HashMap<Var, Var> = HashMap::new();
    walk_stmts_mut(&mut body, &mut |s| {
        if let Stmt::For(l) = s {
            let number = Var(vars.len() as u32);
            l.var = *vars.entry(l.var).or_insert(number);
        }
    });
    walk_affine_mut(&mut body, &mut |a| {
        let mut renamed = Affine::constant(a.offset());
        a.terms().iter().for_each(|(v, c)| renamed.add_term(vars.get(v).copied().unwrap_or(*v), *c));
        *a = renamed;
    });
    let mut key = String::new();
    // Writing to a string cannot fail.
    let _ = write!(key, "{body:?}");
    for b in bufs {
        if let Some(b) = program.buffers.get(b.0 as usize) {
            let local = b.role == nestjit_ir::Role::Local;
            let _ = write!(
                key,
                "|{local} {} {:?} {:?} {:?} {:?}",
                b.dtype, b.shape, b.layout, b.halo, b.halo_fill
            );
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use nestjit_ir::{Buffer, DType, Expr, NestBuilder, Role};

    #[test]
    fn names_do_not_matter_but_shapes_and_constants_do() {
        let mut p = Program::default();
        let mut nest = |name: &str, n: usize, c: f32| {
            let x = p.add_buffer(Buffer::new(format!("x{name}"), DType::F32, &[n], Role::In));
            let y = p.add_buffer(Buffer::new(format!("y{name}"), DType::F32, &[n], Role::Out));
            let mut b = NestBuilder::new(&mut p, name);
            b.for_(name, n, |b, i| b.store(y, [i], Expr::load(x, [i]) * Expr::f32(c)));
            b.finish()
        };
        let ids = [nest("a", 4, 2.0), nest("b", 4, 2.0), nest("c", 5, 2.0), nest("d", 4, 3.0)];
        let keys: Vec<String> = ids.iter().map(|&i| key(&p, &p.nests[i])).collect();
        assert_eq!(keys[0], keys[1]);
        assert!(keys[0] != keys[2] && keys[0] != keys[3]);
    }
}
