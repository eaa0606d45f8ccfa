//! Contractions of bytes and of halves: sums of `i32(a) * i32(b)`, one factor unsigned and the other signed, or of
//! `f32(a) * f32(b)` with factors of `bf16`, are made of dot products of as many neighbours as 32 bits hold.
//!
//! One loop of the reduction is cut into groups, each of which one instruction adds up. One operand must be contiguous
//! along it and the same for all columns; the other is laid out so that the elements of a group lie innermost
//! ([`nestjit_ir::Layout::interleave`]). This module finds the loop; code generation recognises the result by its strides.

use nestjit_ir::{Index, Load, Program, Var};

use super::choose::TileKind;
use super::leaf::{Contraction, Leaf};
use super::machine::TileMachine;
use super::relayout::relayable;
use crate::passes::schedule::indices::stride;

/// What dot products are made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Products {
    /// An unsigned byte and a signed one.
    Bytes,
    /// Two `bf16`.
    Halves,
}

impl Products {
    /// How many a dot product adds up.
    pub const fn group(self) -> usize {
        match self {
            Products::Bytes => 4,
            Products::Halves => 2,
        }
    }
}

/// How a contraction is made of dot products.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Group {
    /// What they are made of.
    pub of: Products,
    /// The loop of the reduction that is cut, and its extent.
    pub along: (Var, usize),
    /// The dimension that it runs through in the operand that differs for each column.
    pub dim: usize,
}

impl Group {
    /// The products that a dot product adds up.
    pub fn size(&self) -> usize {
        self.of.group()
    }

    /// How often a dot product is computed for one output.
    pub fn steps(&self, c: &Contraction) -> usize {
        c.steps() / self.along.1.max(1) * self.along.1.div_ceil(self.size())
    }
}

/// For each contraction of a leaf, how it is made of dot products if this loop is vectorised; `None` if it cannot be.
pub fn groups(
    program: &Program,
    leaf: &Leaf,
    columns: Var,
    (machine, kind): (&TileMachine, TileKind),
) -> Vec<Option<Group>> {
    let has = |products: &Products| machine.has(kind, *products);
    leaf.contractions.iter().map(|c| group(program, leaf, c, columns, &has)).collect()
}

fn group(
    program: &Program,
    leaf: &Leaf,
    c: &Contraction,
    columns: Var,
    has: &dyn Fn(&Products) -> bool,
) -> Option<Group> {
    let [a, b] = c.loads.as_slice() else { return None };
    let of = c.products.filter(has).filter(|_| c.alone)?;
    let (shared, apart) = match (leaf.varies(a, columns), leaf.varies(b, columns)) {
        (false, true) => (a, b),
        (true, false) => (b, a),
        (true, true) | (false, false) => return None,
    };
    let across = relayable(program, leaf, apart, columns)?;
    let group = |&along: &(Var, usize)| {
        let contiguous = stride(program, shared.buf, &shared.index, along.0) == Some(1);
        let dim = own_dimension(apart, along.0, of.group()).filter(|&d| d != across)?;
        (contiguous && unguarded(program, shared, along)).then_some(Group { of, along, dim })
    };
    c.reduced.iter().filter_map(group).min_by_key(|g| g.steps(c))
}

/// The only dimension that a loop runs through, step by step, if groups begin where those of its iterations do.
fn own_dimension(load: &Load, var: Var, group: usize) -> Option<usize> {
    let mut found = None;
    for (d, index) in load.index.iter().enumerate() {
        let Index::Affine(a) = index else { return None };
        if !a.uses(var) {
            continue;
        }
        let whole = |c: i64| c % group as i64 == 0;
        let aligned =
            whole(a.offset()) && a.terms().iter().all(|&(v, c)| if v == var { c == 1 } else { whole(c) });
        if found.is_some() || !aligned {
            return None;
        }
        found = Some(d);
    }
    found
}

/// Whether what a load yields outside its buffer does not depend on the iteration of a loop.
fn unguarded(program: &Program, load: &Load, (var, extent): (Var, usize)) -> bool {
    load.otherwise.is_none()
        || load.index.iter().zip(&program.buf(load.buf).shape).all(|(index, &size)| match index {
            Index::Affine(a) => !a.uses(var) || (a.as_var() == Some(var) && extent <= size),
            Index::Value(_) => false,
        })
}
