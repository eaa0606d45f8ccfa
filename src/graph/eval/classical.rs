//! What classical models need.

use ndarray::{Array1, Array2, ArrayD, Axis, Ix3};

use super::Array;
use crate::graph::op::COUPLING_STEPS;

pub(super) fn pairwise_coupling(r: &Array) -> Array {
    let all = r.floats().view().into_dimensionality::<Ix3>().expect("inference says that the rank is 3");
    let rows = all.axis_iter(Axis(0)).map(|r| coupled(&r.to_owned()));
    let values: Vec<f64> = rows.flatten().collect();
    let (n, classes) = (r.shape()[0], r.shape()[1]);
    Array::float(r.dtype, ArrayD::from_shape_vec(vec![n, classes], values).expect("a row for each sample"))
}

/// The probabilities of classes from those of pairs.
fn coupled(r: &Array2<f64>) -> Array1<f64> {
    let classes = r.nrows();
    let q = Array2::from_shape_fn((classes, classes), |(i, j)| match i == j {
        true => (0..classes).filter(|j| *j != i).map(|j| r[[j, i]] * r[[j, i]]).sum(),
        false => -r[[j, i]] * r[[i, j]],
    });
    let mut p = Array1::from_elem(classes, 1.0 / classes as f64);
    for _ in 0..COUPLING_STEPS {
        let mut qp = q.dot(&p);
        let mut pqp = p.dot(&qp);
        let error = qp.iter().map(|v| (v - pqp).abs()).fold(0.0, f64::max);
        if error < 0.005 / classes as f64 {
            break;
        }
        for i in 0..classes {
            let step = (pqp - qp[i]) / q[[i, i]];
            p[i] += step;
            pqp = (pqp + step * (step * q[[i, i]] + 2.0 * qp[i])) / (1.0 + step) / (1.0 + step);
            for j in 0..classes {
                qp[j] = (qp[j] + step * q[[i, j]]) / (1.0 + step);
                p[j] /= 1.0 + step;
            }
        }
    }
    p
}
