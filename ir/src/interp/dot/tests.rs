//! The short way gives the same bits and the same errors as the general way.

use std::collections::HashMap;

use crate::interp::{InterpError, Mode, Value, interpret, no_calls};
use crate::{Buffer, DType, Expr, NestBuilder, Program, ReduceOp, Role};

/// A convolution over one row with several channels.
#[derive(Clone, Copy, Debug)]
struct Conv {
    out: usize,
    channels: usize,
    taps: usize,
    width: usize,
    /// `x[c, stride*o + flip*k - pad]`.
    stride: i64,
    flip: i64,
    pad: i64,
    fill: Option<f32>,
    /// Whether the loop over the outputs is the innermost one, so that the sum moves.
    moving: bool,
}

impl Conv {
    /// Runs it, as a sum of products or with the product wrapped so that it is not recognised as one.
    fn run(self, plain: bool, mode: Mode) -> Result<Option<Value>, InterpError> {
        let mut p = Program::default();
        let x = p.add_buffer(Buffer::new("x", DType::F32, &[self.channels, self.width], Role::In));
        let w = p.add_buffer(Buffer::new("w", DType::F32, &[self.taps, self.channels], Role::Const));
        let y = p.add_buffer(Buffer::new("y", DType::F32, &[self.out], Role::Out));
        let mut b = NestBuilder::new(&mut p, "conv");
        b.for_("f", self.out, |b, o| b.store(y, [o], Expr::f32(0.25)));
        let (names, extents) = match self.moving {
            false => (["o", "c", "k"], [self.out, self.channels, self.taps]),
            true => (["k", "c", "o"], [self.taps, self.channels, self.out]),
        };
        b.for_all(&names, &extents, |b, v| {
            let (o, c, k) = if self.moving { (v[2], v[1], v[0]) } else { (v[0], v[1], v[2]) };
            let at = [c.into(), o * self.stride + k * self.flip - self.pad];
            let x = match self.fill {
                Some(fill) => Expr::load_or(x, at, Expr::f32(fill)),
                None => Expr::load(x, at),
            };
            let product = Expr::load(w, [k, c]) * x;
            let wrapped = Expr::bool(true).select(product.clone(), Expr::f32(0.0));
            b.reduce(ReduceOp::Add, y, [o], if plain { product } else { wrapped });
        });
        b.finish();
        let number = |i: usize| (i * 37 % 19) as f64 / 7.0 - 1.0;
        let inputs = HashMap::from([
            (x, Value::from_fn(DType::F32, &[self.channels, self.width], number)),
            (w, Value::from_fn(DType::F32, &[self.taps, self.channels], |i| number(i + 5))),
        ]);
        interpret(&p, &inputs, mode, &no_calls).map(|mut o| o.remove(&y))
    }
}

#[test]
fn sums_of_products_are_computed_as_written() {
    for [out, channels, taps, width] in [[6, 3, 3, 6], [4, 1, 5, 3], [3, 2, 1, 9], [2, 0, 3, 4], [2, 2, 0, 4]]
    {
        for (stride, flip, pad) in
            [(1, 1, 1), (2, 1, 2), (1, -1, -2), (1, -2, 0), (3, 0, 4), (0, -1, 2), (1, 1, 40)]
        {
            for (moving, mode) in [(false, Mode::Exact), (true, Mode::Exact), (false, Mode::F64)] {
                let conv = Conv { out, channels, taps, width, stride, flip, pad, fill: Some(0.5), moving };
                match (conv.run(true, mode), conv.run(false, mode)) {
                    (Ok(Some(a)), Ok(Some(b))) => assert!(a.same_bits(&b), "{conv:?}: {a:?} {b:?}"),
                    other => panic!("{conv:?}: {other:?}"),
                }
            }
        }
    }
}

#[test]
fn leaving_a_buffer_is_an_error_all_the_same() {
    for moving in [false, true] {
        let mut conv =
            Conv { out: 4, channels: 2, taps: 3, width: 6, stride: 1, flip: 1, pad: 0, fill: None, moving };
        assert!(conv.run(true, Mode::Exact).is_ok());
        conv.width = 5;
        let error = conv.run(true, Mode::Exact);
        assert_eq!(
            error.clone().unwrap_err().to_string(),
            "nest @conv: index [0, 5] is outside %x of shape [2, 5]"
        );
        assert_eq!(error, conv.run(false, Mode::Exact));
    }
}
