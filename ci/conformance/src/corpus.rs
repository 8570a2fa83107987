//! Reads the corpus and makes of each case the instances that run: one for each of its versions.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::case::{Case, Step};

/// One case in one version.
#[derive(Debug, Clone)]
pub struct Instance {
    /// `FILE/NAME`, with the version where the case has several.
    pub name: String,
    /// The theme: the file's name.
    pub file: String,
    /// What `$v` stands for.
    pub version: String,
    /// What `$each` stands for.
    pub each: Option<String>,
    /// The case, its words not yet replaced.
    pub case: Case,
    source: Value,
}

impl Instance {
    /// The case with its words replaced; one that is not in `words` stays.
    pub fn read(&self, words: &BTreeMap<String, String>) -> Result<Case> {
        serde_json::from_value(replaced(&self.source, words)).context(self.name.clone())
    }
}

fn replaced(value: &Value, words: &BTreeMap<String, String>) -> Value {
    match value {
        Value::String(text) => Value::String(fill(text, words)),
        Value::Array(list) => list.iter().map(|element| replaced(element, words)).collect(),
        Value::Object(object) => {
            object.iter().map(|(key, value)| (fill(key, words), replaced(value, words))).collect()
        }
        other => other.clone(),
    }
}

/// Replaces `$word` by what the word stands for; one that is not in `words` stays.
pub fn fill(text: &str, words: &BTreeMap<String, String>) -> String {
    let mut parts = text.split('$');
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(part.len());
        match words.get(&part[..end]) {
            Some(word) => filled.extend([word.as_str(), &part[end..]]),
            None => filled.extend(["$", part]),
        }
    }
    filled
}

/// The folder of the corpus.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// All instances, in the order of files and of cases in them.
pub fn load() -> Result<Vec<Instance>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder())?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    let mut instances = Vec::new();
    let mut names = BTreeSet::new();
    for path in files {
        let file = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        for (source, case) in parse(&text).with_context(|| format!("{file}.yaml"))? {
            for (version, each) in variants(&case) {
                let several = case.versions.len() > 1;
                let tags: Vec<&str> =
                    several.then_some(version.as_str()).into_iter().chain(each.as_deref()).collect();
                let suffix = if tags.is_empty() { String::new() } else { format!(" ({})", tags.join(", ")) };
                let name = format!("{file}/{}{suffix}", case.name);
                if !names.insert(name.clone()) {
                    bail!("{file}.yaml: two cases are called {:?}", case.name);
                }
                let (file, case, source) = (file.clone(), case.clone(), source.clone());
                instances.push(Instance { name, file, version, each, case, source });
            }
        }
    }
    Ok(instances)
}

fn variants(case: &Case) -> Vec<(String, Option<String>)> {
    let of = |version: &String| -> Vec<(String, Option<String>)> {
        match case.each.is_empty() {
            true => vec![(version.clone(), None)],
            false => case.each.iter().map(|each| (version.clone(), Some(each.clone()))).collect(),
        }
    };
    case.versions.iter().flat_map(of).collect()
}

/// The cases of one file.
///
/// # Errors
/// Names the case that is not of the format.
fn parse(text: &str) -> Result<Vec<(Value, Case)>> {
    let elements: Vec<Value> = serde_saphyr::from_str(text)?;
    elements.into_iter().map(one).collect()
}

fn one(element: Value) -> Result<(Value, Case)> {
    let name = element["name"].as_str().unwrap_or("(no name)").to_owned();
    let case: Case = serde_json::from_value(element.clone()).with_context(|| format!("case {name:?}"))?;
    let unknown = case.unknown.keys().chain(case.steps.iter().flat_map(|step: &Step| step.unknown.keys()));
    if let Some(key) = unknown.into_iter().next() {
        bail!("case {name:?}: there is no key {key:?}");
    }
    if case.holds.is_empty() {
        bail!("case {name:?} holds no clause");
    }
    let one_add = case.add.calls.is_some() || case.add.error.is_some();
    if one_add != case.steps.is_empty() {
        bail!("case {name:?} needs either what is expected of its one ADD, or steps");
    }
    Ok((element, case))
}
