//! From text to layers.

use std::str::FromStr;

use super::error::{ParseStackError, TextProblem, nearest};
use super::{ALIASES, fields, kind_named};
use crate::{Kind, Layer, MAX_LAYERS, Stack};

impl FromStr for Stack {
    type Err = ParseStackError;

    /// Reads the text form, which the [`text`](crate::text) module describes.
    fn from_str(text: &str) -> Result<Self, ParseStackError> {
        let mut reader = Reader { text, at: 0 };
        let mut stack = Self::new();
        loop {
            reader.spaces();
            let start = reader.at;
            if stack.layers.len() == MAX_LAYERS {
                return Err(reader.error(start, TextProblem::TooManyLayers(MAX_LAYERS)));
            }
            stack.layers.push(reader.layer()?);
            reader.spaces();
            match reader.peek() {
                None => return Ok(stack),
                Some('/') => reader.at += 1,
                Some(_) => return Err(reader.unexpected("/ or the end")),
            }
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    /// Bytes read so far.
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Takes the longest prefix whose characters are all `wanted`.
    fn take(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let taken = &rest[..rest.find(|c| !wanted(c)).unwrap_or(rest.len())];
        self.at += taken.len();
        taken
    }

    fn spaces(&mut self) {
        self.take(char::is_whitespace);
    }

    fn word(&mut self, wanted: &'static str) -> Result<&'a str, ParseStackError> {
        let word = self.take(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'));
        if word.is_empty() { Err(self.unexpected(wanted)) } else { Ok(word) }
    }

    fn error(&self, at: usize, problem: TextProblem) -> ParseStackError {
        ParseStackError { column: self.text[..at].chars().count() + 1, problem }
    }

    fn unexpected(&self, wanted: &'static str) -> ParseStackError {
        let found = self.peek().map_or_else(|| "the end".into(), |c| format!("{c:?}"));
        self.error(self.at, TextProblem::Unexpected { found, wanted })
    }

    fn layer(&mut self) -> Result<Layer, ParseStackError> {
        let start = self.at;
        let word = self.word("a layer's name")?;
        let kind = kind_named(&word.to_ascii_lowercase()).ok_or_else(|| {
            let names = || Kind::ALL.iter().map(|kind| kind.name());
            let all: Vec<_> = names().chain(ALIASES.iter().map(|(alias, _)| *alias)).collect();
            let word = word.to_owned();
            let problem =
                TextProblem::NoSuchLayer { nearest: nearest(&word, &all), word, known: names().collect() };
            self.error(start, problem)
        })?;
        let mut layer = Layer::of(kind);
        self.spaces();
        if self.peek() == Some('(') {
            self.at += 1;
            self.fields(&mut layer)?;
        }
        Ok(layer)
    }

    /// Reads the fields and the closing parenthesis.
    fn fields(&mut self, layer: &mut Layer) -> Result<(), ParseStackError> {
        let mut seen = Vec::new();
        self.spaces();
        if self.peek() == Some(')') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.spaces();
            self.field(layer, &mut seen)?;
            self.spaces();
            match self.peek() {
                Some(',') => self.at += 1,
                Some(')') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.unexpected(", or )")),
            }
        }
    }

    fn field(&mut self, layer: &mut Layer, seen: &mut Vec<&'static str>) -> Result<(), ParseStackError> {
        let name = layer.kind().name();
        let start = self.at;
        let key = self.word("a field's name")?;
        self.spaces();
        let mut value_at = start;
        let mut value = None;
        if self.peek() == Some('=') {
            self.at += 1;
            self.spaces();
            value_at = self.at;
            value = Some(self.value()?);
        }
        let fields = fields::of_mut(layer);
        let known = fields.keys();
        match fields.set(key, value.as_deref()) {
            None => {
                let word = key.to_owned();
                let nearest = nearest(&word, known);
                let problem = TextProblem::NoSuchField { layer: name, word, nearest, known: known.to_vec() };
                Err(self.error(start, problem))
            }
            Some(Err(why)) => {
                let problem = TextProblem::BadValue { layer: name, field: key.to_owned(), why };
                Err(self.error(value_at, problem))
            }
            Some(Ok(field)) if seen.contains(&field) => {
                Err(self.error(start, TextProblem::SetTwice { layer: name, field: field.to_owned() }))
            }
            Some(Ok(field)) => {
                seen.push(field);
                Ok(())
            }
        }
    }

    fn value(&mut self) -> Result<String, ParseStackError> {
        if self.peek() == Some('"') {
            return self.quoted();
        }
        let word = self.take(|c| !c.is_whitespace() && !matches!(c, ',' | '(' | ')' | '/' | '"' | '='));
        if word.is_empty() { Err(self.unexpected("a value")) } else { Ok(word.to_owned()) }
    }

    fn quoted(&mut self) -> Result<String, ParseStackError> {
        let open = self.at;
        self.at += 1;
        let mut value = String::new();
        while let Some(c) = self.peek() {
            let at = self.at;
            self.at += c.len_utf8();
            match c {
                '"' => return Ok(value),
                '\\' => {
                    let escaped = match self.peek() {
                        Some('n') => '\n',
                        Some('r') => '\r',
                        Some('t') => '\t',
                        Some('0') => '\0',
                        Some(c @ ('"' | '\\')) => c,
                        None => break,
                        Some(_) => {
                            self.at = at + 1;
                            return Err(self.unexpected(r#"one of n, r, t, 0, " and \"#));
                        }
                    };
                    self.at += 1;
                    value.push(escaped);
                }
                c => value.push(c),
            }
        }
        Err(self.error(open, TextProblem::OpenQuote))
    }
}
