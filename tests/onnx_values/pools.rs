//! Where the maxima of windows are: in the tensor, not in the padding, whatever the elements are.

use nestjit::Tensor;
use nestjit::onnx::proto::tensor_proto::DataType;

use super::common::onnx::{int, ints, node, with};
use super::{assert_gives, single};

/// Images of two channels.
const CHANNELS: usize = 2;

#[derive(Clone, Copy)]
struct Pool {
    image: [usize; 2],
    kernel: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
    pads: [usize; 4],
    column_major: bool,
}

impl Pool {
    /// The results, and where they are, by loops over the taps that are inside.
    fn expected<T: Copy + PartialOrd>(&self, x: &[T]) -> (Vec<usize>, Vec<T>, Vec<i64>) {
        let [height, width] = self.image;
        let windows = |d: usize| {
            let reach = (self.kernel[d] - 1) * self.dilations[d] + 1;
            (self.image[d] + self.pads[d] + self.pads[d + 2] - reach) / self.strides[d] + 1
        };
        let shape = vec![1, CHANNELS, windows(0), windows(1)];
        let (mut values, mut places) = (Vec::new(), Vec::new());
        for c in 0..CHANNELS {
            for (row, column) in (0..shape[2]).flat_map(|r| (0..shape[3]).map(move |c| (r, c))) {
                let at = |d: usize, o: usize, k: usize| {
                    (o * self.strides[d] + k * self.dilations[d]).checked_sub(self.pads[d])
                };
                let mut best: Option<(T, usize)> = None;
                for (i, j) in (0..self.kernel[0]).flat_map(|i| (0..self.kernel[1]).map(move |j| (i, j))) {
                    let (Some(y), Some(z)) = (at(0, row, i), at(1, column, j)) else { continue };
                    if y >= height || z >= width {
                        continue;
                    }
                    let value = x[(c * height + y) * width + z];
                    let place = if self.column_major { z * height + y } else { y * width + z };
                    if best.is_none_or(|(most, _)| value > most) {
                        best = Some((value, c * height * width + place));
                    }
                }
                let (value, place) = best.expect("a window has a tap inside");
                values.push(value);
                places.push(place as i64);
            }
        }
        (shape, values, places)
    }

    fn check<T: nestjit::Element + Copy + PartialOrd>(&self, dtype: DataType, x: &[T]) {
        let pair = |n: [usize; 2]| n.map(|n| n as i64);
        let mut pool = node("MaxPool", &["x"], &["y", "i"]);
        for attribute in [
            ints("kernel_shape", &pair(self.kernel)),
            ints("strides", &pair(self.strides)),
            ints("dilations", &pair(self.dilations)),
            ints("pads", &self.pads.map(|n| n as i64)),
            int("storage_order", self.column_major.into()),
        ] {
            pool = with(pool, attribute);
        }
        let image = [1, CHANNELS, self.image[0], self.image[1]];
        let (shape, values, places) = self.expected(x);
        let expected = [Tensor::new(&shape, &values).unwrap(), Tensor::new(&shape, &places).unwrap()];
        let x = Tensor::new(&image, x).unwrap();
        assert_gives(single(12, pool, &[("x", dtype, &image)], vec![]), &[x], &expected, 0.0);
    }
}

#[test]
fn a_maximum_is_where_the_first_of_the_largest_elements_is() {
    let plain = Pool {
        image: [5, 6],
        kernel: [3, 2],
        strides: [2, 1],
        dilations: [1, 1],
        pads: [1, 1, 2, 0],
        column_major: false,
    };
    let pools = [
        plain,
        Pool { column_major: true, ..plain },
        Pool { dilations: [2, 3], pads: [3, 2, 1, 2], ..plain },
        Pool { kernel: [2, 3], strides: [1, 3], dilations: [3, 1], pads: [1, 2, 3, 2], ..plain },
    ];
    let n = CHANNELS * 30;
    for pool in pools {
        // The least element of a type is no smaller than what padding could be.
        pool.check(DataType::Uint8, &vec![0u8; n]);
        pool.check(DataType::Int8, &vec![i8::MIN; n]);
        pool.check(DataType::Float, &vec![f32::NEG_INFINITY; n]);
        pool.check(DataType::Double, &vec![f64::NEG_INFINITY; n]);
        let mixed: Vec<u8> = (0..n).map(|i| (i * 7 % 5 / 3) as u8).collect();
        pool.check(DataType::Uint8, &mixed);
        let mixed: Vec<f32> = (0..n).map(|i| [f32::NEG_INFINITY, -2.0, 1.5][i * 11 % 7 % 3]).collect();
        pool.check(DataType::Float, &mixed);
    }
}
