//! Mistakes in network definitions and in what pods ask for, found by reading.
//!
//! A rule is one function with a name, a reason and a remedy ([`Rule`]). It looks at the [`World`] and says what it
//! found. Rules are about what can never work, or never does what was meant; they are no matter of taste.

pub mod cidr;
pub mod knowledge;
pub mod near;
pub mod pods;
pub mod ranges;
pub mod report;
pub mod rules;
pub mod world;

use std::collections::BTreeSet;

use serde::Serialize;

use crate::source::{At, Source};

pub use world::{Here, World};

/// One kind of mistake.
#[derive(Debug)]
pub struct Rule {
    /// Lower case with dashes; part of the interface, since people silence rules by it.
    pub name: &'static str,
    /// What happens to a pod because of the mistake.
    pub why: &'static str,
    /// What to do about it, in general; a finding says it for its case.
    pub fix: &'static str,
    /// Looks for it.
    pub check: fn(&World, &mut Found),
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The rule's name.
    pub rule: &'static str,
    /// The file, as it was given.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// What is wrong here.
    pub message: String,
    /// What happens because of it.
    pub why: &'static str,
    /// What to write instead.
    pub fix: String,
}

/// What the rules found so far.
#[derive(Debug, Default)]
pub struct Found {
    found: Vec<(At, String, String)>,
}

impl Found {
    /// Notes a mistake: where, what, and what to write instead.
    pub fn add(&mut self, at: At, message: impl Into<String>, fix: impl Into<String>) {
        self.found.push((at, message.into(), fix.into()));
    }
}

/// Looks for every mistake in these files, but for the rules in `allowed`.
pub fn lint(sources: Vec<Source>, here: Here, allowed: &BTreeSet<String>) -> Vec<Finding> {
    lint_world(&World::new(sources, here), allowed)
}

/// Like [`lint`], for files that have been read.
pub fn lint_world(world: &World, allowed: &BTreeSet<String>) -> Vec<Finding> {
    let silenced: Vec<Silence> = silences(world);
    let mut findings: BTreeSet<(At, &'static str, String, String)> = BTreeSet::new();
    for rule in rules::all().filter(|rule| !allowed.contains(rule.name)) {
        let mut found = Found::default();
        (rule.check)(world, &mut found);
        let heard =
            found.found.into_iter().filter(|(at, ..)| !silenced.iter().any(|s| s.covers(rule.name, *at)));
        findings.extend(heard.map(|(at, message, fix)| (at, rule.name, message, fix)));
    }
    let place = |(at, rule, message, fix): (At, &'static str, String, String)| {
        let source = world.sources.get(at.file)?;
        let (line, column) = source.line_column(at.offset);
        let why = rules::all().find(|known| known.name == rule).map_or("", |known| known.why);
        Some(Finding { rule, file: source.name.clone(), line, column, message, why, fix })
    };
    findings.into_iter().filter_map(place).collect()
}

/// A comment that allows a rule in its document.
#[derive(Debug)]
pub struct Silence {
    /// The rule's name, as it was written.
    pub rule: String,
    /// Where it was written.
    pub at: At,
    /// The document: from this byte to that.
    document: std::ops::Range<usize>,
}

impl Silence {
    fn covers(&self, rule: &str, at: At) -> bool {
        self.rule == rule && self.at.file == at.file && self.document.contains(&at.offset)
    }
}

/// What begins such a comment.
const ALLOW: &str = "# multus-try: allow ";

/// Every `# multus-try: allow RULE, RULE` of the files.
pub fn silences(world: &World) -> Vec<Silence> {
    let mut silences = Vec::new();
    for (file, (source, read)) in world.sources.iter().zip(&world.files).enumerate() {
        for (begin, _) in source.text.match_indices(ALLOW) {
            let names = begin + ALLOW.len();
            let list = source.text.get(names..).and_then(|rest| rest.lines().next()).unwrap_or_default();
            let starts = || read.documents.iter().map(|document| document.start);
            let start = starts().filter(|start| *start <= begin).max().unwrap_or(0);
            let end = starts().find(|start| *start > begin).unwrap_or(usize::MAX);
            let mut offset = names;
            for name in list.split(',') {
                let lead = name.len() - name.trim_start().len();
                let at = At { file, offset: offset + lead };
                silences.push(Silence { rule: name.trim().to_owned(), at, document: start..end });
                offset += name.len() + 1;
            }
        }
    }
    silences
}
