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

    /// The module of a folder that the file belongs to.
    pub fn module_in(&self, folder: &str) -> Option<&str> {
        let name = self.path.strip_prefix(folder)?.strip_prefix('/')?.split('/').next()?;
        Some(name.strip_suffix(".rs").unwrap_or(name))
    }

    /// The path of the module that the file is.
    fn module_path(&self) -> Vec<&str> {
        let path = self.path.strip_prefix("src/").unwrap_or(&self.path);
        path.trim_end_matches(".rs").trim_end_matches("/mod").split('/').collect()
    }

    /// The modules of `parent` (of the crate, if it is empty) that code of this file names by paths from `crate` or
    /// `super`, with line numbers.
    pub fn used_modules(&self, parent: &[&str]) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        paths(tokens(&self.path, &self.text), &[], &mut found);
        found.retain(|(line, _)| !self.is_test(*line));
        let own = self.module_path();
        let within = |(line, path): (usize, Vec<String>)| {
            let ups = path.iter().take_while(|name| *name == "super").count();
            let base = match path.first().map(String::as_str) {
                Some("crate") => &[],
                Some("super") => own.get(..own.len().checked_sub(ups)?)?,
                _ => return None,
            };
            let named = path.iter().map(String::as_str).skip(ups.max(1));
            let whole: Vec<&str> = base.iter().copied().chain(named).collect();
            whole.strip_prefix(parent)?.first().map(|name| (line, (*name).to_owned()))
        };
        found.into_iter().filter_map(within).collect()
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

/// Paths of names with `::` between them, and the lines in which they end; each path of a list in braces with what is
/// before it.
fn paths(tokens: TokenStream, before: &[String], found: &mut Vec<(usize, Vec<String>)>) {
    let (mut path, mut colons, mut last) = (before.to_vec(), 2, 0);
    for token in tokens {
        match token {
            TokenTree::Ident(name) => {
                if colons != 2 {
                    found.push((last, std::mem::take(&mut path)));
                }
                last = name.span().end().line;
                path.push(name.to_string());
                colons = 0;
            }
            TokenTree::Punct(p) if p.as_char() == ':' => colons += 1,
            TokenTree::Group(group) => {
                if colons != 2 || group.delimiter() != Delimiter::Brace {
                    found.push((last, std::mem::take(&mut path)));
                }
                paths(group.stream(), &std::mem::take(&mut path), found);
                colons = 0;
            }
            TokenTree::Punct(p) => {
                found.push((last, std::mem::replace(&mut path, before.to_vec())));
                colons = if p.as_char() == ',' { 2 } else { 0 };
            }
            TokenTree::Literal(_) => colons = 0,
        }
    }
    found.push((last, path));
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
    let used = Source::new("src/a.rs".into(), text.into()).used_modules(&[]);
    assert_eq!(used, [(2, "error".into()), (2, "graph".into()), (2, "graph".into()), (4, "unit".into())]);
}

#[test]
fn paths_from_above_are_seen() {
    let text = "//! m\nuse super::super::{c::D};\nuse super::f;\nfn g(x: super::super::h::I) {}\n\
                fn j() { crate::a::k() }\n";
    let source = Source::new("src/a/b/c.rs".into(), text.into());
    let names = |parent: &[&str]| -> Vec<String> {
        source.used_modules(parent).into_iter().map(|(_, name)| name).collect()
    };
    assert_eq!(names(&["a"]), ["c", "b", "h", "k"]);
    assert_eq!(names(&["a", "b"]), ["f"]);
    let module = Source::new("src/a/b/mod.rs".into(), "//! m\nuse super::c;\n".into());
    assert_eq!(module.used_modules(&["a"]), [(2, "c".into())]);
}
