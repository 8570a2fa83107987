//! YAML and JSON manifests as documents of [`Node`]s, and the way from a string's bytes back to the file's.
//!
//! kubectl's reader is more lenient than YAML 1.2 in one thing that is everywhere: the lines of a quoted
//! `spec.config` may be indented as little as their key. [`read`] accepts that too.

use std::collections::HashMap;

use granit_parser::{ErrorKind, Event, Options, Parser, ScalarStyle, ScanError};

use crate::{
    json::{self, Placed},
    node::{Entry, Node, Style, Text, Value, Written},
    source::{At, Source},
};

/// Most values of one file, aliases expanded: a few hundred bytes can ask for billions.
const MAX_NODES: usize = 1 << 20;
/// Spaces put before a line that is indented too little; more than any key is.
const PADDING: usize = 256;

/// One document of a file.
#[derive(Debug, Clone)]
pub struct Document {
    /// Its value.
    pub root: Node,
    /// First byte of it in the file; the first document begins at 0.
    pub start: usize,
}

/// Why a file could not be read to its end.
#[derive(Debug, Clone)]
pub struct Unreadable {
    /// Where.
    pub at: At,
    /// Why.
    pub kind: Broken,
}

/// What can be wrong with a whole file.
#[derive(Debug, Clone)]
pub enum Broken {
    /// A tab where YAML wants spaces.
    Tab,
    /// Any other mistake of YAML, in the parser's words.
    Yaml(String),
    /// A file that begins with `{` is JSON, and is none.
    Json(json::Mistake),
}

/// Reads all documents of a file; those before a mistake are still returned.
pub fn read(source: &Source, file: usize) -> (Vec<Document>, Option<Unreadable>) {
    if source.text.trim_start().starts_with('{') {
        let offsets = (0..=source.text.len()).collect();
        return match json::parse(&Placed { text: source.text.clone(), file, offsets }) {
            Ok(root) => (vec![Document { root, start: 0 }], None),
            Err(problem) => {
                (Vec::new(), Some(Unreadable { at: problem.at, kind: Broken::Json(problem.kind) }))
            }
        };
    }
    let mut padded = Padded { text: source.text.clone(), lines: Vec::new() };
    loop {
        let mut builder = Builder::new(&padded, file);
        let error = builder.run();
        let documents = builder.documents;
        let Some(error) = error else { return (documents, None) };
        if *error.kind() == ErrorKind::InvalidQuotedScalarIndent && padded.pad(error.marker().line()) {
            continue;
        }
        let (offset, kind) = explain(source, &padded, &error);
        return (documents, Some(Unreadable { at: At { file, offset }, kind }));
    }
}

/// A copy of the text with some lines indented further.
struct Padded {
    text: String,
    /// Beginnings of the padded lines, in the padded text, ascending.
    lines: Vec<usize>,
}

impl Padded {
    /// Indents a line, counted from 1; false when it has been, so that nobody tries for ever.
    fn pad(&mut self, line: usize) -> bool {
        let starts = self.text.match_indices('\n').map(|(offset, _)| offset + 1);
        let Some(start) = std::iter::once(0).chain(starts).nth(line.saturating_sub(1)) else { return false };
        if self.lines.contains(&start) {
            return false;
        }
        self.text.insert_str(start, &" ".repeat(PADDING));
        let later = self.lines.partition_point(|known| *known < start);
        self.lines.iter_mut().skip(later).for_each(|known| *known += PADDING);
        self.lines.insert(later, start);
        true
    }

    /// The byte of the file that a byte of the padded text stands for.
    fn original(&self, offset: usize) -> usize {
        let before = self.lines.partition_point(|start| *start < offset);
        let inside = before
            .checked_sub(1)
            .and_then(|last| self.lines.get(last))
            .map_or(0, |start| PADDING.saturating_sub(offset - start));
        offset + inside - before * PADDING
    }
}

fn explain(source: &Source, padded: &Padded, error: &ScanError) -> (usize, Broken) {
    let marker = error.marker();
    let offset = padded.original(marker.byte_offset().unwrap_or_default());
    let first = source.line_start(source.line_column(offset).0);
    let tabs = matches!(
        error.kind(),
        ErrorKind::TabNotAllowed
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabAtBlockScalarStart
            | ErrorKind::TabInIndentation
            | ErrorKind::TabInPlainScalar
    );
    // The parser points to the value before the tab, people look for the tab.
    let tab = source.text.get(first..).and_then(indentation_tab).filter(|_| tabs);
    match tab {
        Some(tab) => (first + tab, Broken::Tab),
        None => (offset, Broken::Yaml(error.info())),
    }
}

/// The first tab in the indentation of one of these lines.
fn indentation_tab(text: &str) -> Option<usize> {
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let blank = line.len() - line.trim_start_matches([' ', '\t']).len();
        if let Some(tab) = line.get(..blank).and_then(|blank| blank.find('\t')) {
            return Some(offset + tab);
        }
        offset += line.len();
    }
    None
}

/// A list or mapping whose end has not come yet.
enum Open {
    List(Vec<Node>),
    Map(Vec<Entry>, Option<(String, At)>),
}

struct Builder<'a> {
    padded: &'a Padded,
    file: usize,
    documents: Vec<Document>,
    stack: Vec<(At, usize, Open)>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'a> Builder<'a> {
    fn new(padded: &'a Padded, file: usize) -> Self {
        Self { padded, file, documents: Vec::new(), stack: Vec::new(), anchors: HashMap::new(), nodes: 0 }
    }

    /// Reads to the end, or to the first mistake.
    fn run(&mut self) -> Option<ScanError> {
        let mut options = Options::default();
        options.set_emit_comments(false);
        let mut start = 0;
        for next in Parser::new_from_str_with_options(&self.padded.text, options) {
            let (event, span) = match next {
                Ok(next) => next,
                Err(error) => return Some(error),
            };
            let range = span.byte_range().unwrap_or_default();
            let range = self.padded.original(range.start)..self.padded.original(range.end);
            let at = At { file: self.file, offset: range.start };
            match event {
                Event::DocumentStart(..) => {
                    start = if self.documents.is_empty() { 0 } else { range.start };
                    self.anchors.clear();
                }
                Event::SequenceStart(_, anchor, _) => self.stack.push((at, anchor, Open::List(Vec::new()))),
                Event::MappingStart(_, anchor, _) => {
                    self.stack.push((at, anchor, Open::Map(Vec::new(), None)))
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    if let Some((at, anchor, open)) = self.stack.pop() {
                        let value = match open {
                            Open::List(items) => Value::List(items),
                            Open::Map(entries, _) => Value::Map(merged(entries)),
                        };
                        self.put(Node { at, value }, anchor, start);
                    }
                }
                Event::Scalar(text, style, anchor, tag) => {
                    let forced = tag.is_some_and(|tag| tag.core_suffix() == Some("str"));
                    let style =
                        if forced && style == ScalarStyle::Plain { ScalarStyle::SingleQuoted } else { style };
                    let value = scalar(
                        &text,
                        style,
                        Written { start: range.start, end: range.end, style: of(style) },
                    );
                    self.put(Node { at, value }, anchor, start);
                }
                Event::Alias(anchor) => {
                    let node = self.anchors.get(&anchor).cloned().unwrap_or_default();
                    self.nodes += size(&node);
                    self.put(Node { at, ..node }, 0, start);
                }
                _ => {}
            }
            if self.nodes > MAX_NODES {
                return Some(ScanError::new(span.start, "its aliases expand to more than a million values"));
            }
        }
        None
    }

    /// A value that is whole: it belongs to what is open, or is a document.
    fn put(&mut self, node: Node, anchor: usize, start: usize) {
        self.nodes += 1;
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.stack.last_mut() {
            None => self.documents.push(Document { root: node, start }),
            Some((_, _, Open::List(items))) => items.push(node),
            Some((_, _, Open::Map(entries, key))) => match key.take() {
                None => *key = Some((node.shown(), node.at)),
                Some((key, at)) => entries.push(Entry { key, at, node }),
            },
        }
    }
}

fn size(node: &Node) -> usize {
    1 + node.items().iter().map(size).sum::<usize>()
        + node.entries().iter().map(|entry| size(&entry.node)).sum::<usize>()
}

/// `<<` takes over the keys of another mapping that are not given here.
fn merged(mut entries: Vec<Entry>) -> Vec<Entry> {
    while let Some(place) = entries.iter().position(|entry| entry.key == "<<") {
        let merge = entries.remove(place).node;
        let sources = if merge.items().is_empty() { vec![merge] } else { merge.items().to_vec() };
        for entry in sources.iter().flat_map(Node::entries) {
            if !entries.iter().any(|known| known.key == entry.key) {
                entries.push(entry.clone());
            }
        }
    }
    entries
}

fn of(style: ScalarStyle) -> Style {
    match style {
        ScalarStyle::SingleQuoted => Style::Single,
        ScalarStyle::DoubleQuoted => Style::Double,
        _ => Style::Plain,
    }
}

/// Plain words are read as kubectl reads them, which is YAML 1.1 where it comes to `yes` and `on`.
fn scalar(text: &str, style: ScalarStyle, written: Written) -> Value {
    let string = || Value::Text(Text { said: text.to_owned(), written });
    if style != ScalarStyle::Plain {
        return string();
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Value::Switch(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Value::Switch(false),
        _ if text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
            && text.parse::<f64>().is_ok() =>
        {
            Value::Number(text.to_owned())
        }
        _ => string(),
    }
}

/// A string with the place of each of its bytes, ready to be read as JSON.
///
/// A string differs from what is written only in blanks (indentation, folding) and escapes. So the places follow
/// from walking both and pairing what is not blank.
pub fn placed(source: &Source, file: usize, text: &Text) -> Placed {
    let written = source.text.get(text.written.start..text.written.end).unwrap_or_default();
    let quoted = text.written.style != Style::Plain;
    let mut next = usize::from(quoted);
    let mut offsets = Vec::with_capacity(text.said.len() + 1);
    for c in text.said.chars() {
        let mut length = 0;
        if !c.is_whitespace() {
            (next, length) = next_sign(written, next, text.written.style, c);
        }
        offsets.extend(std::iter::repeat_n(text.written.start + next, c.len_utf8()));
        next += length;
    }
    offsets.push(text.written.start + next);
    Placed { text: text.said.clone(), file, offsets }
}

/// Where the next sign that is not blank stands in what was written, and how long it is there.
fn next_sign(written: &str, mut next: usize, style: Style, wanted: char) -> (usize, usize) {
    loop {
        let rest = written.get(next..).unwrap_or_default();
        let Some(c) = rest.chars().next() else { return (written.len(), 0) };
        let (length, blank) = match (style, c) {
            (Style::Double, '\\') => escape(rest),
            (Style::Single, '\'') => (2, false),
            _ => (c.len_utf8(), c.is_whitespace()),
        };
        // `wanted` stands here unless the text is from elsewhere, as after a merge; then any place will do.
        if !blank || wanted.is_whitespace() {
            return (next, length.min(rest.len()));
        }
        next += length;
    }
}

/// How long an escape is, and whether it stands for a blank or for nothing.
fn escape(rest: &str) -> (usize, bool) {
    let code = |digits: usize| rest.get(2..2 + digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    let hex =
        |digits: usize| (2 + digits, code(digits).and_then(char::from_u32).is_some_and(char::is_whitespace));
    match rest.chars().nth(1) {
        Some('x') => hex(2),
        Some('u') if code(4).is_some_and(|unit| (0xd800..0xdc00).contains(&unit)) => (12, false),
        Some('u') => hex(4),
        Some('U') => hex(8),
        Some(c) => (1 + c.len_utf8(), c.is_whitespace() || "ntvrNLP_".contains(c)),
        None => (1, false),
    }
}
