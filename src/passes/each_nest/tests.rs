//! What is done once for all nests that are equal is what is done for each of them.

use std::cell::Cell;

use nestjit_ir::excerpt::Key;
use proptest::prelude::*;

use crate::compiler::Scheduled;
use crate::graph::{GraphBuilder, Model, ValueId};
use crate::machine::Isa;
use crate::options::{Fusion, Options};
use crate::remark::Subject;
use crate::{Activation, Compiler, DType, Sequential, Tensor, zoo};

thread_local! {
    /// The number of the next thing to be set apart, if anything is.
    static NEXT: Cell<Option<u64>> = const { Cell::new(None) };
}

pub(super) fn set_apart(key: &mut Key) {
    if let Some(n) = NEXT.get() {
        key.push(n);
        NEXT.set(Some(n + 1));
    }
}

fn scheduled(model: &Model, options: &Options) -> Scheduled {
    let options = Options { keep_programs: true, ..options.clone() };
    Compiler::with_options(options).schedule(model).expect("the model compiles")
}

fn same(model: &Model, options: &Options) {
    let once = scheduled(model, options);
    NEXT.set(Some(0));
    let each = scheduled(model, options);
    NEXT.set(None);
    for ((pass, once), (_, each)) in once.programs().iter().zip(each.programs()) {
        assert!(once == each, "after {pass}:\n{once}\n{each}");
    }
    // Numbers and all.
    assert_eq!(once.unit().program, each.unit().program);
    assert_eq!(once.unit().plan, each.unit().plan);
    assert_eq!(once.remarks(), each.remarks());
}

#[test]
fn networks_are_scheduled_alike() {
    for name in ["bert_minilm@16", "mobilenet_v2@32", "resnet18@32", "lstm_seq", "mlp10"] {
        let model = zoo::build(name).expect("the zoo builds");
        same(&model, &Options { threads: Some(3), isa: Some(Isa::Avx2), ..Options::default() });
        same(&model, &Options { threads: Some(1), fusion: Fusion::Epilogue, ..Options::default() });
    }
}

#[test]
fn what_is_said_names_the_nest_it_is_about() {
    let model = Sequential::new(&[4, 64]).dense(64, Activation::Relu).dense(64, Activation::Relu).build();
    let scheduled = scheduled(&model.expect("it builds"), &Options::default());
    let remarks = scheduled.remarks();
    for nest in &scheduled.unit().program.nests {
        assert!(
            remarks.iter().any(|r| r.pass() == "Tile" && r.subject == Subject::Nest(nest.name.clone())),
            "{remarks:#?}"
        );
    }
    assert!(remarks.iter().all(|r| !format!("{r:?}").contains("u{e000}")), "{remarks:#?}");
}

fn layer(g: &mut GraphBuilder, x: ValueId, kind: usize) -> ValueId {
    let width = g.shape(x)[1];
    let mut constant = |shape: &[usize]| {
        let values = Tensor::random(DType::F32, shape, 7).expect("the values fit into memory");
        g.constant("c", values)
    };
    match kind {
        0 => {
            let w = constant(&[width, width]);
            let product = g.matmul(x, w);
            g.relu(product)
        }
        1 => g.softmax(x, 1),
        2 => {
            let sum = g.reduce_sum(x, &[0], true);
            g.sub(x, sum)
        }
        3 => {
            let w = constant(&[width]);
            let moved = g.add(x, w);
            g.tanh(moved)
        }
        4 => {
            let transposed = g.transpose(x, &[1, 0]);
            let product = g.matmul(x, transposed);
            g.matmul(product, x)
        }
        _ => {
            let half = g.slice_axis(x, 1, width / 2, width / 2);
            g.concat(&[half, half], 1)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn random_layers_are_scheduled_alike(
        layers in proptest::collection::vec((0usize..6, 1usize..3), 2..7),
        (width, rows) in (prop_oneof![Just(16usize), Just(40), Just(64)], prop_oneof![Just(1usize), Just(6), Just(50)]),
        threads in 1usize..4,
    ) {
        let mut g = GraphBuilder::new("layers");
        let mut x = g.input("x", DType::F32, &[rows, width]);
        for (kind, times) in layers {
            for _ in 0..times {
                x = layer(&mut g, x, kind);
            }
        }
        g.output("y", x);
        let model = g.build().expect("the graph is valid").into();
        same(&model, &Options { threads: Some(threads), ..Options::default() });
    }
}
