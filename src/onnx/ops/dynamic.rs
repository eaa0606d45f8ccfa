//! Operators whose results' shapes are values, which the host runs unless the values are constants; and the
//! determinant, which is written out.

use super::{Halt, NodeCx, OpEntry, Result, axis, host, ints, one, op};
use crate::graph::{Binary, Op, ValueId};
use crate::host::{HostOp, Item, boxes, order, select};

pub(super) const OPS: &[OpEntry] = &[
    op("Compress", 9, compress).always_on_host(|n| {
        let axis = n.attributes.int("axis")?;
        Ok(HostOp::tensor(move |x| select::compress(x.tensor(0)?, x.tensor(1)?, axis)))
    }),
    op("Det", 11, det).in_f32(&[0]),
    op("NonMaxSuppression", 10, host::at_once).always_on_host(|n| {
        let center = n.attributes.int("center_point_box")?.unwrap_or(0) != 0;
        Ok(HostOp::tensor(move |x| {
            let limits = [x.optional(2)?, x.optional(3)?, x.optional(4)?];
            boxes::suppress(x.tensor(0)?, x.tensor(1)?, limits, center)
        }))
    }),
    op("NonZero", 9, host::at_once)
        .always_on_host(|_| Ok(HostOp::tensor(|x| select::non_zero(x.tensor(0)?)))),
    op("Unique", 11, host::at_once).always_on_host(|n| {
        let (axis, sorted) = (n.attributes.int("axis")?, n.attributes.int("sorted")?.unwrap_or(1) != 0);
        Ok(HostOp::new(4, move |x| {
            let results = order::unique(x.tensor(0)?, axis, sorted)?;
            Ok(results.into_iter().map(Item::Tensor).collect())
        }))
    }),
];

/// Elements that a known condition chooses are gathered.
fn compress(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let (mut x, condition) = (cx.input(0)?, cx.input(1)?);
    let along = match cx.attributes.int("axis")? {
        Some(along) => axis(along, cx.rank(x))?,
        None => {
            let count = cx.elements(x);
            x = cx.reshape(x, &[count])?;
            0
        }
    };
    let condition = cx.known_constant(condition, "the shape of the result")?;
    let kept = ints(&condition, "the condition")?;
    let n = cx.shape(x)[along];
    if kept.len() > n {
        return Err(Halt::shape(format!("there are {} conditions, but only {n} elements", kept.len())));
    }
    let kept: Vec<i64> = kept.iter().enumerate().filter(|(_, k)| **k != 0).map(|(i, _)| i as i64).collect();
    let kept = cx.values(&[kept.len()], &kept)?;
    one(cx.gather(x, kept, along))
}

/// The largest matrix whose determinant is written out.
const DET: usize = 6;

/// The determinant by minors: of the last `k` rows, for every set of `k` columns.
fn det(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let shape = cx.shape(x);
    let [outer @ .., rows, n] = shape.as_slice() else {
        return Err(Halt::shape("the operand must have at least 2 dimensions"));
    };
    let (n, outer) = (*n, outer.to_vec());
    if *rows != n {
        return Err(Halt::shape(format!("the matrices of a tensor of shape {shape:?} are not square")));
    }
    if n > DET {
        return Err(Halt::unsupported(format!(
            "the determinant of a matrix of {n} x {n} elements is not supported; {DET} x {DET} is the most"
        )));
    }
    let rank = shape.len();
    let element = |cx: &mut NodeCx<'_>, row: usize, column: usize| {
        let row = cx.narrow(x, rank - 2, row, 1)?;
        let element = cx.narrow(row, rank - 1, column, 1)?;
        cx.reshape(element, &outer)
    };
    let unit = cx.scalar_like(x, 1.0);
    let unit = cx.expand(unit, &outer)?;
    let mut minors: Vec<Option<ValueId>> = vec![None; 1 << n];
    minors[0] = Some(unit);
    for columns in 1usize..1 << n {
        let row = n - columns.count_ones() as usize;
        let mut sum: Option<ValueId> = None;
        for (place, column) in (0..n).filter(|c| columns >> c & 1 == 1).enumerate() {
            let Some(minor) = minors[columns & !(1 << column)] else { continue };
            let factor = element(cx, row, column)?;
            let term = cx.add(Op::Binary(Binary::Mul), &[factor, minor])?;
            sum = Some(match sum {
                None => term,
                Some(sum) => cx.binary(if place % 2 == 0 { Binary::Add } else { Binary::Sub }, sum, term)?,
            });
        }
        minors[columns] = sum;
    }
    one(minors[(1 << n) - 1].ok_or_else(|| Halt::internal("a determinant without terms")))
}
