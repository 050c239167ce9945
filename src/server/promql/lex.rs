//! PromQL's text as tokens with their positions.

use crate::server::promql::error::ParseError;

/// One token.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tok {
    /// A name or a keyword; metric names may hold colons.
    Ident(String),
    /// A quoted text, unescaped.
    Text(String),
    /// A number without a unit.
    Number(f64),
    /// A number with units, such as `1h30m`: milliseconds.
    Duration(i64),
    /// An operator or a bracket: `<=`, `{`, `@`.
    Sign(&'static str),
    /// The end of the text.
    End,
}

/// A token and the byte at which it begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Spanned {
    /// The token.
    pub tok: Tok,
    /// Offset of its first byte.
    pub at: usize,
}

/// Longer signs first, so that `<=` is not read as `<`.
const SIGNS: [&str; 27] = [
    "==", "!=", "<=", ">=", "=~", "!~", "(", ")", "{", "}", "[", "]", ",", "=", "<", ">", "+", "-",
    "*", "/", "%", "^", "@", ":", ";", "|", "&",
];

/// Splits a query into tokens, the last of which is [`Tok::End`].
///
/// # Errors
///
/// A character that no token begins with, a quote that is not closed, or a number that is none.
pub(crate) fn lex(text: &str) -> Result<Vec<Spanned>, ParseError> {
    let mut lexer = Lexer { text, at: 0, brackets: 0 };
    let mut out = Vec::new();
    loop {
        lexer.skip_blank();
        let at = lexer.at;
        let tok = lexer.next()?;
        let end = tok == Tok::End;
        out.push(Spanned { tok, at });
        if end {
            return Ok(out);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    /// How many `[` are open: a colon there separates range and step.
    brackets: usize,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn fail<T>(&self, at: usize, message: impl Into<String>) -> Result<T, ParseError> {
        Err(ParseError::at(self.text, at, message))
    }

    fn skip_blank(&mut self) {
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
            self.at += blank;
            if !self.rest().starts_with('#') {
                return;
            }
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
        }
    }

    fn next(&mut self) -> Result<Tok, ParseError> {
        let Some(first) = self.rest().chars().next() else { return Ok(Tok::End) };
        let second = self.rest().as_bytes().get(1).copied().unwrap_or(0);
        if first.is_ascii_digit() || (first == '.' && second.is_ascii_digit()) {
            return self.number();
        }
        if matches!(first, '"' | '\'' | '`') {
            return self.quoted(first);
        }
        let in_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        if first.is_ascii_alphabetic() || first == '_' || (first == ':' && self.brackets == 0) {
            let rest = self.rest();
            let is_end = |letter: char| !in_name(letter) && (letter != ':' || self.brackets > 0);
            let end = rest.find(is_end).unwrap_or(rest.len());
            let name = rest[..end].to_owned();
            self.at += end;
            return Ok(Tok::Ident(name));
        }
        let Some(sign) = SIGNS.iter().find(|sign| self.rest().starts_with(**sign)) else {
            return self.fail(self.at, format!("unexpected character: {first:?}"));
        };
        match *sign {
            "[" => self.brackets += 1,
            "]" => self.brackets = self.brackets.saturating_sub(1),
            _ => {}
        }
        self.at += sign.len();
        Ok(Tok::Sign(sign))
    }

    fn number(&mut self) -> Result<Tok, ParseError> {
        let start = self.at;
        let rest = self.rest();
        let in_word =
            |letter: char| letter.is_ascii_alphanumeric() || letter == '.' || letter == '_';
        let mut end = rest.find(|letter| !in_word(letter)).unwrap_or(rest.len());
        let hex = rest.starts_with("0x") || rest.starts_with("0X");
        // The sign of an exponent belongs to the number: `1e-3`.
        if !hex && rest[..end].ends_with(['e', 'E']) && rest[end..].starts_with(['+', '-']) {
            let tail = &rest[end + 1..];
            let digits = tail.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(tail.len());
            end += 1 + digits;
        }
        let word = rest[..end].to_owned();
        self.at += end;
        if hex {
            let digits = word[2..].replace('_', "");
            return u64::from_str_radix(&digits, 16)
                .map(|number| Tok::Number(number as f64))
                .or_else(|_| self.fail(start, format!("bad number or duration syntax: {word:?}")));
        }
        if let Some(ms) = duration_ms(&word) {
            return Ok(Tok::Duration(ms));
        }
        let plain = word.replace('_', "");
        let digits = plain.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
        match plain.parse::<f64>() {
            Ok(number) if digits => Ok(Tok::Number(number)),
            _ => self.fail(start, format!("bad number or duration syntax: {word:?}")),
        }
    }

    fn quoted(&mut self, quote: char) -> Result<Tok, ParseError> {
        let start = self.at;
        self.at += 1;
        let mut out = Vec::new();
        loop {
            let Some(letter) = self.rest().chars().next() else {
                return self.fail(start, "unterminated quoted string");
            };
            self.at += letter.len_utf8();
            match letter {
                _ if letter == quote => break,
                '\n' if quote != '`' => return self.fail(start, "unterminated quoted string"),
                '\\' if quote != '`' => self.escape(start, &mut out)?,
                _ => out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        match String::from_utf8(out) {
            Ok(text) => Ok(Tok::Text(text)),
            Err(_) => self.fail(start, "the quoted string is not UTF-8"),
        }
    }

    /// What follows a backslash, as in Go's string literals.
    fn escape(&mut self, start: usize, out: &mut Vec<u8>) -> Result<(), ParseError> {
        let Some(letter) = self.rest().chars().next() else {
            return self.fail(start, "unterminated quoted string");
        };
        let plain = match letter {
            'a' => Some(7),
            'b' => Some(8),
            'f' => Some(12),
            'n' => Some(b'\n'),
            'r' => Some(b'\r'),
            't' => Some(b'\t'),
            'v' => Some(11),
            '\\' | '\'' | '"' => Some(letter as u8),
            _ => None,
        };
        if let Some(byte) = plain {
            self.at += 1;
            out.push(byte);
            return Ok(());
        }
        let (skip, digits, radix) = match letter {
            'x' => (1, 2, 16),
            'u' => (1, 4, 16),
            'U' => (1, 8, 16),
            '0'..='7' => (0, 3, 8),
            _ => return self.fail(self.at, format!("unknown escape sequence: {letter:?}")),
        };
        let from = self.at + skip;
        let code = self.text.get(from..from + digits);
        let code = code.and_then(|code| u32::from_str_radix(code, radix).ok());
        self.at = (from + digits).min(self.text.len());
        let done = match (letter, code) {
            ('u' | 'U', Some(code)) => char::from_u32(code)
                .map(|letter| out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes())),
            (_, Some(code)) => u8::try_from(code).ok().map(|byte| out.push(byte)),
            (_, None) => None,
        };
        done.map_or_else(|| self.fail(start, "escape sequence is invalid"), Ok)
    }
}

/// `1h30m` in milliseconds: units from long to short, each once. `None` for anything else.
pub(crate) fn duration_ms(text: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 7] = [
        ("y", 365 * 86_400_000),
        ("w", 7 * 86_400_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    let mut rest = text;
    let mut sum: i64 = 0;
    let mut next = 0;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let number: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|letter: char| letter.is_ascii_digit()).unwrap_or(rest.len());
        let place = UNITS.iter().position(|(unit, _)| *unit == &rest[..end])?;
        if place < next {
            return None;
        }
        next = place + 1;
        sum = sum.checked_add(number.checked_mul(UNITS[place].1)?)?;
        rest = &rest[end..];
    }
    (next > 0).then_some(sum)
}
