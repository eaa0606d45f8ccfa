//! Repeated elements: an enlarged image is written by what computes the small one.
//!
//! ```text
//! for i < 8 { for r < 2 { %y[2*i+r] = %x[i] } }      for i < 8 { %y[2*i] = %x[i]; %y[2*i+1] = %x[i] }
//! ```
//!
//! Without the loop, the stores can follow the producer's as an epilogue.

use nestjit_ir::{Affine, Stmt, Var, visit};

use super::align::{Head, perfect, wrap};

/// A value is stored at most this often.
const MAX_COPIES: usize = 16;

/// A nest that only stores, without the loops that the stored value does not depend on.
pub(super) fn unrolled(body: &[Stmt]) -> Option<Vec<Stmt>> {
    let [Stmt::For(l)] = body else { return None };
    let (heads, innermost) = perfect(l);
    let [Stmt::Store(store)] = innermost else { return None };
    let used = visit::expr_vars(&store.value);
    let (kept, repeated): (Vec<Head>, Vec<Head>) = heads.iter().partition(|h| used.contains(&h.var));
    let copies = repeated.iter().map(|h| h.extent).fold(1, usize::saturating_mul);
    if kept.is_empty() || repeated.is_empty() || copies > MAX_COPIES {
        return None;
    }
    let mut stores = vec![Stmt::Store(store.clone())];
    for head in &repeated {
        stores = (0..head.extent)
            .flat_map(|at| stores.iter().map(move |s| (s.clone(), at)))
            .map(|(s, at)| at_iteration(s, head.var, at))
            .collect();
    }
    Some(wrap(&kept, stores))
}

fn at_iteration(store: Stmt, var: Var, at: usize) -> Stmt {
    let mut body = [store];
    visit::subst_var(&mut body, var, &Affine::constant(at as i64));
    let [store] = body;
    store
}

#[cfg(test)]
mod tests {
    use nestjit_ir::{Buffer, DType, Expr, NestBuilder, Program, Role};

    use super::*;

    #[test]
    fn only_values_that_repeat_are_stored_several_times() {
        let mut p = Program::default();
        let x = p.add_buffer(Buffer::new("x", DType::F32, &[8], Role::In));
        let y = p.add_buffer(Buffer::new("y", DType::F32, &[16], Role::Out));
        let mut b = NestBuilder::new(&mut p, "repeat");
        b.for_("i", 8, |b, i| {
            b.for_("r", 2, |b, r| b.store(y, [i * 2 + r], Expr::load(x, [i])));
        });
        b.finish();
        let stored = |body: &[Stmt]| {
            let mut stores = 0;
            visit::walk_stmts(body, &mut |s| stores += usize::from(matches!(s, Stmt::Store(_))));
            stores
        };
        let result = unrolled(&p.nests[0].body).unwrap();
        assert_eq!((visit::count_stmts(&result), stored(&result)), (3, 2));
        let mut b = NestBuilder::new(&mut p, "copy");
        b.for_("i", 8, |b, i| b.store(y, [i], Expr::load(x, [i])));
        b.finish();
        assert_eq!(unrolled(&p.nests[1].body), None);
    }
}
