//! Names of files made from names in models.

/// A file name for an output: separators and characters that file systems or terminals take amiss become `_`.
/// Different names may become the same file name; `taken` says which are, and a number is appended.
pub(crate) fn file_name(name: &str, taken: &mut Vec<String>) -> String {
    // Colons are common in names of outputs; on Windows they are no part of a file's name.
    let kept = if cfg!(windows) { "._-" } else { "._-:" };
    let safe = |c: char| if c.is_ascii_alphanumeric() || kept.contains(c) { c } else { '_' };
    // Long names exceed what file systems allow.
    let mut base: String = name.chars().map(safe).take(120).collect();
    // Neither hidden, nor `.`, nor `..`, nor empty.
    if base.starts_with('.') || base.is_empty() {
        base.insert(0, '_');
    }
    let is_taken = |candidate: &str| taken.iter().any(|t| t.eq_ignore_ascii_case(candidate));
    let numbered = (1..).map(|n| format!("{base}_{n}"));
    let found = std::iter::once(base.clone()).chain(numbered).find(|c| !is_taken(c));
    let found = found.unwrap_or(base);
    taken.push(found.clone());
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_the_directory() {
        let mut taken = Vec::new();
        let mut names = ["y", "../../etc/passwd", "..", "", "a/b", "a|b", "Y", "\u{1b}[31m"]
            .map(|name| file_name(name, &mut taken));
        let expected = ["y", "_.._.._etc_passwd", "_..", "_", "a_b", "a_b_1", "Y_1", "__31m"];
        assert_eq!(names, expected);
        let colon = if cfg!(windows) { "c_0" } else { "c:0" };
        assert_eq!(file_name("c:0", &mut taken), colon);
        names.sort();
        assert!(names.windows(2).all(|w| !w[0].eq_ignore_ascii_case(&w[1])));
        assert!(file_name(&"x".repeat(1000), &mut taken).len() < 200);
    }
}
