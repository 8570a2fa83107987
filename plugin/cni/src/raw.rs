//! JSON objects whose values stay exactly the bytes their author wrote.
//!
//! A delegate must see unknown keys, big numbers and key order as the user gave them, so nothing here goes
//! through a tree of decoded values.

use std::{collections::HashMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
    ser::SerializeMap,
};
use serde_json::value::RawValue;

use crate::error::{Error, code};

/// Largest configuration that is read.
pub const MAX_SIZE: usize = 256 * 1024;
/// Deepest nesting that is read.
pub const MAX_DEPTH: usize = 64;

/// A JSON object: keys in order, values as written. Of a key given twice the last value counts.
#[derive(Clone, Debug, Default)]
pub struct Object(Vec<(String, Box<RawValue>)>);

impl Object {
    /// Parses a configuration of at most [`MAX_SIZE`] bytes.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Self::parse_capped(text, MAX_SIZE)
    }

    /// Parses an object of at most `max` bytes: code 7 when it is too big or too deep, else 6.
    pub fn parse_capped(text: &str, max: usize) -> Result<Self, Error> {
        if text.len() > max {
            let msg = format!("the JSON has {} bytes, more than the {max} that are read", text.len());
            return Err(Error::new(code::INVALID_CONFIG, msg));
        }
        if too_deep(text.as_bytes()) {
            let msg = format!("the JSON is nested deeper than {MAX_DEPTH} levels");
            return Err(Error::new(code::INVALID_CONFIG, msg));
        }
        Self::parse_unbounded(text)
    }

    /// Parses an object that was within bounds when it was written, and may have grown since.
    pub(crate) fn parse_unbounded(text: &str) -> Result<Self, Error> {
        serde_json::from_str(text).map_err(|e| Error::new(code::DECODE, format!("not a JSON object: {e}")))
    }

    /// The value of a key, as written.
    pub fn get(&self, key: &str) -> Option<&RawValue> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| &**v)
    }

    /// The decoded value of a key; `None` when it is absent or `null`, code 7 when it has another type.
    pub fn get_as<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => serde_json::from_str(value.get())
                .map_err(|e| Error::new(code::INVALID_CONFIG, format!("key {key:?} has a wrong value: {e}"))),
        }
    }

    /// The decoded value that a Go plugin would read under `key`, whatever the spelling (see [`same_key`]);
    /// `null` counts as absent. Code 7 for another type, and for several spellings with different values: which
    /// of them counts would depend on the reader.
    pub fn get_known<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        let mut spellings = self.0.iter().filter(|(k, v)| same_key(k, key) && v.get() != "null");
        let Some((spelling, value)) = spellings.next() else { return Ok(None) };
        if spellings.any(|(_, other)| other.get() != value.get()) {
            let msg = format!("key {key:?} is there in several spellings with different values: keep one");
            return Err(Error::new(code::INVALID_CONFIG, msg));
        }
        self.get_as(spelling)
    }

    /// Sets a key; an existing one keeps its place.
    pub fn set(&mut self, key: &str, value: &impl Serialize) -> Result<(), Error> {
        let raw = serde_json::value::to_raw_value(value)
            .map_err(|e| Error::new(code::INTERNAL, format!("key {key:?} cannot be written: {e}")))?;
        self.set_raw(key, raw);
        Ok(())
    }

    /// Sets a key to a value as written; an existing one keeps its place.
    pub fn set_raw(&mut self, key: &str, value: Box<RawValue>) {
        match self.0.iter_mut().find(|(k, _)| k == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    /// Removes a key.
    pub fn remove(&mut self, key: &str) {
        self.0.retain(|(k, _)| k != key);
    }

    /// Removes a key in every spelling that a Go plugin would read as this key (see [`same_key`]).
    pub fn remove_spellings(&mut self, key: &str) {
        self.0.retain(|(k, _)| !same_key(k, key));
    }

    /// Removes every key for which `unwanted` is true.
    pub fn remove_if(&mut self, unwanted: impl Fn(&str) -> bool) {
        self.0.retain(|(k, _)| !unwanted(k));
    }

    /// Keys and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.0.iter().map(|(k, v)| (k.as_str(), &**v))
    }

    /// True without any key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The object as JSON text.
    pub fn to_json(&self) -> String {
        let mut out = String::from("{");
        for (i, (key, value)) in self.0.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            out.push_str(&serde_json::Value::from(key.as_str()).to_string());
            out.push(':');
            out.push_str(value.get());
        }
        out.push('}');
        out
    }
}

/// True when Go's JSON decoder takes `a` for `b`: it ignores case, and folds two letters from outside ASCII.
/// What we refuse or replace must be refused or replaced in each of these spellings.
pub fn same_key(a: &str, b: &str) -> bool {
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    a.chars().map(fold).eq(b.chars().map(fold))
}

/// Looks at brackets outside of strings only: the decoder that follows judges the rest.
fn too_deep(text: &[u8]) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// A `T` that was a JSON object. serde would also fill a struct from an array, by position; nobody else does.
#[derive(Clone, Debug, Default)]
pub struct Keyed<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Keyed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Keys<T> {
            type Value = Keyed<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Keyed<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Keyed)
            }
        }
        deserializer.deserialize_map(Keys(PhantomData))
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut entries: Vec<(String, Box<RawValue>)> = Vec::new();
                // Places by key, so that an object of many keys does not cost the square of their number.
                let mut places: HashMap<String, usize> = HashMap::new();
                while let Some((key, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    if let Some(entry) = places.get(&key).and_then(|place| entries.get_mut(*place)) {
                        entry.1 = value;
                    } else {
                        places.insert(key.clone(), entries.len());
                        entries.push((key, value));
                    }
                }
                Ok(Object(entries))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}
