//! Which operands can be had in another layout.

use nestjit_ir::{Index, Load, Program, Role, Var};

use super::leaf::Leaf;
use crate::passes::schedule::indices::stride;

/// How often each element of an operand that is not a constant must be used at least for a copy in another
/// layout to pay.
const REUSE: f64 = 16.0;

/// The dimension of an operand that runs with `var`, if another layout can make it contiguous: constants are
/// laid out at compile time, other operands are copied if they are used often enough.
pub fn packable(program: &Program, leaf: &Leaf, load: &Load, var: Var) -> Option<usize> {
    let pays = match program.buf(load.buf).role {
        Role::Const => true,
        Role::Local | Role::In | Role::Out | Role::Temp => {
            stride(program, load.buf, &load.index, var).is_some_and(|s| !matches!(s, 0 | 1))
        }
    };
    if pays { relayable(program, leaf, load, var) } else { None }
}

/// The dimension of an operand that runs with `var`, if the operand can be had in another layout in which that is
/// contiguous.
pub fn relayable(program: &Program, leaf: &Leaf, load: &Load, var: Var) -> Option<usize> {
    let buffer = program.buf(load.buf);
    let possible = match buffer.role {
        Role::Const => true,
        Role::Local => false,
        Role::In | Role::Out | Role::Temp => {
            !leaf.written.contains(&load.buf) && leaf.macs() >= REUSE * buffer.len() as f64
        }
    };
    if !possible || load.otherwise.is_some() {
        return None;
    }
    let mut found = None;
    for (d, i) in load.index.iter().enumerate() {
        let Index::Affine(a) = i else { return None };
        match a.coeff(var) {
            0 => {}
            1 if found.is_none() => found = Some(d),
            _ => return None,
        }
    }
    found
}
