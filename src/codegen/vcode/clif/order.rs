//! The order of instructions in the loop of a register tile.

use crate::codegen::hash::FastMap;
use crate::codegen::vcode::{Inst, Reg};

/// The body of a loop that only loads and accumulates products, ordered so that all products of a vector
/// operand follow each other: then one such operand is live at a time, beside the accumulators and one
/// broadcast operand, which is loaded where it is needed. `None` if the body is of another kind.
pub(super) fn by_vector_operand(body: &[Inst]) -> Option<Vec<&Inst>> {
    let mut loads: FastMap<Reg, (&Inst, bool)> = FastMap::default();
    let mut groups: Vec<(Reg, Vec<&Inst>)> = Vec::new();
    for inst in body {
        match inst {
            Inst::Load { dst, from } => {
                loads.insert(*dst, (inst, from.stride == 0));
            }
            Inst::Fma { dst, a, b, c } if dst == c => {
                let is_broadcast = |r: &Reg| loads.get(r).map(|l| l.1);
                let vector = match (is_broadcast(a)?, is_broadcast(b)?) {
                    (true, _) => *b,
                    _ => *a,
                };
                // An accumulator that occurs twice keeps its order: its products are in the same group, or
                // in groups that are ordered by first occurrence.
                match groups.iter_mut().find(|g| g.0 == vector) {
                    Some(group) => group.1.push(inst),
                    None => groups.push((vector, vec![inst])),
                }
            }
            _ => return None,
        }
    }
    let mut ordered = Vec::with_capacity(body.len());
    for (_, products) in groups {
        for product in products {
            let Inst::Fma { a, b, .. } = product else { continue };
            for operand in [a, b] {
                if let Some((load, _)) = loads.remove(operand) {
                    ordered.push(load);
                }
            }
            ordered.push(product);
        }
    }
    Some(ordered)
}
