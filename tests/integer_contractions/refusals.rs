//! What is left as it is, with the reason.

use nestjit::graph::{Format, Op, ValueId, Window};
use nestjit::ir::Program;
use nestjit::{DType, Tensor};

use crate::maker::{Form, Maker, Zero};
use crate::{contractions, rewritten};

/// The codes and words of what the pass says of a graph, which has one contraction and keeps it.
fn refusal(build: impl FnOnce(&mut Maker) -> ValueId) -> (String, String) {
    let mut m = Maker::new("refused");
    let y = build(&mut m);
    let (graph, _) = m.finish(&[y]);
    let (after, remarks) = rewritten(&graph);
    assert_eq!(contractions(&after), contractions(&graph));
    let [remark] = remarks.as_slice() else { panic!("{remarks:?}") };
    assert!(!remark.applied());
    (remark.code().to_owned(), remark.message(&Program::default()))
}

#[test]
fn sums_that_need_not_fit() {
    let i8 = Form::of(DType::I8, false, Zero::None);
    let product = |terms: usize, zero: Zero| {
        move |m: &mut Maker| {
            let x = m.quantised(Form::of(DType::U8, false, zero), &[1, terms]);
            let w = m.quantised(i8, &[terms, 1]);
            m.g.matmul(x, w)
        }
    };
    let (code, message) = refusal(product(65_794, Zero::None));
    assert_eq!(code, "sum-overflow");
    let why = "sums of 65794 products can leave 32 bits, which hold those of 65793 at most";
    assert!(message.ends_with(why), "{message}");
    let mut m = Maker::new("fits");
    let y = product(65_793, Zero::None)(&mut m);
    let (graph, _) = m.finish(&[y]);
    assert_eq!(contractions(&rewritten(&graph).0), [[DType::U8, DType::I8]]);
    // Weights that are known to be small leave room for more.
    let mut m = Maker::new("small weights");
    let x = m.quantised(Form::of(DType::U8, false, Zero::None), &[1, 100_000]);
    let w = m.g.constant("w", Tensor::new(&[100_000, 1], &vec![1i8; 100_000]).unwrap());
    let w = m.g.cast(w, DType::F32);
    let y = m.g.matmul(x, w);
    let (graph, _) = m.finish(&[y]);
    assert_eq!(contractions(&rewritten(&graph).0), [[DType::U8, DType::I8]]);
}

#[test]
fn scales_that_are_part_of_the_sum() {
    let (code, message) = refusal(|m| {
        let x = m.quantised(Form { axis: Some(1), ..Form::of(DType::U8, false, Zero::None) }, &[3, 8]);
        let w = m.quantised(Form::of(DType::I8, true, Zero::None), &[8, 4]);
        m.g.matmul(x, w)
    });
    assert_eq!(code, "scale-along-sum");
    assert!(message.ends_with("varies along dimension 1, which is summed up"), "{message}");
    let (code, _) = refusal(|m| {
        let x = m.quantised(Form { axis: Some(1), ..Form::of(DType::U8, false, Zero::None) }, &[1, 3, 5]);
        let w = m.quantised(Form::of(DType::I8, true, Zero::None), &[4, 3, 1]);
        let window = Window {
            kernel: vec![1],
            strides: vec![1],
            dilations: vec![1],
            pads_begin: vec![0],
            pads_end: vec![0],
        };
        m.one(Op::Conv { window, groups: 1, format: Format::ChannelsFirst, pad_value: 0 }, &[x, w])
    });
    assert_eq!(code, "scale-along-sum");
}

#[test]
fn operands_that_are_not_quantised() {
    let (code, message) = refusal(|m| {
        let x = m.given(Tensor::random(DType::F32, &[3, 8], 1).unwrap());
        let w = m.quantised(Form::of(DType::I8, true, Zero::None), &[8, 4]);
        m.g.matmul(x, w)
    });
    assert_eq!(code, "float-operand");
    assert!(message.ends_with("'in0' is not (q - zero) * scale of an 8-bit tensor q"), "{message}");
}

#[test]
fn scales_that_are_no_numbers() {
    for scale in [f32::NAN, f32::INFINITY] {
        let (code, _) = refusal(|m| {
            let x = m.quantised(Form::of(DType::U8, false, Zero::None), &[3, 8]);
            let w = m.bytes(DType::I8, &[8, 4]);
            let w = m.g.constant("w", w);
            let w = m.g.cast(w, DType::F32);
            let scale = m.g.constant("scale", Tensor::scalar(scale));
            let w = m.g.mul(w, scale);
            m.g.matmul(x, w)
        });
        assert_eq!(code, "scale");
    }
}
