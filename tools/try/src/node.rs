//! A value of YAML or JSON that knows where it was written.

use crate::source::At;

/// A value and its place.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// Where it begins.
    pub at: At,
    /// What it is.
    pub value: Value,
}

/// What a [`Node`] can be.
#[derive(Debug, Clone, Default)]
pub enum Value {
    /// Nothing, or `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Switch(bool),
    /// A number as it was written.
    Number(String),
    /// A string.
    Text(Text),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the file; a key given twice is there twice.
    Map(Vec<Entry>),
}

/// A string: what it says, and how each of its bytes came about.
#[derive(Debug, Clone, Default)]
pub struct Text {
    /// What it says, escapes resolved.
    pub said: String,
    /// How it was written.
    pub written: Written,
}

/// Where and in which style a string stands in its file.
#[derive(Debug, Clone, Copy, Default)]
pub struct Written {
    /// First byte, the quote included.
    pub start: usize,
    /// Behind the last byte.
    pub end: usize,
    /// Which escapes it knows.
    pub style: Style,
}

/// Which escapes a string knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Style {
    /// None: plain, literal and folded.
    #[default]
    Plain,
    /// `''`.
    Single,
    /// A backslash and what follows, of YAML and so of JSON.
    Double,
}

/// One key with its value.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key begins.
    pub at: At,
    /// Its value.
    pub node: Node,
}

impl Node {
    /// The value of a key of a mapping; of a key given twice the last one, as decoders do it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// Like [`Node::get`], in any spelling that Go's JSON decoder would take for this key; `null` counts as absent.
    pub fn get_as_go(&self, key: &str) -> Option<&Node> {
        let same = |entry: &&Entry| cni::raw::same_key(&entry.key, key) && !entry.node.is_null();
        self.entries().iter().rev().find(same).map(|entry| &entry.node)
    }

    /// The entry of a key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().rev().find(|entry| entry.key == key)
    }

    /// The value at the end of a path of keys.
    pub fn path(&self, keys: &[&str]) -> Option<&Node> {
        keys.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The entries of a mapping; none for anything else.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The elements of a list; none for anything else.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// What a string says.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(&text.said),
            _ => None,
        }
    }

    /// A whole number.
    pub fn number(&self) -> Option<i128> {
        match &self.value {
            Value::Number(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// `null`, or nothing at all.
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// `true`.
    pub fn is_true(&self) -> bool {
        matches!(self.value, Value::Switch(true))
    }

    /// What it is, in a word for people.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "null",
            Value::Switch(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "an object",
        }
    }

    /// A scalar as one would read it aloud; empty for lists and mappings.
    pub fn shown(&self) -> String {
        match &self.value {
            Value::Null => "null".to_owned(),
            Value::Switch(on) => on.to_string(),
            Value::Number(text) => text.clone(),
            Value::Text(text) => text.said.clone(),
            Value::List(_) | Value::Map(_) => String::new(),
        }
    }
}
