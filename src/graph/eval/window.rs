//! Convolution and pooling.
//!
//! Both go through every result and every element of its window; a convolution gathers the windows of one
//! sample and group into a matrix first, so that the sums are a matrix product.

use ndarray::{Array2, ArrayD, ArrayView2, ArrayViewD, Axis, IxDyn};

use super::array::int_range;
use super::contraction::{Number, product_type};
use super::scalar::{binary_int, maximum};
use super::{Array, Data};
use crate::graph::{Binary, Format, PoolKind, Window};

/// Windows gathered at a time: bounds the size of the gathered matrix.
const CHUNK: usize = 4096;

/// `x` with the channels at dimension 1.
fn channels_first<T>(x: &ArrayD<T>, format: Format) -> ArrayViewD<'_, T> {
    let mut view = x.view();
    if format == Format::ChannelsLast {
        let order = [0, x.ndim() - 1].into_iter().chain(1..x.ndim() - 1);
        view = view.permuted_axes(order.collect::<Vec<_>>());
    }
    view
}

/// Back from [`channels_first`].
fn to_format<T: Clone>(y: ArrayD<T>, format: Format) -> ArrayD<T> {
    match format {
        Format::ChannelsFirst => y,
        Format::ChannelsLast => {
            let order: Vec<usize> = [0].into_iter().chain(2..y.ndim()).chain([1]).collect();
            y.permuted_axes(order).as_standard_layout().into_owned()
        }
    }
}

/// The windows over one spatial shape: where each element of each window lies in the input.
struct Windows<'a> {
    window: &'a Window,
    input: Vec<usize>,
    output: Vec<usize>,
}

/// The place of a window's element.
#[derive(Clone, Copy)]
enum Place {
    /// The offset among the input's elements, row-major.
    Inside(usize),
    Padding,
    /// Beyond the padding: only the last window in ceil mode gets there.
    Beyond,
}

impl Windows<'_> {
    fn count(&self) -> usize {
        self.output.iter().product()
    }

    fn window_len(&self) -> usize {
        self.window.kernel.iter().product()
    }

    /// Element `element` of window number `number`, both counted row-major.
    fn place(&self, number: usize, element: usize) -> Place {
        let (mut number, mut element) = (number, element);
        let (mut offset, mut stride) = (0, 1);
        let mut padding = false;
        for d in (0..self.input.len()).rev() {
            let at = (number % self.output[d]) * self.window.strides[d]
                + (element % self.window.kernel[d]) * self.window.dilations[d];
            number /= self.output[d];
            element /= self.window.kernel[d];
            let begin = self.window.pads_begin[d];
            if at >= begin + self.input[d] + self.window.pads_end[d] {
                return Place::Beyond;
            }
            match at.checked_sub(begin).filter(|at| *at < self.input[d]) {
                Some(at) => offset += at * stride,
                None => padding = true,
            }
            stride *= self.input[d];
        }
        if padding { Place::Padding } else { Place::Inside(offset) }
    }
}

/// Samples and channels apart, the spatial dimensions as one: `[N][C][S]`.
fn flat_spatial<T: Copy>(x: &ArrayD<T>, format: Format) -> ndarray::Array3<T> {
    let view = channels_first(x, format);
    let (samples, channels) = (view.shape()[0], view.shape()[1]);
    let spatial: usize = view.shape()[2..].iter().product();
    let standard = view.as_standard_layout().into_owned();
    standard.into_shape_with_order((samples, channels, spatial)).expect("the spatial dimensions are merged")
}

/// A shape with the channels at dimension 1.
fn shape_first(shape: &[usize], format: Format) -> Vec<usize> {
    match format {
        Format::ChannelsFirst => shape.to_vec(),
        Format::ChannelsLast => [&shape[..1], &shape[shape.len() - 1..], &shape[1..shape.len() - 1]].concat(),
    }
}

/// What a convolution is.
pub(super) struct Conv<'a> {
    pub window: &'a Window,
    pub groups: usize,
    pub format: Format,
    pub pad_value: i16,
}

impl Conv<'_> {
    /// The convolution of `inputs`, of this shape.
    pub fn apply(&self, inputs: &[&Array], shape: &[usize]) -> Array {
        let [x, weight, rest @ ..] = inputs else { unreachable!("inference counts the operands") };
        match (&x.data, &weight.data) {
            (Data::Float(values), Data::Float(weights)) => {
                let bias = rest.first().map(|bias| bias.floats());
                let pad = f64::from(self.pad_value);
                Array::float(x.dtype, self.sums(values, weights, bias, pad, |a, b| a + b, shape))
            }
            _ => {
                let bias = rest.first().map(|bias| bias.ints());
                let pad = i64::from(self.pad_value);
                let sums = self.sums(x.ints(), weight.ints(), bias, pad, i64::wrapping_add, shape);
                Array::int(product_type(x, weight), sums)
            }
        }
    }

    fn sums<T: Number + Default>(
        &self,
        x: &ArrayD<T>,
        weight: &ArrayD<T>,
        bias: Option<&ArrayD<T>>,
        pad: T,
        add: impl Fn(T, T) -> T,
        shape: &[usize],
    ) -> ArrayD<T> {
        let (groups, format) = (self.groups, self.format);
        let result_shape = shape_first(shape, format);
        let windows = Windows {
            window: self.window,
            input: shape_first(x.shape(), format)[2..].to_vec(),
            output: result_shape[2..].to_vec(),
        };
        let input = flat_spatial(x, format);
        let filters = weight.shape()[0];
        let group_channels = weight.shape()[1];
        let group_filters = filters / groups;
        let depth = group_channels * windows.window_len();
        let weights = weight.to_shape((filters, depth)).expect("a filter is a row");
        let count = windows.count();
        let mut result = ndarray::Array3::<T>::default((result_shape[0], filters, count));
        for (sample, mut result) in input.outer_iter().zip(result.outer_iter_mut()) {
            for group in 0..groups {
                let channels = group * group_channels..(group + 1) * group_channels;
                let channels = sample.slice_axis(Axis(0), channels.into());
                let rows = group * group_filters..(group + 1) * group_filters;
                let weights = weights.slice_axis(Axis(0), rows.clone().into());
                for first in (0..count).step_by(CHUNK) {
                    let numbers = first..count.min(first + CHUNK);
                    let gathered = gather(&windows, channels, numbers.clone(), pad);
                    let mut result = result.slice_axis_mut(Axis(0), rows.clone().into());
                    result.slice_axis_mut(Axis(1), numbers.into()).assign(&T::dot(weights, gathered.view()));
                }
            }
            if let Some(bias) = bias {
                for (mut channel, bias) in result.outer_iter_mut().zip(bias) {
                    channel.mapv_inplace(|sum| add(sum, *bias));
                }
            }
        }
        let result = result.into_shape_with_order(IxDyn(&result_shape)).expect("the windows are the result");
        to_format(result, format)
    }
}

/// A column for each window: the elements it covers, channel by channel; padding is `pad`.
fn gather<T: Copy>(
    windows: &Windows,
    channels: ArrayView2<T>,
    numbers: std::ops::Range<usize>,
    pad: T,
) -> Array2<T> {
    let len = windows.window_len();
    let mut matrix = Array2::from_elem((channels.nrows() * len, numbers.len()), pad);
    for element in 0..len {
        let places: Vec<Place> = numbers.clone().map(|number| windows.place(number, element)).collect();
        for (c, channel) in channels.outer_iter().enumerate() {
            let channel = channel.to_slice().expect("channels are contiguous");
            for (value, place) in matrix.row_mut(c * len + element).iter_mut().zip(&places) {
                if let Place::Inside(offset) = place {
                    *value = channel[*offset];
                }
            }
        }
    }
    matrix
}

pub(super) fn pool(x: &Array, kind: PoolKind, window: &Window, format: Format, shape: &[usize]) -> Array {
    let input = shape_first(x.shape(), format)[2..].to_vec();
    let result_shape = shape_first(shape, format);
    let windows = Windows { window, input, output: result_shape[2..].to_vec() };
    match (&x.data, kind) {
        (Data::Float(values), PoolKind::Max) => {
            let max = |elements: &[f64], _| elements.iter().copied().fold(f64::NEG_INFINITY, maximum);
            Array::float(x.dtype, each_window(values, &windows, format, &result_shape, max))
        }
        (Data::Int(values), _) => {
            let least = int_range(x.dtype).0;
            let max = |elements: &[i64], _| {
                elements.iter().copied().fold(least, |a, b| binary_int(Binary::Max, x.dtype, a, b))
            };
            Array::int(x.dtype, each_window(values, &windows, format, &result_shape, max))
        }
        (Data::Float(values), PoolKind::Average { count_include_pad }) => {
            let mean = |elements: &[f64], padding: usize| {
                let count = elements.len() + if count_include_pad { padding } else { 0 };
                elements.iter().sum::<f64>() / count as f64
            };
            Array::float(x.dtype, each_window(values, &windows, format, &result_shape, mean))
        }
    }
}

/// Applies `f` to the elements of each window, and to how many of its places are padding.
fn each_window<T: Copy>(
    x: &ArrayD<T>,
    windows: &Windows,
    format: Format,
    shape: &[usize],
    f: impl Fn(&[T], usize) -> T,
) -> ArrayD<T> {
    let input = flat_spatial(x, format);
    let places: Vec<Place> = (0..windows.count())
        .flat_map(|number| (0..windows.window_len()).map(move |element| windows.place(number, element)))
        .collect();
    let mut results = Vec::with_capacity(shape.iter().product());
    for channel in input.outer_iter().flat_map(|sample| sample.into_outer_iter()) {
        for places in places.chunks(windows.window_len()) {
            let inside = places.iter().filter_map(|place| match place {
                Place::Inside(offset) => Some(channel[*offset]),
                _ => None,
            });
            let elements: Vec<T> = inside.collect();
            let padding = places.iter().filter(|place| matches!(place, Place::Padding)).count();
            results.push(f(&elements, padding));
        }
    }
    let results = ArrayD::from_shape_vec(IxDyn(shape), results).expect("a result for each window");
    to_format(results, format)
}

pub(super) fn global_pool(x: &Array, kind: PoolKind, format: Format) -> Array {
    let mut shape = shape_first(x.shape(), format);
    shape[2..].fill(1);
    fn per_channel<T: Copy>(
        x: &ArrayD<T>,
        format: Format,
        shape: &[usize],
        f: impl Fn(ndarray::ArrayView1<T>) -> T,
    ) -> ArrayD<T> {
        let flat = flat_spatial(x, format);
        let channels = flat.outer_iter().flat_map(|sample| sample.into_outer_iter());
        let results: Vec<T> = channels.map(f).collect();
        to_format(ArrayD::from_shape_vec(IxDyn(shape), results).expect("a result per channel"), format)
    }
    match (&x.data, kind) {
        (Data::Float(values), PoolKind::Max) => {
            let max = |c: ndarray::ArrayView1<f64>| c.iter().copied().fold(f64::NEG_INFINITY, maximum);
            Array::float(x.dtype, per_channel(values, format, &shape, max))
        }
        (Data::Float(values), PoolKind::Average { .. }) => {
            let mean = |c: ndarray::ArrayView1<f64>| c.sum() / c.len() as f64;
            Array::float(x.dtype, per_channel(values, format, &shape, mean))
        }
        (Data::Int(values), _) => {
            let least = int_range(x.dtype).0;
            let max = |c: ndarray::ArrayView1<i64>| {
                c.iter().copied().fold(least, |a, b| binary_int(Binary::Max, x.dtype, a, b))
            };
            Array::int(x.dtype, per_channel(values, format, &shape, max))
        }
    }
}
