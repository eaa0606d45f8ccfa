//! Matrix tiles (AMX): eight registers of up to 16 rows of 64 bytes, and instructions that multiply two of them.
//!
//! Tiles are not allocated: whoever emits a matrix product names them, and has them all from its configuration to its last
//! store. Where configurations are executed is decided here, once a kernel is complete.

use super::{Access, Inst};

/// How many tiles there are.
pub(in crate::codegen) const TILES: usize = 8;
/// The most rows of a tile, and the most bytes of a row.
pub(in crate::codegen) const ROWS: usize = crate::lanes::TILE_ROWS;
pub(in crate::codegen) const ROW_BYTES: usize = 64;

/// The rows of each tile and the bytes of its rows; both 0 for tiles that are not used.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(in crate::codegen) struct Shapes(pub [(u8, u8); TILES]);

impl Shapes {
    /// The 64 bytes that the instruction loads, as 16 words: palette 1, bytes of rows from byte 16, rows from byte 48.
    pub fn words(&self) -> [u32; 16] {
        let mut bytes = [0u8; 64];
        bytes[0] = 1;
        for (i, (rows, row_bytes)) in self.0.iter().enumerate() {
            bytes[16 + 2 * i] = *row_bytes;
            bytes[48 + i] = *rows;
        }
        let mut words = [0; 16];
        for (word, part) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u32::from_le_bytes(*part);
        }
        words
    }
}

/// What the products of tiles multiply: groups of neighbours in the rows of the first factor with groups of those of the
/// second, one for each column.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::codegen) enum TileProduct {
    /// Unsigned bytes with signed ones; sums are `i32`.
    UnsignedSigned,
    /// Signed bytes with unsigned ones.
    SignedUnsigned,
    /// Two `bf16` with two others; sums are `f32`. Products of even and of odd elements are added up apart, then both; each addition
    /// rounds to nearest even, denormal numbers count as 0.
    Halves,
}

impl TileProduct {
    /// What is multiplied, for reports.
    pub const fn name(self) -> &'static str {
        match self {
            TileProduct::UnsignedSigned | TileProduct::SignedUnsigned => "int8 in tiles",
            TileProduct::Halves => "bf16 in tiles",
        }
    }
}

/// An instruction on tiles.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::codegen) enum TileInst {
    /// Sets the shapes of all tiles, whose contents become 0.
    Configure(Shapes),
    /// Gives all tiles up: the state of a thread is small again.
    Release,
    /// Loads a tile: its rows are [`Access::stride`] bytes apart.
    Load { tile: u8, from: Access },
    /// Stores one.
    Store { tile: u8, to: Access },
    /// Adds the products of two tiles to a third.
    Dot { of: TileProduct, sum: u8, a: u8, b: u8 },
}

/// What a block leaves configured.
#[derive(Clone, Copy, PartialEq)]
enum State {
    /// It configures nothing.
    None,
    /// The same throughout.
    One(Shapes),
    Many,
}

/// Moves configurations out of loops that need only one, drops those that are there already, and gives tiles up at the end.
pub(super) fn settle(body: &mut Vec<Inst>) {
    let state = block(body);
    if let State::One(shapes) = state {
        body.insert(0, Inst::Tile(TileInst::Configure(shapes)));
    }
    if state != State::None {
        body.push(Inst::Tile(TileInst::Release));
    }
}

/// Settles a block. One that needs a single configuration is left without it, for the code around to have; another one
/// configures what it needs itself.
fn block(body: &mut Vec<Inst>) -> State {
    let mut states: Vec<(usize, State)> = Vec::new();
    for (at, inst) in body.iter_mut().enumerate() {
        let state = match inst {
            Inst::Tile(TileInst::Configure(shapes)) => State::One(*shapes),
            Inst::Loop { body, .. } | Inst::IfAny { body, .. } => block(body),
            _ => State::None,
        };
        if state != State::None {
            states.push((at, state));
        }
    }
    let Some(&(_, first)) = states.first() else { return State::None };
    if let State::One(_) = first
        && states.iter().all(|s| s.1 == first)
    {
        body.retain(|i| !matches!(i, Inst::Tile(TileInst::Configure(_))));
        return first;
    }
    let mut configured = None;
    let mut states = states.into_iter().peekable();
    let old = std::mem::take(body);
    for (at, inst) in old.into_iter().enumerate() {
        if let Some((_, state)) = states.next_if(|s| s.0 == at) {
            match state {
                State::One(shapes) if configured != Some(shapes) => {
                    body.push(Inst::Tile(TileInst::Configure(shapes)));
                    configured = Some(shapes);
                }
                State::One(_) | State::None => {}
                State::Many => configured = None,
            }
        }
        if !matches!(inst, Inst::Tile(TileInst::Configure(_))) {
            body.push(inst);
        }
    }
    State::Many
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::vcode::{Bound, Counter};

    fn shapes(rows: u8) -> Shapes {
        Shapes([(rows, 64); TILES])
    }

    fn configure(rows: u8) -> Inst {
        Inst::Tile(TileInst::Configure(shapes(rows)))
    }

    fn work() -> Inst {
        Inst::Tile(TileInst::Dot { of: TileProduct::UnsignedSigned, sum: 0, a: 1, b: 2 })
    }

    fn in_loop(body: Vec<Inst>) -> Inst {
        Inst::Loop { counter: Counter(0), begin: Bound::Const(0), end: Bound::Const(4), body }
    }

    fn settled(mut body: Vec<Inst>) -> Vec<Inst> {
        settle(&mut body);
        body
    }

    #[test]
    fn one_configuration_is_executed_once_and_tiles_are_given_up() {
        let release = || Inst::Tile(TileInst::Release);
        let body = vec![in_loop(vec![in_loop(vec![configure(16), work()])]), configure(16), work()];
        let expected = vec![configure(16), in_loop(vec![in_loop(vec![work()])]), work(), release()];
        assert_eq!(settled(body), expected);
        assert_eq!(settled(vec![in_loop(Vec::new())]), [in_loop(Vec::new())]);
    }

    #[test]
    fn several_are_executed_as_far_out_as_they_hold() {
        let release = || Inst::Tile(TileInst::Release);
        let inner = |rows| in_loop(vec![configure(rows), work()]);
        let body = vec![in_loop(vec![inner(16), inner(16), inner(3)]), inner(3)];
        let loops = in_loop(vec![
            configure(16),
            in_loop(vec![work()]),
            in_loop(vec![work()]),
            configure(3),
            in_loop(vec![work()]),
        ]);
        assert_eq!(settled(body), [loops, configure(3), in_loop(vec![work()]), release()]);
    }

    #[test]
    fn the_layout_of_a_configuration_is_that_of_the_manual() {
        let mut shapes = Shapes::default();
        (shapes.0[0], shapes.0[7]) = ((16, 64), (3, 20));
        let words = shapes.words();
        assert_eq!((words[0], words[4], words[7]), (1, 64, 20 << 16));
        assert_eq!((words[12], words[13]), (16, 3 << 24));
    }
}
