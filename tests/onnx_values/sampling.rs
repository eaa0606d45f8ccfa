//! Resize and GridSample: integers are narrowed once, cubic kernels keep their weights at the border.

use nestjit::Tensor;
use nestjit::onnx::proto::tensor_proto::DataType;

use super::common::onnx::{f32s, i64s, int, node, string, with};
use super::{assert_gives, floats, noise, single, tensor_of};

const IMAGE: [u8; 12] = [0, 255, 30, 200, 10, 250, 90, 60, 128, 7, 255, 0];

#[test]
fn integers_are_interpolated_exactly_and_narrowed_once() {
    // Up: [1, 1, 3, 4] to [1, 1, 5, 6], down: to [1, 1, 2, 3]. The exact results, rounded and saturated.
    let cubic = [
        0, 149, 241, 45, 97, 230, 0, 154, 255, 70, 74, 159, 0, 145, 248, 120, 60, 57, 81, 83, 119, 198, 113,
        0, 153, 35, 16, 251, 159, 0,
    ];
    let linear = [
        0, 128, 218, 68, 115, 200, 4, 128, 220, 87, 99, 144, 10, 130, 223, 117, 75, 60, 81, 92, 118, 175,
        106, 24, 128, 68, 48, 214, 128, 0,
    ];
    let smooth = [72, 152, 125, 88, 144, 69];
    for (mode, antialias, size, expected) in [
        ("cubic", 0, [5usize, 6], &cubic[..]),
        ("linear", 1, [2, 3], &smooth),
        ("linear", 0, [5, 6], &linear),
    ] {
        let resize = with(node("Resize", &["x", "", "", "s"], &["y"]), string("mode", mode));
        let resize = with(resize, int("antialias", antialias));
        let sizes = || vec![i64s("s", &[4], &[1, 1, size[0] as i64, size[1] as i64])];
        let shape = [1, 1, size[0], size[1]];
        // 67.5 and the like are between two: what they become depends on how weights such as 1/3 are rounded.
        let known = |model, x: &Tensor, expected: &Tensor| match mode == "linear" && antialias == 0 {
            true => assert_within_a_step(model, x, expected),
            false => assert_gives(model, std::slice::from_ref(x), std::slice::from_ref(expected), 0.0),
        };
        let model = single(19, resize.clone(), &[("x", DataType::Uint8, &[1, 1, 3, 4])], sizes());
        let y: Vec<u8> = expected.iter().map(|v| *v as u8).collect();
        known(model, &Tensor::new(&[1, 1, 3, 4], &IMAGE).unwrap(), &Tensor::new(&shape, &y).unwrap());
        // The same, shifted.
        let model = single(19, resize.clone(), &[("x", DataType::Int8, &[1, 1, 3, 4])], sizes());
        let x: Vec<i8> = IMAGE.iter().map(|v| (i16::from(*v) - 128) as i8).collect();
        let y: Vec<i8> = expected.iter().map(|v| (*v - 128) as i8).collect();
        known(model, &Tensor::new(&[1, 1, 3, 4], &x).unwrap(), &Tensor::new(&shape, &y).unwrap());
    }
}

#[track_caller]
fn assert_within_a_step(model: nestjit::onnx::proto::ModelProto, x: &Tensor, expected: &Tensor) {
    let graph = super::import(model).unwrap();
    let executable = nestjit::Compiler::new().threads(1).compile(&graph.into()).unwrap();
    let y = executable.run(std::slice::from_ref(x)).unwrap().remove(0);
    assert_eq!((y.shape(), y.dtype()), (expected.shape(), expected.dtype()));
    for (a, e) in floats(&y).iter().zip(floats(expected)) {
        assert!((a - e).abs() <= 1.0, "{a} instead of {e}");
    }
}

#[test]
fn old_resizes_and_upsamples_of_integers_narrow_once_too() {
    // 255 * 3/4 * 3/4 = 143.4375: 143; narrowed after each dimension it would be 191 * 3/4 = 143.25.
    // 254 in a corner: 190.5 becomes 190, then 142.5 becomes 142; once, 142.875 becomes 143.
    let scales = || vec![f32s("s", &[4], &[1.0, 1.0, 4.0, 4.0])];
    let x = Tensor::new(&[1, 1, 2, 2], &[254u8, 0, 0, 0]).unwrap();
    let at = |i: usize| [1.0f64, 0.75, 0.5, 0.25, 0.0, 0.0, 0.0, 0.0][i];
    let y: Vec<u8> = (0..64).map(|i| (254.0 * at(i / 8) * at(i % 8)).round_ties_even() as u8).collect();
    let y = Tensor::new(&[1, 1, 8, 8], &y).unwrap();
    for (op, version) in [("Resize", 10), ("Upsample", 9)] {
        let resize = with(node(op, &["x", "s"], &["y"]), string("mode", "linear"));
        let model = single(version, resize, &[("x", DataType::Uint8, &[1, 1, 2, 2])], scales());
        assert_gives(model, std::slice::from_ref(&x), std::slice::from_ref(&y), 0.0);
    }
}

/// Elements of a row of whole numbers that a resize of its last two dimensions picks, by scales.
fn picked(
    version: i64,
    attributes: &[(&str, &str)],
    [height, width]: [usize; 2],
    scales: [f32; 2],
) -> Vec<f64> {
    let inputs: &[&str] = if version < 11 { &["x", "s"] } else { &["x", "", "s"] };
    let mut resize = with(node("Resize", inputs, &["y"]), string("mode", "nearest"));
    for (name, value) in attributes {
        resize = with(resize, string(name, value));
    }
    let scales = vec![f32s("s", &[4], &[1.0, 1.0, scales[0], scales[1]])];
    let dims = [1, 1, height, width];
    let model = single(version, resize, &[("x", DataType::Float, &dims)], scales);
    let x: Vec<f32> = (0..height * width).map(|i| i as f32).collect();
    let graph = super::import(model).unwrap();
    let executable = nestjit::Compiler::new().threads(1).compile(&graph.into()).unwrap();
    floats(&executable.run(&[Tensor::new(&[1, 1, height, width], &x).unwrap()]).unwrap()[0])
}

#[test]
fn nearest_elements_are_those_of_onnx_runtime() {
    // Rows shrink, columns grow: each by its own rule.
    let mixed = picked(10, &[], [4, 3], [0.5, 2.0]);
    assert_eq!(mixed, [0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 6.0, 6.0, 7.0, 7.0, 8.0, 8.0]);
    // Points that are whole are not rounded away from.
    let symmetric = [("coordinate_transformation_mode", "half_pixel_symmetric")];
    for (mode, expected) in [("ceil", [1.0, 3.0, 5.0]), ("floor", [1.0, 3.0, 5.0])] {
        let attributes = [symmetric[0], ("nearest_mode", mode)];
        assert_eq!(picked(19, &attributes, [1, 7], [1.0, 0.5]), expected, "{mode}");
    }
    // (i + 0.5) / scale, rounded down from the middle.
    let old = [("coordinate_transformation_mode", "tf_half_pixel_for_nn"), ("nearest_mode", "floor")];
    assert_eq!(picked(11, &old, [1, 4], [1.0, 1.5]), [0.0, 1.0, 1.0, 2.0, 3.0, 3.0]);
}

#[test]
fn sizes_of_no_element_are_empty_or_refused() {
    for (from, to, fine) in
        [([0, 3], [0, 0], true), ([2, 3], [0, 5], true), ([0, 3], [0, 6], true), ([0, 3], [2, 3], false)]
    {
        let resize = with(node("Resize", &["x", "", "", "s"], &["y"]), string("mode", "linear"));
        let sizes = vec![i64s("s", &[4], &[1, 1, to[0], to[1]])];
        let imported = super::import(single(
            19,
            resize,
            &[("x", DataType::Float, &[1, 1, from[0] as usize, from[1] as usize])],
            sizes,
        ));
        match imported {
            Ok(graph) => {
                assert!(fine, "{from:?} -> {to:?}");
                let x =
                    Tensor::zeros(nestjit::DType::F32, &[1, 1, from[0] as usize, from[1] as usize]).unwrap();
                let executable = nestjit::Compiler::new().threads(1).compile(&graph.into()).unwrap();
                let y = executable.run(&[x]).unwrap().remove(0);
                assert_eq!(y.shape(), [1, 1, to[0] as usize, to[1] as usize]);
            }
            Err(e) => assert!(
                !fine && e.to_string().contains("dimension 2 has no element, and cannot become 2"),
                "{e}"
            ),
        }
    }
}

/// The reflection of a whole position; at the centres of the border elements, or at their outer edges.
fn reflected(at: i64, n: i64, centres: bool) -> i64 {
    let mut at = at;
    while !(0..n).contains(&at) {
        at = match (at < 0, centres) {
            (true, true) => -at,
            (true, false) => -1 - at,
            (false, true) => 2 * (n - 1) - at,
            (false, false) => 2 * n - 1 - at,
        };
    }
    at
}

/// Where a neighbour's element is: `None` for one that is 0.
fn resolved(at: i64, n: i64, padding: &str, corners: bool) -> Option<i64> {
    match padding {
        "zeros" => (0..n).contains(&at).then_some(at),
        "border" => Some(at.clamp(0, n - 1)),
        _ => Some(reflected(at, n, corners)),
    }
}

/// Neighbours of a point and their weights.
fn neighbours(x: f64, mode: &str) -> Vec<(i64, f64)> {
    let whole = x.floor();
    let t = x - whole;
    let a = -0.75;
    let near = |d: f64| ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0;
    let far = |d: f64| ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a;
    let weights = match mode {
        "nearest" => return vec![(x.round_ties_even() as i64, 1.0)],
        "linear" => vec![(0, 1.0 - t), (1, t)],
        _ => vec![(-1, far(t + 1.0)), (0, near(t)), (1, near(1.0 - t)), (2, far(2.0 - t))],
    };
    weights.into_iter().map(|(k, w)| (whole as i64 + k, w)).collect()
}

#[test]
fn neighbours_of_a_point_are_moved_and_not_the_point() {
    for spatial in [&[4usize, 5][..], &[3, 4, 2]] {
        let k = spatial.len();
        let x = noise(&[&[2, 2], spatial].concat(), 7);
        // Points up to one and a half images away from the centre.
        let points = 40;
        let out: Vec<usize> = (0..k).map(|d| if d == 0 { points } else { 1 }).collect();
        let grid = noise(&[&[2], &out[..], &[k]].concat(), 8);
        let grid = tensor_of(grid.shape(), |i| {
            let flat = (i[0] * points + i[1]) * k + i[k + 1];
            floats(&grid)[flat] * 3.0
        });
        let (elements, places) = (floats(&x), floats(&grid));
        for mode in ["nearest", "linear", "cubic"] {
            for padding in ["zeros", "border", "reflection"] {
                for corners in [false, true] {
                    let y = tensor_of(&[&[2, 2], &out[..]].concat(), |i| {
                        let mut sum = vec![(0i64, 1.0)];
                        for (d, n) in spatial.iter().enumerate() {
                            let g = places[(i[0] * points + i[2]) * k + (k - 1 - d)];
                            let n = *n as f64;
                            let at = match corners {
                                true => (g + 1.0) / 2.0 * (n - 1.0),
                                false => ((g + 1.0) * n - 1.0) / 2.0,
                            };
                            let mut more = Vec::new();
                            for (flat, weight) in &sum {
                                for (at, w) in neighbours(at, mode) {
                                    if let Some(at) = resolved(at, n as i64, padding, corners) {
                                        more.push((flat * n as i64 + at, weight * w));
                                    }
                                }
                            }
                            sum = more;
                        }
                        let size: usize = spatial.iter().product();
                        let start = (i[0] * 2 + i[1]) * size;
                        sum.iter().map(|(flat, w)| w * elements[start + *flat as usize]).sum()
                    });
                    let node = node("GridSample", &["x", "g"], &["y"]);
                    let node = with(with(node, string("mode", mode)), string("padding_mode", padding));
                    let node = with(node, int("align_corners", corners.into()));
                    let inputs = [("x", DataType::Float, x.shape()), ("g", DataType::Float, grid.shape())];
                    let model = single(20, node, &inputs, vec![]);
                    assert_gives(model, &[x.clone(), grid.clone()], &[y], 1e-4);
                }
            }
        }
    }
}

#[test]
fn the_only_element_of_pytorchs_half_pixels_is_the_first() {
    let x = Tensor::new(&[1, 1, 1, 4], &[3.0f32, -5.0, 8.0, 1.0]).unwrap();
    let y = Tensor::new(&[1, 1, 1, 1], &[3.0f32]).unwrap();
    for mode in ["cubic", "linear"] {
        let resize = with(node("Resize", &["x", "", "", "s"], &["y"]), string("mode", mode));
        let resize = with(resize, string("coordinate_transformation_mode", "pytorch_half_pixel"));
        let sizes = i64s("s", &[4], &[1, 1, 1, 1]);
        let model = single(19, resize, &[("x", DataType::Float, &[1, 1, 1, 4])], vec![sizes]);
        assert_gives(model, std::slice::from_ref(&x), std::slice::from_ref(&y), 1e-6);
    }
}

#[test]
fn resizing_by_nothing_leaves_large_integers_alone() {
    let x = Tensor::new(&[1, 1, 1, 2], &[i64::MAX, i64::MIN + 1]).unwrap();
    let resize = with(node("Resize", &["x", "", "", "s"], &["y"]), string("mode", "cubic"));
    let sizes = i64s("s", &[4], &[1, 1, 1, 2]);
    let model = single(19, resize, &[("x", DataType::Int64, &[1, 1, 1, 2])], vec![sizes]);
    assert_gives(model, std::slice::from_ref(&x), std::slice::from_ref(&x), 0.0);
}

#[test]
fn points_and_elements_may_be_of_different_types() {
    // Halfway between 1 and 4, then between 2 and 7.
    let points = [[-0.5f64, 0.0], [0.5, 0.0]];
    let flat: Vec<f64> = points.concat();
    let narrow: Vec<f32> = flat.iter().map(|v| *v as f32).collect();
    let wide = Tensor::new(&[1, 1, 2, 2], &flat).unwrap();
    let narrow = Tensor::new(&[1, 1, 2, 2], &narrow).unwrap();
    let image = [1u8, 2, 4, 7];
    let floats = Tensor::new(&[1, 1, 2, 2], &image.map(f32::from)).unwrap();
    let doubles = Tensor::new(&[1, 1, 2, 2], &image.map(f64::from)).unwrap();
    let bytes = Tensor::new(&[1, 1, 2, 2], &image).unwrap();
    let float = Tensor::new(&[1, 1, 1, 2], &[2.5f32, 4.5]).unwrap();
    let double = Tensor::new(&[1, 1, 1, 2], &[2.5f64, 4.5]).unwrap();
    // Both lie in the middle: to even.
    let byte = Tensor::new(&[1, 1, 1, 2], &[2u8, 4]).unwrap();
    for (x, of_x, grid, of_grid, y) in [
        (&floats, DataType::Float, &wide, DataType::Double, &float),
        (&doubles, DataType::Double, &narrow, DataType::Float, &double),
        (&bytes, DataType::Uint8, &narrow, DataType::Float, &byte),
    ] {
        let inputs = [("x", of_x, x.shape()), ("g", of_grid, grid.shape())];
        let model = single(16, node("GridSample", &["x", "g"], &["y"]), &inputs, vec![]);
        assert_gives(model, &[x.clone(), grid.clone()], std::slice::from_ref(y), 1e-6);
    }
}
