//! Names that are taken, remembered: finding a free one must not look at all of a long program.

use std::collections::{HashMap, HashSet};

/// The names of a list that grows. It is no part of what a program is: any two are equal.
#[derive(Clone, Default, Debug)]
pub(crate) struct Names {
    taken: HashSet<String>,
    /// For each name that was taken when it was wanted, the number that was appended last.
    numbers: HashMap<String, usize>,
    /// How much of the list is in `taken`, and the name that it ends with.
    seen: usize,
    last: String,
}

impl PartialEq for Names {
    fn eq(&self, _: &Names) -> bool {
        true
    }
}

impl Names {
    /// `wanted`, or `wanted_1`, `wanted_2`, ...: one that nothing in the list has.
    pub(crate) fn free<T>(&mut self, wanted: &str, list: &[T], name: impl Fn(&T) -> &str) -> String {
        // A list that does not go on where it ended is another one.
        let grown = match self.seen.checked_sub(1) {
            Some(at) => list.get(at).is_some_and(|item| name(item) == self.last),
            None => true,
        };
        if !grown {
            *self = Names::default();
        }
        self.taken.extend(list[self.seen..].iter().map(|item| name(item).to_owned()));
        self.seen = list.len();
        self.last.clear();
        self.last.push_str(list.last().map_or("", name));
        if !self.taken.contains(wanted) {
            return wanted.to_owned();
        }
        let number = self.numbers.entry(wanted.to_owned()).or_insert(1);
        loop {
            let candidate = format!("{wanted}_{number}");
            if !self.taken.contains(&candidate) {
                return candidate;
            }
            *number += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_free_whatever_happens_to_the_list() {
        let mut names = Names::default();
        let mut list: Vec<String> = vec!["t".into(), "t_2".into()];
        let free =
            |names: &mut Names, list: &[String], wanted: &str| names.free(wanted, list, String::as_str);
        assert_eq!(free(&mut names, &list, "u"), "u");
        assert_eq!(free(&mut names, &list, "t"), "t_1");
        assert_eq!(free(&mut names, &list, "t"), "t_1", "it was not used");
        list.push("t_1".into());
        assert_eq!(free(&mut names, &list, "t"), "t_3");
        list = vec!["a".into(), "b".into(), "t_3".into(), "c".into()];
        assert_eq!(free(&mut names, &list, "t"), "t");
        list.clear();
        assert_eq!(free(&mut names, &list, "a"), "a");
    }
}
