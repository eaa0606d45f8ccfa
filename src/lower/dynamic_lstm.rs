//! The recurrent products of an LSTM whose state is quantised in each step: 8-bit integers are multiplied, and the
//! zero points and scales come behind the sums. The rest of the cell is that of any LSTM.
//!
//! `sum((q - z) * (r - zr)) = sum(q * r) - z * sum(r) - zr * sum(q - z)`, where the sums of `r` are constants as a rule,
//! and the last term is not there for weights without zero points.

use nestjit_ir::{Affine, BufId, DType, Expr, NestBuilder, ReduceOp, SCALAR, UnOp, Var};

use super::context::{Context, Loop, accumulate, loops};
use super::operand::{Array, Operand};
use crate::error::Result;
use crate::tensor::Tensor;

/// The recurrent weights of all directions, and the names of what steps compute.
pub(super) struct Weights {
    r: Array,
    scale: Operand,
    /// Zero points, unless they are all 0.
    zero: Option<Operand>,
    /// The sums of `r` along the hidden units, `[D, 4*H]`.
    sums: Array,
    local: LocalNames,
}

struct LocalNames {
    low: String,
    high: String,
    scale: String,
    zero: String,
    q: String,
    row: String,
    acc: String,
}

/// A state in 8 bits: `(q - zero) * scale`.
pub(super) struct Bytes {
    q: BufId,
    scale: BufId,
    zero: BufId,
    /// The sums of `q - zero` of each sequence, where the weights have zero points.
    row: Option<BufId>,
}

impl Weights {
    /// The operands 1 to 3.
    pub fn new(cx: &mut Context<'_, '_>) -> Result<Weights> {
        let (r, scale) = (cx.array(1)?, cx.operand(2)?);
        let none = |zero: &Tensor| zero.values::<i32>().map(|zeros| zeros.iter().all(|zero| *zero == 0));
        let zero = match cx.data(3).map(none).transpose()? {
            Some(true) => None,
            _ => Some(cx.operand(3)?),
        };
        let sums = sums(cx, &r)?;
        let local = LocalNames {
            low: cx.name("low"),
            high: cx.name("high"),
            scale: cx.name("scale"),
            zero: cx.name("zero"),
            q: cx.name("q"),
            row: cx.name("row"),
            acc: cx.name("acc"),
        };
        Ok(Weights { r, scale, zero, sums, local })
    }

    /// The state `h`, `[batch, hidden]`, in 8 bits.
    pub fn quantize(&self, b: &mut NestBuilder<'_>, h: BufId, [batch, hidden]: [usize; 2]) -> Bytes {
        let names = &self.local;
        let f32 = |value: f64| Expr::literal(DType::F32, value);
        // 0 belongs to the range.
        let mut extremum = |name: &str, op: ReduceOp| {
            let acc = b.temp(name, DType::F32, &[]);
            b.store(acc, SCALAR, f32(0.0));
            b.for_all(&["b", "k"], &[batch, hidden], |b, v| {
                b.reduce(op, acc, SCALAR, Expr::load(h, [v[0], v[1]]));
            });
            Expr::load(acc, SCALAR)
        };
        let (low, high) = (extremum(&names.low, ReduceOp::Min), extremum(&names.high, ReduceOp::Max));
        let scale = b.temp(&names.scale, DType::F32, &[]);
        let span = high.clone() - low.clone();
        b.store(scale, SCALAR, high.equals(low.clone()).select(f32(1.0), span / f32(255.0)));
        let zero = b.temp(&names.zero, DType::F32, &[]);
        let offset = low.unary(UnOp::Neg) / Expr::load(scale, SCALAR);
        b.store(zero, SCALAR, offset.max(f32(0.0)).min(f32(255.0)).unary(UnOp::Round));
        let q = b.temp(&names.q, DType::U8, &[batch, hidden]);
        b.for_all(&["b", "k"], &[batch, hidden], |b, v| {
            let steps = (Expr::load(h, [v[0], v[1]]) / Expr::load(scale, SCALAR)).unary(UnOp::Round);
            let shifted = steps + Expr::load(zero, SCALAR);
            b.store(q, [v[0], v[1]], shifted.max(f32(0.0)).min(f32(255.0)).cast(DType::U8));
        });
        let row = self.zero.as_ref().map(|_| {
            let row = b.temp(&names.row, DType::I32, &[batch]);
            b.for_("b", batch, |b, i| {
                let k: [Loop; 1] = [("k".into(), hidden)];
                let sum = accumulate(b, &names.acc, ReduceOp::Add, DType::I32, &k, |k| {
                    Expr::load(q, [i, k[0]]).cast(DType::I32)
                });
                let zeros =
                    Expr::load(zero, SCALAR).cast(DType::I32) * Expr::literal(DType::I32, hidden as f64);
                b.store(row, [i], sum - zeros);
            });
            row
        });
        Bytes { q, scale, zero, row }
    }

    /// The product of a sequence's state with a row of the weights of a direction.
    pub fn product(
        &self,
        b: &mut NestBuilder<'_>,
        state: &Bytes,
        sequence: Var,
        [d, m]: [Affine; 2],
    ) -> Expr {
        let hidden = self.r.shape[2];
        let k: [Loop; 1] = [("k".into(), hidden)];
        let mut sum = accumulate(b, &self.local.acc, ReduceOp::Add, DType::I32, &k, |k| {
            let q = Expr::load(state.q, [sequence, k[0]]).cast(DType::I32);
            q * self.r.at([d.clone(), m.clone(), k[0].into()]).cast(DType::I32)
        });
        let zero = Expr::load(state.zero, SCALAR).cast(DType::I32);
        sum = sum - zero * self.sums.at([d.clone(), m.clone()]);
        if let (Some(zero), Some(row)) = (&self.zero, state.row) {
            sum = sum - zero.at([d.clone(), m.clone()]) * Expr::load(row, [sequence]);
        }
        sum.cast(DType::F32) * (Expr::load(state.scale, SCALAR) * self.scale.at([d, m]))
    }
}

/// The sums of the weights along their last dimension.
fn sums(cx: &mut Context<'_, '_>, r: &Array) -> Result<Array> {
    let [directions, rows, hidden] = r.shape[..] else { unreachable!("inference says that the rank is 3") };
    if let Some(r) = cx.data(1) {
        let sum = |row: &[i8]| row.iter().map(|r| i32::from(*r)).sum::<i32>();
        let sums: Vec<i32> = match hidden {
            0 => vec![0; directions * rows],
            _ => r.values::<i8>()?.chunks_exact(hidden).map(sum).collect(),
        };
        return cx.constant("r_sums", Tensor::new(&[directions, rows], &sums)?);
    }
    let y = cx.temp("r_sums", DType::I32, &[directions, rows])?;
    let acc = cx.name("r_acc");
    let mut nest = cx.nest("r_sums");
    loops(&mut nest, &[("d".into(), directions), ("m".into(), rows)], |nest, v| {
        let sum = accumulate(nest, &acc, ReduceOp::Add, DType::I32, &[("k".into(), hidden)], |k| {
            r.at([v[0], v[1], k[0]]).cast(DType::I32)
        });
        y.store(nest, v, sum);
    });
    nest.finish();
    Ok(y)
}
