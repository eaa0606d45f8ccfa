//! What a number draws from a list of names. It is the name with the highest random weight, so that one name more or less
//! changes what few numbers draw, and a number that was told of once stays the same file.

use super::mutate::Random;

/// What can be damaged, by name.
pub struct Seeds<T>(Vec<Seed<T>>);

pub struct Seed<T> {
    pub name: String,
    pub value: T,
    key: u64,
}

impl<T> Seeds<T> {
    pub fn new(list: impl IntoIterator<Item = (String, T)>) -> Seeds<T> {
        let seed = |(name, value): (String, T)| Seed { key: hash(&name), name, value };
        Seeds(list.into_iter().map(seed).collect())
    }

    /// The one that a number draws. There must be one.
    pub fn draw(&self, number: u64) -> &Seed<T> {
        let weight = |seed: &&Seed<T>| Random(seed.key ^ number).next();
        self.0.iter().max_by_key(weight).expect("there is something to be damaged")
    }
}

/// FNV-1a: the same in every build.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}
