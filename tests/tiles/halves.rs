//! Contractions of `f32` in `bf16` in matrix tiles.

use nestjit::graph::Model;
use nestjit::{DType, Executable, GraphBuilder, Precision, Tensor, bf16};

use crate::{compiler, emulator};

fn in_tiles(executable: &Executable) -> bool {
    (0..executable.kernels()).any(|n| executable.computes(n).contains(&"bf16 in tiles"))
}

fn rounded(tensor: &Tensor) -> Vec<f64> {
    tensor.values::<f32>().unwrap().iter().map(|v| bf16::from_f32(*v).to_f64()).collect()
}

#[test]
fn products_are_those_of_rounded_operands_for_every_number_of_threads() {
    if !emulator::install() {
        return;
    }
    let mut used = 0;
    // Sums of more than 2,048 products are cut into blocks.
    for [m, k, n] in [[64, 256, 64], [50, 130, 70], [33, 2500, 40], [17, 65, 33], [96, 512, 31]] {
        for constant in [true, false] {
            let mut g = GraphBuilder::new("product");
            let random = |shape: &[usize], seed| Tensor::random(DType::F32, shape, seed).unwrap();
            let (left, right) = (random(&[m, k], 1), random(&[k, n], 2));
            let x = g.input("x", DType::F32, &[m, k]);
            let w = if constant { g.constant("w", right.clone()) } else { g.input("w", DType::F32, &[k, n]) };
            let y = g.matmul(x, w);
            let y = g.relu(y);
            g.output("y", y);
            let model = Model::from(g.build().unwrap());
            let mut inputs = vec![left.clone()];
            inputs.extend((!constant).then(|| right.clone()));
            let compile = |threads| compiler(threads).precision(Precision::Bf16).compile(&model).unwrap();
            let executable = compile(1);
            if !in_tiles(&executable) {
                continue;
            }
            used += 1;
            let found = executable.run(&inputs).unwrap();
            for threads in [2, 3] {
                assert_eq!(compile(threads).run(&inputs).unwrap(), found, "{threads} threads");
            }
            let (x, w) = (rounded(&left), rounded(&right));
            for (at, y) in found[0].values::<f32>().unwrap().iter().enumerate() {
                let (i, j) = (at / n, at % n);
                let terms = (0..k).map(|l| x[i * k + l] * w[l * n + j]);
                let magnitude: f64 = terms.clone().map(f64::abs).sum();
                let exact = terms.sum::<f64>().max(0.0);
                let limit = f64::from(f32::EPSILON) * (2.0 + (k as f64).sqrt()) * (1.0 + magnitude);
                assert!((f64::from(*y) - exact).abs() <= limit, "{m}x{k}x{n} [{i},{j}]: {y}, not {exact}");
            }
        }
    }
    assert!(used > 3, "{used} products used tiles");
}
