//! Translation validation: a nest pass must leave a program that computes what it computed before.
//!
//! Both programs are interpreted on the same random inputs, in `f64`, so that the order of a sum hardly
//! matters and the comparison can be strict.

use nestjit_ir::interp::Mode;
use nestjit_ir::{BufId, DType};

use super::{Effect, Pass};
use crate::error::{Error, ErrorKind, Result};
use crate::interpret::interpret;
use crate::tensor::Tensor;
use crate::unit::Unit;

/// How far results may usually differ, in relation to the largest magnitude of the output: constants that a pass
/// transforms are rounded to `f32`, everything else is computed in `f64`.
const TOLERANCE: f64 = 1e-6;

/// How far results may differ where operands are rounded to `bf16`: products of two that are off by 2^-9 each.
const ROUNDED_TOLERANCE: f64 = 1.0 / 128.0;

/// How far a pass may change results.
pub(super) fn tolerance(pass: &Pass) -> f64 {
    match pass.effect {
        Some(Effect::Rounds) => ROUNDED_TOLERANCE,
        Some(Effect::Merges | Effect::Filters) | None => TOLERANCE,
    }
}

/// Whether two units compute the same, as far as the tolerance goes, in relation to the largest magnitude of an output.
///
/// # Errors
/// [`ErrorKind::Internal`] with the first difference.
pub(super) fn same_results(before: &Unit, after: &Unit, tolerance: f64) -> Result<()> {
    let inputs = random_inputs(before)?;
    let expected = interpret(before, &inputs, Mode::F64);
    let found = interpret(after, &inputs, Mode::F64);
    match (expected, found) {
        // Random indices may be outside; then both programs must say so.
        (Err(e), Err(f)) if e.kind() == ErrorKind::Index && f.kind() == ErrorKind::Index => Ok(()),
        (Err(e), _) => Err(Error::internal(format!("the program before the pass fails: {e}"))),
        (_, Err(e)) => Err(Error::internal(format!("the program after the pass fails: {e}"))),
        (Ok(expected), Ok(found)) => {
            let outputs = expected.iter().zip(&found).zip(&before.outputs);
            outputs
                .into_iter()
                .try_for_each(|((e, f), id)| compare(&before.program.buf(*id).name, e, f, tolerance))
        }
    }
}

fn compare(name: &str, expected: &Tensor, found: &Tensor, tolerance: f64) -> Result<()> {
    if expected.dtype() != DType::F64 {
        return if expected == found { Ok(()) } else { Err(Error::internal(format!("%{name} differs"))) };
    }
    let (expected, found) = (expected.values::<f64>()?, found.values::<f64>()?);
    let largest = expected.iter().filter(|v| v.is_finite()).fold(1.0f64, |m, v| m.max(v.abs()));
    for (i, (e, f)) in expected.iter().zip(found).enumerate() {
        let same = e == f || (e.is_nan() && f.is_nan()) || (e - f).abs() <= tolerance * largest;
        if !same {
            return Err(Error::internal(format!("element {i} of %{name} is {f} instead of {e}")));
        }
    }
    Ok(())
}

fn random_inputs(unit: &Unit) -> Result<Vec<Tensor>> {
    let random = |(seed, id): (usize, &BufId)| {
        let buffer = unit.program.buf(*id);
        Tensor::random(buffer.dtype, &buffer.shape, seed as u64)
    };
    unit.inputs.iter().enumerate().map(random).collect()
}

#[cfg(test)]
mod tests {
    use nestjit_ir::{Buffer, Expr, NestBuilder, Role};

    use super::*;

    /// `y[i] = x[i] + add`
    fn unit(add: f32, index: i64) -> Unit {
        let mut unit = Unit::default();
        let p = &mut unit.program;
        let x = p.add_buffer(Buffer::new("x", DType::F32, &[4], Role::In));
        let y = p.add_buffer(Buffer::new("y", DType::F32, &[4], Role::Out));
        let mut b = NestBuilder::new(p, "add");
        b.for_("i", 4, |b, i| b.store(y, [i], Expr::load(x, [i + index]) + Expr::f32(add)));
        b.finish();
        (unit.inputs, unit.outputs) = (vec![x], vec![y]);
        unit
    }

    #[test]
    fn a_difference_is_found_and_named() {
        same_results(&unit(1.0, 0), &unit(1.0, 0), TOLERANCE).unwrap();
        let error = same_results(&unit(1.0, 0), &unit(1.001, 0), TOLERANCE).unwrap_err();
        assert!(error.message().starts_with("element 0 of %y is "), "{error}");
        let error = same_results(&unit(1.0, 0), &unit(1.0, 1), TOLERANCE).unwrap_err();
        assert!(error.message().contains("outside %x"), "{error}");
    }
}
