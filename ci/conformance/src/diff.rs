//! What is and what should be, where they differ.

use serde_json::Value;

/// One difference of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where: `step 1 ADD, call 2 (ADD second net1): stdin.runtimeConfig`.
    pub place: String,
    /// What the specification says.
    pub expected: String,
    /// What happened.
    pub got: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: expected {}, got {}", self.place, shorten(&self.expected), shorten(&self.got))
    }
}

fn shorten(text: &str) -> String {
    let text = if text.is_empty() { "nothing" } else { text };
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() <= 600 {
        return text;
    }
    text.chars().take(600).chain("…".chars()).collect()
}

/// The smallest places where two values differ, below `place`.
pub fn values(place: &str, expected: &Value, got: &Value, found: &mut Vec<Difference>) {
    match (expected, got) {
        (Value::Object(a), Value::Object(b)) => {
            for (key, value) in a {
                match b.get(key) {
                    Some(other) => values(&format!("{place}.{key}"), value, other, found),
                    None => found.push(difference(&format!("{place}.{key}"), value.to_string(), "")),
                }
            }
            for (key, value) in b.iter().filter(|(key, _)| !a.contains_key(*key)) {
                found.push(difference(&format!("{place}.{key}"), "", value.to_string()));
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                values(&format!("{place}[{index}]"), a, b, found);
            }
        }
        (a, b) if a == b => {}
        (a, b) => found.push(difference(place, a.to_string(), b.to_string())),
    }
}

/// A difference between two texts.
pub fn difference(place: &str, expected: impl Into<String>, got: impl Into<String>) -> Difference {
    Difference { place: place.to_owned(), expected: expected.into(), got: got.into() }
}
