//! JSON that stands inside of another text, read strictly, with the place of every value in the outer file.
//!
//! serde_json says line and column of a problem, but no place of a value, and its words for the mistakes people
//! make (a comma too many, curly quotes, a comment) do not name them.

use crate::{
    node::{Entry, Node, Style, Text, Value, Written},
    source::At,
};

/// Deepest nesting that is read: the plugin's own limit.
const MAX_DEPTH: usize = cni::raw::MAX_DEPTH;

/// A text to read and where each of its bytes stands.
#[derive(Debug, Clone)]
pub struct Placed {
    /// The text.
    pub text: String,
    /// Index of the file.
    pub file: usize,
    /// For each byte of the text, and one more for its end, the byte of the file.
    pub offsets: Vec<usize>,
}

/// Why a text is no JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which mistake.
    pub kind: Mistake,
    /// Where.
    pub at: At,
}

/// The mistakes that are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mistake {
    /// A comma before a closing bracket.
    TrailingComma,
    /// A quote that JSON does not know.
    Quote(char),
    /// `//`, `/*` or `#`.
    Comment,
    /// No comma between two values.
    MissingComma,
    /// A bracket that is never closed.
    Open(char),
    /// Anything else, in words.
    Other(String),
}

impl Placed {
    /// The place of a byte of the text.
    pub fn at(&self, index: usize) -> At {
        let offset = self.offsets.get(index).or(self.offsets.last()).copied().unwrap_or_default();
        At { file: self.file, offset }
    }
}

/// Reads one JSON value and nothing behind it.
pub fn parse(placed: &Placed) -> Result<Node, Problem> {
    let mut reader = Reader { placed, next: 0, depth: 0, end: 0 };
    reader.blanks()?;
    let node = reader.value()?;
    reader.blanks()?;
    match reader.peek() {
        None => Ok(node),
        Some(c) => {
            Err(reader.problem(Mistake::Other(format!("there is {c:?} behind the end of the JSON value"))))
        }
    }
}

struct Reader<'a> {
    placed: &'a Placed,
    next: usize,
    depth: usize,
    /// Behind the last value that was read.
    end: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.placed.text.get(self.next..)?.chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.next += c.len_utf8();
        Some(c)
    }

    fn problem(&self, kind: Mistake) -> Problem {
        Problem { kind, at: self.placed.at(self.next) }
    }

    fn problem_at(&self, kind: Mistake, index: usize) -> Problem {
        Problem { kind, at: self.placed.at(index) }
    }

    fn blanks(&mut self) -> Result<(), Problem> {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' | '\n' | '\r' => self.next += 1,
                '/' | '#' => return Err(self.problem(Mistake::Comment)),
                _ => break,
            }
        }
        Ok(())
    }

    fn value(&mut self) -> Result<Node, Problem> {
        let start = self.next;
        let value = match self.peek() {
            None => return Err(self.problem(Mistake::Other("a value is missing at the end".to_owned()))),
            Some('{') => self.nested(Self::map)?,
            Some('[') => self.nested(Self::list)?,
            Some('"') => Value::Text(self.string()?),
            Some(_) => self.word()?,
        };
        self.end = self.next;
        Ok(Node { at: self.placed.at(start), value })
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Value, Problem>) -> Result<Value, Problem> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.problem(Mistake::Other(format!("it is nested deeper than {MAX_DEPTH} levels"))));
        }
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn map(&mut self) -> Result<Value, Problem> {
        let (open, mut entries) = (self.next, Vec::new());
        self.next += 1;
        loop {
            self.blanks()?;
            match self.peek() {
                Some('}') if entries.is_empty() => break,
                Some('"') => {}
                None => return Err(self.problem_at(Mistake::Open('{'), open)),
                Some(c) => return Err(self.problem(unexpected(c, "a key in double quotes"))),
            }
            let at = self.placed.at(self.next);
            let key = self.string()?.said;
            self.blanks()?;
            match self.peek() {
                Some(':') => self.next += 1,
                _ => {
                    return Err(
                        self.problem(Mistake::Other(format!("a colon is missing after the key {key:?}")))
                    );
                }
            }
            self.blanks()?;
            let node = self.value()?;
            entries.push(Entry { key, at, node });
            if !self.goes_on('}', open)? {
                break;
            }
        }
        self.next += 1;
        Ok(Value::Map(entries))
    }

    fn list(&mut self) -> Result<Value, Problem> {
        let (open, mut items) = (self.next, Vec::new());
        self.next += 1;
        loop {
            self.blanks()?;
            match self.peek() {
                Some(']') if items.is_empty() => break,
                None => return Err(self.problem_at(Mistake::Open('['), open)),
                Some(_) => items.push(self.value()?),
            }
            if !self.goes_on(']', open)? {
                break;
            }
        }
        self.next += 1;
        Ok(Value::List(items))
    }

    /// After an element: true behind a comma, false at the closing bracket, which is left to the caller.
    fn goes_on(&mut self, close: char, open: usize) -> Result<bool, Problem> {
        self.blanks()?;
        match self.peek() {
            Some(c) if c == close => Ok(false),
            Some(',') => {
                let comma = self.next;
                self.next += 1;
                self.blanks()?;
                if matches!(self.peek(), Some('}' | ']')) {
                    return Err(self.problem_at(Mistake::TrailingComma, comma));
                }
                Ok(true)
            }
            None => {
                let bracket = self.placed.text.get(open..).and_then(|text| text.chars().next());
                Err(self.problem_at(Mistake::Open(bracket.unwrap_or('{')), open))
            }
            Some('"' | '{' | '[') => Err(self.problem_at(Mistake::MissingComma, self.end.saturating_sub(1))),
            Some(c) => Err(self.problem(unexpected(c, &format!("a comma or {close:?}")))),
        }
    }

    fn string(&mut self) -> Result<Text, Problem> {
        let open = self.next;
        self.next += 1;
        let mut said = String::new();
        loop {
            match self.bump() {
                None => {
                    return Err(
                        self.problem_at(Mistake::Other("this string is never closed".to_owned()), open)
                    );
                }
                Some('"') => break,
                Some('\\') => said.push(self.escape()?),
                Some('\n') => {
                    return Err(self.problem_at(
                        Mistake::Other("this string is not closed before the end of its line".to_owned()),
                        open,
                    ));
                }
                Some(c) if c < ' ' => {
                    let words = "a control character in a string must be written as an escape".to_owned();
                    return Err(self.problem_at(Mistake::Other(words), self.next - c.len_utf8()));
                }
                Some(c) => said.push(c),
            }
        }
        let written = Written {
            start: self.placed.at(open).offset,
            end: self.placed.at(self.next).offset,
            style: Style::Double,
        };
        Ok(Text { said, written })
    }

    fn escape(&mut self) -> Result<char, Problem> {
        let start = self.next.saturating_sub(1);
        let other = |words: &str| Mistake::Other(words.to_owned());
        let c = self.bump().ok_or_else(|| self.problem(other("the text ends inside an escape")))?;
        Ok(match c {
            '"' | '\\' | '/' => c,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let high = self
                    .hex()
                    .ok_or_else(|| self.problem_at(other("\\u needs four hexadecimal digits"), start))?;
                self.unicode(high)
            }
            _ => return Err(self.problem_at(Mistake::Other(format!("\\{c} is no escape of JSON")), start)),
        })
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.placed.text.get(self.next..self.next + 4)?;
        let number = u32::from_str_radix(digits, 16).ok()?;
        self.next += 4;
        Some(number)
    }

    /// A code unit, or a pair of them; half a pair becomes the replacement character, as Go does it.
    fn unicode(&mut self, high: u32) -> char {
        if (0xd800..0xdc00).contains(&high) && self.placed.text[self.next..].starts_with("\\u") {
            let back = self.next;
            self.next += 2;
            if let Some(low) = self.hex().filter(|low| (0xdc00..0xe000).contains(low)) {
                let point = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                return char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER);
            }
            self.next = back;
        }
        char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER)
    }

    fn word(&mut self) -> Result<Value, Problem> {
        let rest = self.placed.text.get(self.next..).unwrap_or_default();
        let length = rest.find(|c: char| !(c.is_alphanumeric() || "+-._".contains(c))).unwrap_or(rest.len());
        let word = &rest[..length];
        let value = match word {
            "null" => Value::Null,
            "true" => Value::Switch(true),
            "false" => Value::Switch(false),
            _ if serde_json::from_str::<serde_json::Number>(word).is_ok() => Value::Number(word.to_owned()),
            "" => return Err(self.problem(unexpected(rest.chars().next().unwrap_or(' '), "a value"))),
            _ => {
                let words = format!("{word:?} is no value: a string stands in double quotes");
                return Err(self.problem(Mistake::Other(words)));
            }
        };
        self.next += length;
        Ok(value)
    }
}

fn unexpected(c: char, wanted: &str) -> Mistake {
    match c {
        '\'' | '`' | '\u{2018}'..='\u{201f}' | '\u{ab}' | '\u{bb}' | '\u{2032}' | '\u{2033}' => {
            Mistake::Quote(c)
        }
        _ => Mistake::Other(format!("there is {c:?} where {wanted} belongs")),
    }
}
