//! Splits text into tokens, each with its place.

use std::fmt;

use super::ParseError;
use crate::print::is_name_char;

/// What a token is.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Tok {
    /// A keyword, variable or function.
    Ident(String),
    /// `%name`.
    Buf(String),
    /// `@name`.
    Nest(String),
    /// A number without sign: the digits, and the type that follows without space.
    Number { digits: String, suffix: String },
    /// A quoted string, unescaped.
    Str(String),
    /// An operator or bracket.
    Punct(&'static str),
    /// The end of the text.
    End,
}

impl fmt::Display for Tok {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tok::Ident(s) => write!(f, "'{s}'"),
            Tok::Buf(s) => write!(f, "'%{s}'"),
            Tok::Nest(s) => write!(f, "'@{s}'"),
            Tok::Number { digits, suffix } => write!(f, "'{digits}{suffix}'"),
            Tok::Str(s) => write!(f, "\"{s}\""),
            Tok::Punct(s) => write!(f, "'{s}'"),
            Tok::End => f.write_str("the end of the text"),
        }
    }
}

/// A token and where it begins; lines and columns count from 1, columns in characters.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Token {
    pub tok: Tok,
    pub line: usize,
    pub column: usize,
}

/// Longer ones first, so that none is taken for its prefix.
const PUNCTUATION: [&str; 29] = [
    "->", "==", "!=", "<=", ">=", "<<", ">>", "+=", "*=", "(", ")", "[", "]", "{", "}", ",", ":", "=", "<",
    ">", "+", "-", "*", "/", "&", "|", "^", "?", ";",
];

/// All tokens, the last one [`Tok::End`].
pub(super) fn lex(text: &str) -> Result<Vec<Token>, ParseError> {
    let mut lexer = Lexer { rest: text, line: 1, column: 1 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_space();
        let (line, column) = (lexer.line, lexer.column);
        let tok = lexer.token()?;
        let end = tok == Tok::End;
        tokens.push(Token { tok, line, column });
        if end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    column: usize,
}

impl<'a> Lexer<'a> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next()?;
        self.rest = chars.as_str();
        if c == '\n' {
            (self.line, self.column) = (self.line + 1, 1);
        } else {
            self.column += 1;
        }
        Some(c)
    }

    fn take_while(&mut self, f: impl Fn(char) -> bool) -> &'a str {
        let n = self.rest.find(|c| !f(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(n);
        self.rest = rest;
        self.column += taken.chars().count();
        taken
    }

    fn skip_space(&mut self) {
        while let Some(c) = self.peek() {
            if self.rest.starts_with("//") {
                self.take_while(|c| c != '\n');
            } else if c.is_whitespace() {
                self.next();
            } else {
                break;
            }
        }
    }

    fn error<T>(&self, message: impl Into<String>) -> Result<T, ParseError> {
        Err(ParseError { line: self.line, column: self.column, message: message.into() })
    }

    fn token(&mut self) -> Result<Tok, ParseError> {
        let Some(c) = self.peek() else { return Ok(Tok::End) };
        match c {
            '%' => Ok(Tok::Buf(self.name()?)),
            '@' => Ok(Tok::Nest(self.name()?)),
            '"' => Ok(Tok::Str(self.string()?)),
            c if c.is_ascii_digit() => Ok(self.number()),
            c if c.is_ascii_alphabetic() || c == '_' => {
                Ok(Tok::Ident(self.take_while(|c| c.is_ascii_alphanumeric() || c == '_').to_owned()))
            }
            c => match PUNCTUATION.into_iter().find(|p| self.rest.starts_with(p)) {
                Some(p) => {
                    self.rest = &self.rest[p.len()..];
                    self.column += p.len();
                    Ok(Tok::Punct(p))
                }
                None => self.error(format!("unexpected character {c:?}")),
            },
        }
    }

    /// What follows `%` or `@`.
    fn name(&mut self) -> Result<String, ParseError> {
        self.next();
        match self.peek() {
            Some('"') => self.string(),
            Some(c) if is_name_char(c) => Ok(self.take_while(is_name_char).to_owned()),
            _ => self.error("expected a name"),
        }
    }

    fn number(&mut self) -> Tok {
        let hexadecimal =
            self.rest.strip_prefix("0x").is_some_and(|r| r.starts_with(|c: char| c.is_ascii_hexdigit()));
        let digits = if hexadecimal {
            self.take_while(|c| c.is_ascii_alphanumeric()).to_owned()
        } else {
            let mut digits = self.take_while(|c| c.is_ascii_digit()).to_owned();
            let starts_number = |s: &str| s.starts_with(|c: char| c.is_ascii_digit());
            if self.rest.strip_prefix('.').is_some_and(starts_number) {
                self.next();
                digits = digits + "." + self.take_while(|c| c.is_ascii_digit());
            }
            let exponent = self.rest.strip_prefix(['e', 'E']);
            let signed = exponent.map(|r| r.strip_prefix(['+', '-']).unwrap_or(r));
            if signed.is_some_and(starts_number) {
                self.next();
                digits.push('e');
                if let Some(sign @ ('+' | '-')) = self.peek() {
                    self.next();
                    digits.push(sign);
                }
                digits += self.take_while(|c| c.is_ascii_digit());
            }
            digits
        };
        Tok::Number { digits, suffix: self.take_while(|c| c.is_ascii_alphanumeric() || c == '_').to_owned() }
    }

    fn string(&mut self) -> Result<String, ParseError> {
        let start = (self.line, self.column);
        self.next();
        let mut result = String::new();
        loop {
            match self.next() {
                Some('"') => return Ok(result),
                Some('\\') => result.push(self.escape()?),
                Some('\n') | None => {
                    let message = "this string has no closing '\"'".to_owned();
                    return Err(ParseError { line: start.0, column: start.1, message });
                }
                Some(c) => result.push(c),
            }
        }
    }

    fn escape(&mut self) -> Result<char, ParseError> {
        match self.peek() {
            Some(c @ ('"' | '\\')) => {
                self.next();
                Ok(c)
            }
            Some('n') => {
                self.next();
                Ok('\n')
            }
            Some('u') => {
                self.next();
                let code = self.rest.strip_prefix('{').and_then(|r| r.split_once('}')).map(|(code, _)| code);
                let c = code.and_then(|c| u32::from_str_radix(c, 16).ok()).and_then(char::from_u32);
                match (code, c) {
                    (Some(code), Some(c)) => {
                        for _ in 0..code.len() + 2 {
                            self.next();
                        }
                        Ok(c)
                    }
                    _ => self.error("expected a character's number, such as {7f}"),
                }
            }
            _ => self.error("expected one of the escapes \\\", \\\\, \\n and \\u{..}"),
        }
    }
}
