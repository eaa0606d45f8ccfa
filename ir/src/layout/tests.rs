//! Where elements lie, and constants packed: against what the definitions say.

use super::*;
use crate::{Layout, Role, Var};

/// None; blocks of panels from their start on; from their middle on.
const HALOS: [&[(usize, usize)]; 3] = [&[], &[(0, 0), (2, 1), (0, 3)], &[(1, 0), (3, 1), (2, 1)]];

fn buffer(
    shape: &[usize],
    order: &[usize],
    panel: Option<(usize, usize)>,
    halo: &[(usize, usize)],
) -> Buffer {
    let mut b = Buffer::new("x", DType::I32, shape, Role::Const);
    b.layout = Layout { panel, ..Layout::ordered(order.to_vec()) };
    b.halo = halo.to_vec();
    b.halo_fill = Scalar::I32(-1);
    b
}

fn ints(bytes: &[u8]) -> Vec<i32> {
    bytes.chunks_exact(4).map(|c| i32::from_ne_bytes([c[0], c[1], c[2], c[3]])).collect()
}

fn packed(b: &Buffer) -> Vec<i32> {
    let data: Vec<u8> = (0..b.len() as i32).flat_map(i32::to_ne_bytes).collect();
    let storage = pack(b, &data).expect("the right size");
    assert_eq!(unpack(b, &storage).expect("the right size"), data);
    ints(&storage)
}

#[test]
fn every_element_type_is_packed_in_any_order() {
    for dtype in DType::ALL {
        let mut b = Buffer::new("x", dtype, &[2, 3, 5], Role::Const);
        let size = dtype.size();
        let data: Vec<u8> = (0..b.logical_bytes() as u8).collect();
        for (order, panel, interleave) in [
            ([2, 0, 1], None, None),
            ([0, 1, 2], Some((2, 4)), None),
            ([0, 1, 2], None, None),
            ([1, 0, 2], None, Some((1, 4))),
            ([0, 1, 2], Some((1, 2)), Some((2, 4))),
        ] {
            b.layout = Layout { order: order.to_vec(), panel, interleave };
            let storage = pack(&b, &data).expect("the right size");
            assert_eq!(unpack(&b, &storage).expect("the right size"), data, "{b:?}");
            let place = Geometry::of(&b).at(&[1, 2, 4]) * size;
            assert_eq!(storage[place..][..size], data[29 * size..], "the last element of {b:?}");
        }
    }
}

#[test]
fn parts_follow_one_another_and_make_up_the_buffer() {
    for shape in [&[][..], &[5], &[0, 3], &[3, 0], &[2, 40, 3], &[1, 1, 7, 1], &[100, 3]] {
        let b = buffer(shape, &(0..shape.len()).collect::<Vec<_>>(), None, &[]);
        for most in [1, 2, 3, 50, 64, 1000] {
            let mut next = 0;
            for part in parts(&b, most) {
                let at = Geometry::of(&b).at(&part.start);
                assert_eq!((part.first, at), (next, next), "{part:?}");
                assert!((1..=most).contains(&part.len()), "{part:?}");
                next += part.len();
            }
            assert_eq!(next, b.len());
        }
    }
}

#[test]
fn channels_last() {
    let b = buffer(&[1, 2, 2, 2], &[0, 2, 3, 1], None, &[]);
    assert_eq!(strides(&b).as_deref(), Some([8, 1, 4, 2].as_slice()));
    assert_eq!(packed(&b), [0, 4, 1, 5, 2, 6, 3, 7]);
}

#[test]
fn a_halo_is_filled() {
    let b = buffer(&[2, 2], &[0, 1], None, &[(1, 0), (0, 2)]);
    assert_eq!(packed(&b), [-1, -1, -1, -1, 0, 1, -1, -1, 2, 3, -1, -1]);
}

#[test]
fn panels_are_padded() {
    let b = buffer(&[2, 3], &[0, 1], Some((1, 2)), &[]);
    assert_eq!(strides(&b), None);
    assert_eq!(packed(&b), [0, 1, 3, 4, 2, -1, 5, -1]);
    let b = buffer(&[3, 2], &[0, 1], Some((0, 2)), &[]);
    assert_eq!(packed(&b), [0, 2, 1, 3, 4, -1, 5, -1]);
    assert_eq!(packed(&buffer(&[3], &[0], Some((0, 2)), &[(1, 0)])), [-1, 0, 1, 2]);
    assert_eq!(packed(&buffer(&[], &[], None, &[])), [0]);
    assert_eq!(packed(&buffer(&[0, 2], &[0, 1], None, &[])), []);
}

/// A dimension and the size of its blocks or groups.
type Cut = Option<(usize, usize)>;

/// What a panel and an interleave may be together, for three dimensions.
const CUTS: [(Cut, Cut); 9] = [
    (None, None),
    (Some((0, 2)), None),
    (Some((1, 2)), None),
    (Some((2, 4)), None),
    (None, Some((0, 2))),
    (None, Some((2, 4))),
    (Some((0, 2)), Some((1, 4))),
    (Some((2, 4)), Some((0, 4))),
    (Some((1, 3)), Some((2, 2))),
];

#[test]
fn groups_lie_innermost_and_are_padded() {
    // Without panels: the columns, of three rows each, the fourth missing.
    let mut b = buffer(&[3, 2], &[0, 1], None, &[]);
    b.layout.interleave = Some((0, 4));
    assert_eq!(strides(&b), None);
    assert_eq!(packed(&b), [0, 2, 4, -1, 1, 3, 5, -1]);
    // Panels of two columns, groups of two rows.
    let mut b = buffer(&[3, 3], &[0, 1], Some((1, 2)), &[]);
    b.layout.interleave = Some((0, 2));
    assert_eq!(packed(&b), [0, 3, 1, 4, 6, -1, 7, -1, 2, 5, -1, -1, 8, -1, -1, -1]);
    // The dimension before takes part in the order: groups of the last one.
    let mut b = buffer(&[2, 2, 3], &[1, 2, 0], None, &[]);
    b.layout.interleave = Some((2, 2));
    assert_eq!(packed(&b), [0, 1, 6, 7, 2, -1, 8, -1, 3, 4, 9, 10, 5, -1, 11, -1]);
    // A halo shifts the groups.
    let mut b = buffer(&[3], &[0], None, &[(1, 0)]);
    b.layout.interleave = Some((0, 2));
    assert_eq!(packed(&b), [-1, 0, 1, 2]);
}

#[test]
fn factors_follow_their_dimension_through_every_layout() {
    for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
        for (panel, interleave) in CUTS {
            for halo in HALOS {
                let mut b = buffer(&[3, 4, 5], &order, panel, halo);
                b.layout.interleave = interleave;
                (b.dtype, b.halo_fill) = (DType::F32, Scalar::F32(-1.0));
                let values: Vec<f32> = (0..60).map(|i| i as f32).collect();
                let bytes = |v: &[f32]| -> Vec<u8> { v.iter().flat_map(|v| v.to_ne_bytes()).collect() };
                for (run, factors) in [(20, vec![0.5, 2.0, 3.0]), (5, vec![1.0, -1.0, 0.0, 4.0])] {
                    let along = factor_dimension(&b, run, factors.len()).expect("a dimension");
                    let factor = |i: usize| factors[i / run % factors.len()] as f32;
                    let products: Vec<f32> = values.iter().enumerate().map(|(i, v)| v * factor(i)).collect();
                    for most in [1, 7, 20, 40, 1000] {
                        let mut storage = vec![0; b.storage_bytes()];
                        fill_halo(&b, &mut storage).expect("sizes");
                        for part in parts(&b, most) {
                            assert!(part.len() <= most, "{part:?}");
                            let data = bytes(&values[part.first..][..part.len()]);
                            let factors = (along, &factors[..]);
                            pack_scaled_part_into(&b, &part, &data, factors, &mut storage).expect("sizes");
                        }
                        assert_eq!(storage, pack(&b, &bytes(&products)).expect("sizes"), "{b:?}");
                    }
                }
                assert_eq!(factor_dimension(&b, 5, 3), None);
            }
        }
    }
}

#[test]
fn wrong_sizes_are_errors() {
    let b = buffer(&[2, 3], &[0, 1], Some((1, 2)), &[]);
    assert_eq!(pack(&b, &[0; 20]).unwrap_err().to_string(), "%x takes 24 bytes, but 20 are given");
    assert_eq!(unpack(&b, &[0; 24]).unwrap_err().to_string(), "%x takes 32 bytes, but 24 are given");
}

#[test]
fn affine_offsets_through_panels() {
    let b = buffer(&[4, 128], &[0, 1], Some((1, 64)), &[]);
    let (k, j, jj) = (Var(0), Var(1), Var(2));
    let mut extents = Extents::default();
    for (v, n) in [(k, 4), (j, 2), (jj, 64)] {
        extents.set(v, n);
    }
    let at = |index: Affine| offset(&b, &[k.into(), index], &extents);
    assert_eq!(at(j * 64 + jj), Some(k * 64 + j * 256 + jj));
    assert_eq!(at(j * 64 + 3), Some(k * 64 + j * 256 + 3));
    assert_eq!(at(Affine::from(64 + 63)), Some(k * 64 + 256 + 63));
    assert_eq!(at(jj * -1 + 63), Some(k * 64 - jj + 63));
    assert_eq!(at(jj + 1), None, "crosses a block");
    assert_eq!(at(j * 32 + jj), None);
}

#[test]
fn affine_offsets_through_panels_and_groups() {
    let mut b = buffer(&[12, 128], &[0, 1], Some((1, 64)), &[]);
    b.layout.interleave = Some((0, 4));
    let (k, i, j, jj) = (Var(0), Var(1), Var(2), Var(3));
    let mut extents = Extents::default();
    for (v, n) in [(k, 3), (i, 4), (j, 2), (jj, 64)] {
        extents.set(v, n);
    }
    let at = |row: Affine, column: Affine| offset(&b, &[row, column], &extents);
    assert_eq!(at(k * 4 + i, j * 64 + jj), Some(k * 256 + i + j * 768 + jj * 4));
    assert_eq!(at(k * 4 + 2, jj.into()), Some(k * 256 + 2 + jj * 4));
    assert_eq!(at(k * 4 + i + 1, jj.into()), None, "crosses a group");
    assert_eq!(at(k * 2 + i, jj.into()), None);
}

#[test]
fn affine_offsets_agree_with_addresses() {
    let orders: [&[usize]; 3] = [&[0, 1, 2], &[2, 0, 1], &[1, 2, 0]];
    for order in orders {
        for (panel, interleave) in CUTS {
            for halo in HALOS {
                let mut b = buffer(&[3, 4, 5], order, panel, halo);
                b.layout.interleave = interleave;
                let geometry = Geometry::of(&b);
                let mut seen = vec![false; b.storage_len()];
                for i in 0..b.len() {
                    let index = [i / 20, i / 5 % 4, i % 5];
                    let at = geometry.at(&index);
                    assert!(!std::mem::replace(&mut seen[at], true), "two elements at {at} of {b:?}");
                    let affine = index.map(|i| Affine::constant(i as i64));
                    let offset = offset(&b, &affine, &Extents::default()).and_then(|a| a.as_const());
                    assert_eq!(offset, Some(at as i64));
                }
                packed(&b);
            }
        }
    }
}
