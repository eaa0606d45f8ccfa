//! Checks that a unit is well-formed: the program, and what the unit says about its buffers.
//!
//! The program is the business of [`nestjit_ir::verify`]; here are inputs and outputs, constants, runtime functions and
//! the memory plan. Lifetimes are found anew and not asked for where plans are made.

use std::collections::{BTreeMap, HashSet};

use nestjit_ir::access::accesses;
use nestjit_ir::verify::Stage;
use nestjit_ir::visit::walk_stmts;
use nestjit_ir::{BufId, Buffer, Program, Role, Stmt};

use crate::error::{Error, Result};
use crate::unit::{MemoryPlan, Unit};

/// The alignment of planned offsets.
const ALIGN: usize = 64;

/// Whether a unit is well-formed at a stage: code is generated for nothing else.
///
/// # Errors
/// [`crate::ErrorKind::Invalid`] with the first mistake.
pub fn verify(unit: &Unit, stage: Stage) -> Result<()> {
    if let Some(e) = nestjit_ir::verify::verify(&unit.program, stage).first() {
        return Err(Error::invalid(e.to_string()));
    }
    let lives = lives(&unit.program);
    interface(unit, &lives)
        .and_then(|()| functions(&unit.program))
        .and_then(|()| unit.plan.as_ref().map_or(Ok(()), |plan| memory(&unit.program, &lives, plan)))
        .map_err(Error::invalid)
}

/// The first and the last nest that touches a buffer. Locals are not among them.
type Lives = BTreeMap<BufId, (usize, usize)>;

fn lives(program: &Program) -> Lives {
    let mut lives = Lives::new();
    for (at, nest) in program.nests.iter().enumerate() {
        for access in accesses(&nest.body) {
            if program.buf(access.buf).role != Role::Local {
                lives.entry(access.buf).or_insert((at, at)).1 = at;
            }
        }
    }
    lives
}

/// Inputs, outputs and constants exist and are what they are called; those that nests touch are listed. The runtime
/// gives and takes inputs and outputs as they are, row by row.
fn interface(unit: &Unit, lives: &Lives) -> Result<(), String> {
    let program = &unit.program;
    let named = |b: BufId, role: Role, what: &str| match program.buffers.get(b.0 as usize) {
        None => Err(format!("{what} is buffer {}, which does not exist", b.0)),
        Some(buffer) if buffer.role != role => {
            Err(format!("{what} is %{}, whose role is '{}'", buffer.name, buffer.role.name()))
        }
        Some(buffer) => Ok(buffer),
    };
    let plain = |buffer: &Buffer, what: &str| match buffer.layout.is_row_major() && buffer.halo.is_empty() {
        true => Ok(()),
        false => Err(format!("{what} %{} must lie row by row, without panels or a halo", buffer.name)),
    };
    let mut inputs = HashSet::new();
    for &b in &unit.inputs {
        plain(named(b, Role::In, "an input")?, "the input")?;
        if !inputs.insert(b) {
            return Err(format!("%{} is listed as an input twice", program.buf(b).name));
        }
    }
    for &b in &unit.outputs {
        plain(named(b, Role::Out, "an output")?, "the output")?;
    }
    let mut consts: Vec<_> = unit.consts.iter().collect();
    consts.sort_by_key(|c| c.0);
    for (&b, tensor) in consts {
        let buffer = named(b, Role::Const, "a constant")?;
        if tensor.dtype() != buffer.dtype || tensor.shape().iter().product::<usize>() != buffer.len() {
            let (dtype, shape) = (buffer.dtype, &buffer.shape);
            let found = format!("{}{:?}", tensor.dtype(), tensor.shape());
            return Err(format!(
                "the constant %{} is {dtype}{shape:?}, but its data is {found}",
                buffer.name
            ));
        }
    }
    for &b in lives.keys() {
        let buffer = program.buf(b);
        let listed = match buffer.role {
            Role::In => inputs.contains(&b),
            Role::Out => unit.outputs.contains(&b),
            Role::Const => unit.consts.contains_key(&b),
            Role::Temp | Role::Local => true,
        };
        if !listed {
            let what = match buffer.role {
                Role::Const => "has no data",
                _ => "is not listed among the inputs and outputs",
            };
            return Err(format!("%{} {what}", buffer.name));
        }
    }
    Ok(())
}

/// Every call is of a function that the runtime has.
fn functions(program: &Program) -> Result<(), String> {
    let mut unknown = None;
    for nest in &program.nests {
        walk_stmts(&nest.body, &mut |s| {
            if let Stmt::Call(c) = s
                && c.function != "copy"
            {
                unknown.get_or_insert((&nest.name, &c.function));
            }
        });
    }
    match unknown {
        Some((nest, function)) => Err(format!("nest @{nest}: there is no runtime function '{function}'")),
        None => Ok(()),
    }
}

/// Every temporary has a place in the arena, and those that live at the same time have no byte in common.
fn memory(program: &Program, lives: &Lives, plan: &MemoryPlan) -> Result<(), String> {
    let mut placed: Vec<(usize, usize, &Buffer, (usize, usize))> = Vec::new();
    for (&b, &life) in lives {
        let buffer = program.buf(b);
        if buffer.role != Role::Temp {
            continue;
        }
        let Some(&start) = plan.offsets.get(&b) else {
            return Err(format!("the memory plan has no place for %{}", buffer.name));
        };
        let end = start.checked_add(MemoryPlan::bytes_of(buffer)).filter(|end| *end <= plan.bytes);
        let Some(end) = end.filter(|_| start.is_multiple_of(ALIGN)) else {
            return Err(format!(
                "the memory plan puts %{} at byte {start} of {}, where it does not fit",
                buffer.name, plan.bytes
            ));
        };
        placed.push((start, end, buffer, life));
    }
    placed.sort_by_key(|p| (p.0, p.1));
    for (i, (_, end, buffer, life)) in placed.iter().enumerate() {
        let behind = placed[i + 1..].iter().take_while(|other| other.0 < *end);
        let mut together =
            behind.filter(|(start, stop, _, other)| start < stop && other.0 <= life.1 && life.0 <= other.1);
        if let Some((.., other, _)) = together.next() {
            return Err(format!(
                "the memory plan gives %{} and %{}, which live at the same time, the same bytes",
                buffer.name, other.name
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::error::ErrorKind;
    use crate::tensor::Tensor;

    const CHAIN: &str = "
        nest @a(in %x: f32[4], const %c: f32[4], temp %t: f32[4]) { for i < 4 { %t[i] = %x[i] + %c[i] } }
        nest @b(temp %t: f32[4], temp %u: f32[4]) { for i < 4 { %u[i] = exp(%t[i]) } }
        nest @c(temp %u: f32[4], temp %v: f32[4]) { for i < 4 { %v[i] = exp(%u[i]) } }
        nest @d(temp %v: f32[4], out %y: f32[4]) { for i < 4 { %y[i] = %v[i] } }";

    fn unit(text: &str) -> Unit {
        let program = text.parse::<Program>().unwrap();
        let data = Tensor::new(&[4], &[1.0f32; 4]).unwrap();
        let constants = program.buffers.iter().any(|b| b.role == Role::Const).then_some(("c", data));
        Unit::from_program(program, constants).unwrap()
    }

    /// The mistake in a unit that [`CHAIN`] becomes after a change.
    fn mistake(change: impl FnOnce(&mut Unit)) -> String {
        let mut unit = unit(CHAIN);
        unit.plan = Some(crate::passes::separate_memory(&unit.program).unwrap());
        change(&mut unit);
        verify(&unit, Stage::Scheduled).map_or_else(
            |e| {
                assert_eq!(e.kind(), ErrorKind::Invalid);
                e.message().to_owned()
            },
            |()| String::new(),
        )
    }

    fn id(unit: &Unit, name: &str) -> BufId {
        unit.program.buf_ids().find(|b| unit.program.buf(*b).name == name).unwrap()
    }

    #[test]
    fn plans_are_checked() {
        let plan = |unit: &mut Unit, offsets: [(&str, usize); 3], bytes: usize| {
            let offsets = offsets.map(|(name, at)| (id(unit, name), at)).into_iter().collect();
            unit.plan = Some(MemoryPlan { offsets, bytes });
        };
        assert_eq!(mistake(|_| ()), "");
        assert_eq!(mistake(|u| u.plan = None), "");
        assert_eq!(mistake(|u| plan(u, [("t", 0), ("u", 64), ("v", 0)], 128)), "");
        let overlap = "the memory plan gives %t and %u, which live at the same time, the same bytes";
        assert_eq!(mistake(|u| plan(u, [("t", 0), ("u", 0), ("v", 64)], 128)), overlap);
        let outside = "the memory plan puts %v at byte 128 of 128, where it does not fit";
        assert_eq!(mistake(|u| plan(u, [("t", 0), ("u", 64), ("v", 128)], 128)), outside);
        let unaligned = "the memory plan puts %u at byte 16 of 128, where it does not fit";
        assert_eq!(mistake(|u| plan(u, [("t", 0), ("u", 16), ("v", 64)], 128)), unaligned);
        let far = format!("the memory plan puts %u at byte {} of 64, where it does not fit", usize::MAX - 63);
        assert_eq!(mistake(|u| plan(u, [("t", 0), ("u", usize::MAX - 63), ("v", 64)], 64)), far);
        assert_eq!(mistake(|u| u.plan = Some(MemoryPlan::default())), "the memory plan has no place for %t");
    }

    #[test]
    fn the_interface_is_checked() {
        assert_eq!(mistake(|u| u.inputs[0] = BufId(99)), "an input is buffer 99, which does not exist");
        assert_eq!(mistake(|u| u.inputs[0] = id(u, "t")), "an input is %t, whose role is 'temp'");
        assert_eq!(mistake(|u| u.inputs.push(u.inputs[0])), "%x is listed as an input twice");
        assert_eq!(mistake(|u| u.outputs.push(BufId(7))), "an output is buffer 7, which does not exist");
        assert_eq!(mistake(|u| u.outputs.push(id(u, "x"))), "an output is %x, whose role is 'in'");
        let unlisted = |name| format!("%{name} is not listed among the inputs and outputs");
        assert_eq!(mistake(|u| u.inputs.clear()), unlisted("x"));
        assert_eq!(mistake(|u| u.outputs.clear()), unlisted("y"));
        assert_eq!(mistake(|u| u.consts.clear()), "%c has no data");
        let short = Arc::new(Tensor::new(&[3], &[1.0f32; 3]).unwrap());
        assert_eq!(
            mistake(|u| drop(u.consts.insert(id(u, "c"), short))),
            "the constant %c is f32[4], but its data is f32[3]"
        );
        let integers = Arc::new(Tensor::new(&[4], &[1i32; 4]).unwrap());
        assert_eq!(
            mistake(|u| drop(u.consts.insert(BufId(50), integers))),
            "a constant is buffer 50, which does not exist"
        );
        let reversed = |u: &mut Unit| u.program.buf_mut(BufId(0)).halo = vec![(1, 1)];
        assert_eq!(mistake(reversed), "the input %x must lie row by row, without panels or a halo");
    }

    #[test]
    fn functions_that_do_not_exist_are_refused() {
        let unit = unit("nest @f(in %x: f32[4], out %y: f32[4]) { call g(%x) -> (%y) }");
        let error = verify(&unit, Stage::Lowered).unwrap_err();
        assert_eq!(error.to_string(), "nest @f: there is no runtime function 'g'");
    }
}
