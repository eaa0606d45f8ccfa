//! Source files as tokens and lines: what of them is code that ships, and which modules they import. What must hold of
//! that is left to `main.rs`.

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

pub struct Source {
    /// The path from the workspace's root, with `/`.
    pub path: String,
    pub text: String,
    /// The lines of items that are compiled for tests only, counted from 1.
    tests: Vec<RangeInclusive<usize>>,
}

impl Source {
    pub fn new(path: String, text: String) -> Source {
        let mut tests = Vec::new();
        test_items(tokens(&path, &text), &mut tests);
        Source { path, text, tests }
    }

    /// Line numbers and lines that are code: comments and what is compiled for tests only are left out.
    pub fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(i, line)| (i + 1, line))
            .filter(|(n, line)| !self.is_test(*n) && !line.trim_start().starts_with("//"))
            .map(|(n, line)| (n, line.split(" // ").next().unwrap_or(line)))
    }

    /// Whether the line is compiled for tests only.
    fn is_test(&self, line: usize) -> bool {
        self.path.ends_with("/tests.rs")
            || self.path.ends_with("/testing.rs")
            || self.path.contains("/tests/")
            || self.tests.iter().any(|lines| lines.contains(&line))
    }

    /// The module below `src/` that the file belongs to.
    pub fn module(&self) -> Option<&str> {
        let name = self.path.strip_prefix("src/")?.split('/').next()?;
        Some(name.strip_suffix(".rs").unwrap_or(name))
    }

    /// The modules of the crate that code of this file names by paths from `crate`, with line numbers.
    pub fn used_modules(&self) -> Vec<(usize, String)> {
        let mut used = Vec::new();
        crate_paths(tokens(&self.path, &self.text), &mut used);
        used.retain(|(line, _)| !self.is_test(*line));
        used
    }
}

fn tokens(path: &str, text: &str) -> TokenStream {
    text.parse().unwrap_or_else(|e| panic!("{path} is no Rust: {e}"))
}

/// All `.rs` files below a folder.
pub fn collect(root: &Path, folder: &Path, found: &mut Vec<Source>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            // What cargo built there, of the workers in benches/peers for one, are nobody's sources.
            if !path.join("CACHEDIR.TAG").is_file() {
                collect(root, &path, found);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            let relative = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
            found.push(Source::new(relative, fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The lines of items behind `#[cfg(test)]`, at any depth. An item ends with its first block or semicolon.
fn test_items(tokens: TokenStream, found: &mut Vec<RangeInclusive<usize>>) {
    let mut start: Option<usize> = None;
    let mut before = None;
    for token in tokens {
        let last = token.span().end().line;
        match &token {
            TokenTree::Group(group) if start.is_none() => {
                let is_attribute = matches!(&before, Some(TokenTree::Punct(p)) if p.as_char() == '#');
                if is_attribute && group.stream().to_string().replace(' ', "") == "cfg(test)" {
                    start = Some(token.span().start().line);
                } else {
                    test_items(group.stream(), found);
                }
            }
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                found.extend(start.take().map(|first| first..=last));
            }
            TokenTree::Punct(p) if p.as_char() == ';' => {
                found.extend(start.take().map(|first| first..=last));
            }
            _ => {}
        }
        before = Some(token);
    }
}

/// The first names behind `crate::`, one by one for a group in braces.
fn crate_paths(tokens: TokenStream, found: &mut Vec<(usize, String)>) {
    let mut before = [None, None, None];
    for token in tokens {
        let is_colon = |t: &Option<TokenTree>| matches!(t, Some(TokenTree::Punct(p)) if p.as_char() == ':');
        let is_crate = |t: &Option<TokenTree>| matches!(t, Some(TokenTree::Ident(i)) if i == "crate");
        let behind_crate = is_crate(&before[0]) && is_colon(&before[1]) && is_colon(&before[2]);
        match &token {
            TokenTree::Ident(name) if behind_crate => {
                found.push((name.span().start().line, name.to_string()))
            }
            TokenTree::Group(group) => {
                if behind_crate {
                    found.extend(first_names(group.stream()));
                }
                crate_paths(group.stream(), found);
            }
            _ => {}
        }
        before.rotate_left(1);
        before[2] = Some(token);
    }
}

/// The first name of each element of a list that commas separate.
fn first_names(list: TokenStream) -> Vec<(usize, String)> {
    let mut names = Vec::new();
    let mut is_first = true;
    for token in list {
        match &token {
            TokenTree::Ident(name) if is_first => names.push((name.span().start().line, name.to_string())),
            TokenTree::Punct(p) if p.as_char() == ',' => {
                is_first = true;
                continue;
            }
            _ => {}
        }
        is_first = false;
    }
    names
}

#[test]
fn items_for_tests_end_where_they_end() {
    let text = "//! m\n#[cfg(test)]\nmod tests;\nuse a;\n#[cfg(test)]\nfn f<A, B>() {\n    x();\n}\nfn g() {\n    #[cfg(test)]\n    h();\n    i();\n}\n";
    let source = Source::new("src/a.rs".into(), text.into());
    let lines: Vec<usize> = source.code().map(|(n, _)| n).collect();
    assert_eq!(lines, [4, 9, 12, 13]);
}

#[test]
fn groups_of_imports_are_seen() {
    let text =
        "//! m\nuse crate::{error::Error, graph::{Graph, Op}};\nfn f() {\n    vec![crate::unit::g()]\n}\n";
    let used = Source::new("src/a.rs".into(), text.into()).used_modules();
    assert_eq!(used, [(2, "error".into()), (2, "graph".into()), (4, "unit".into())]);
}
