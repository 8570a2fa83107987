//! `cargo xtask gen`: docs/conformance.md, the table of every clause and the tests that hold it.
//!
//! It is made of `ci/conformance/clauses.yaml`, of the lines above tests that say which clauses they hold, and of
//! the cases of the corpus. A test of this crate fails when the page is out of date or a clause is unaccounted for.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::tidy::{repository, tracked};

const CLAUSES: &str = "ci/conformance/clauses.yaml";
const CORPUS: &str = "ci/conformance/corpus/";
const PAGE: &str = "docs/conformance.md";

/// In the page's order.
const FAMILIES: [&str; 7] = ["N", "C", "D", "B", "P", "FA", "FB"];

/// In two parts, so that this file does not find itself.
const MARK: &str = concat!("// ", "Holds:");

/// A mark stands directly above its test; between them are attributes at most.
const NEAR: usize = 6;

/// Cases of one corpus file that are named for a clause; the others are counted.
const NAMED_CASES: usize = 3;

/// A family of clauses.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Family {
    title: String,
    clauses: BTreeMap<String, Clause>,
}

/// One clause.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Clause {
    #[serde(default)]
    section: String,
    says: String,
    /// Why no test holds it, or not all of it.
    because: Option<String>,
}

/// Something that holds a clause.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Holder {
    /// From the repository's root.
    path: String,
    /// Name of a test, or of a case.
    name: String,
}

type Holders = BTreeMap<String, Vec<Holder>>;

/// Writes the page.
pub(crate) fn run() -> Result<()> {
    let root = repository();
    let page = page(&root)?;
    std::fs::write(root.join(PAGE), page).with_context(|| format!("cannot write {PAGE}"))?;
    println!("{PAGE} is written");
    Ok(())
}

/// The page's text; an error names what is wrong with a clause or a mark.
fn page(root: &Path) -> Result<String> {
    let read =
        |path: &str| std::fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"));
    let families: BTreeMap<String, Family> =
        serde_saphyr::from_str(&read(CLAUSES)?).with_context(|| CLAUSES.to_owned())?;
    let mut holders = Holders::new();
    for path in tracked(root)? {
        if path.ends_with(".rs") && root.join(&path).is_file() {
            marks(&path, &read(&path)?, &mut holders)?;
        } else if path.starts_with(CORPUS) && path.ends_with(".yaml") {
            cases(&path, &read(&path)?, &mut holders)?;
        }
    }
    check(&families, &holders)?;
    write(&families, &holders).context("cannot write the page")
}

/// What the tests of a file hold.
fn marks(path: &str, text: &str, holders: &mut Holders) -> Result<()> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for (number, line) in lines.iter().enumerate() {
        let Some(listed) = line.strip_prefix(MARK) else { continue };
        let below = lines.iter().skip(number + 1).take(NEAR);
        let name = below.filter_map(|line| function(line)).next().with_context(|| {
            format!("{path}:{}: no test stands below this line; put it above one", number + 1)
        })?;
        for id in listed.split(',') {
            let holder = Holder { path: path.to_owned(), name: name.to_owned() };
            holders.entry(id.trim().to_owned()).or_default().push(holder);
        }
    }
    Ok(())
}

/// The name in a line that begins a function.
fn function(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("pub ").unwrap_or(line);
    let rest = rest.strip_prefix("async ").unwrap_or(rest).strip_prefix("fn ")?;
    rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

/// What the cases of a corpus file hold.
fn cases(path: &str, text: &str, holders: &mut Holders) -> Result<()> {
    let cases: Vec<Value> = serde_saphyr::from_str(text).with_context(|| path.to_owned())?;
    for case in cases {
        let name = case["name"].as_str().with_context(|| format!("{path}: a case has no name"))?;
        for id in case["holds"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let holder = Holder { path: path.to_owned(), name: name.to_owned() };
            holders.entry(id.to_owned()).or_default().push(holder);
        }
    }
    Ok(())
}

/// Every clause has a test or a reason, and every mark names a clause.
fn check(families: &BTreeMap<String, Family>, holders: &Holders) -> Result<()> {
    let clauses = || families.values().flat_map(|family| &family.clauses);
    for (id, clause) in clauses() {
        let reason = clause.because.as_deref();
        if reason.is_some_and(|why| !why.starts_with("does not apply: ") && !why.starts_with("not held: ")) {
            bail!("{CLAUSES}: {id}: the reason begins with `does not apply: ` or `not held: `");
        }
        if reason.is_none() && !holders.contains_key(id) {
            bail!("no test holds {id} ({}); mark one, or say in {CLAUSES} why not", clause.says);
        }
    }
    for (id, held_by) in holders {
        if !clauses().any(|(known, _)| known == id) {
            let place = held_by.first().map(|holder| holder.path.as_str()).unwrap_or_default();
            bail!("{place}: there is no clause {id:?}; the clauses are in {CLAUSES}");
        }
    }
    Ok(())
}

fn write(families: &BTreeMap<String, Family>, holders: &Holders) -> Result<String> {
    let mut page = String::from(
        "# Conformance\n\n\
         What Multus is held to, and the tests that hold it. `cargo xtask gen` writes this page from the tests, and the\n\
         gate fails when it is out of date. A test is named by its function; a case of the corpus by its sentence.\n\n\
         | clauses | of them held by tests | do not apply | not held |\n| --- | --- | --- | --- |\n",
    );
    for id in FAMILIES {
        let family = families.get(id).with_context(|| format!("{CLAUSES} has no family {id}"))?;
        let held = family.clauses.keys().filter(|id| holders.contains_key(*id)).count();
        let because = |word: &str| {
            let unheld = family.clauses.iter().filter(|(id, _)| !holders.contains_key(*id));
            unheld.filter(|(_, c)| c.because.as_ref().is_some_and(|why| why.starts_with(word))).count()
        };
        let count = family.clauses.len();
        let (apply, open) = (because("does not apply"), because("not held"));
        writeln!(
            page,
            "| [{id}1 to {id}{count}](#{}) {} | {held} | {apply} | {open} |",
            id.to_lowercase(),
            family.title
        )?;
    }
    for id in FAMILIES {
        if let Some(family) = families.get(id) {
            section(id, family, holders, &mut page)?;
        }
    }
    Ok(page)
}

fn section(id: &str, family: &Family, holders: &Holders, page: &mut String) -> Result<()> {
    writeln!(page, "\n## {id}\n\n{}.\n\n| clause | says | held by |\n| --- | --- | --- |", family.title)?;
    let mut clauses: Vec<_> = family.clauses.iter().collect();
    clauses.sort_by_key(|(id, _)| id.trim_start_matches(char::is_alphabetic).parse::<u32>().ok());
    for (id, clause) in clauses {
        let section =
            if clause.section.is_empty() { String::new() } else { format!(" ({})", clause.section) };
        let mut cells: Vec<String> = clause.because.iter().map(|why| format!("*{why}*")).collect();
        cells.extend(holders.get(id).into_iter().flat_map(|held_by| links(held_by)));
        writeln!(page, "| {id}{section} | {} | {} |", clause.says, cells.join("<br>"))?;
    }
    Ok(())
}

/// One link for each test, and one for each file of the corpus.
fn links(held_by: &[Holder]) -> Vec<String> {
    let mut by_file: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for holder in held_by {
        by_file.entry(&holder.path).or_default().push(&holder.name);
    }
    let mut links = Vec::new();
    for (path, names) in by_file {
        let Some(file) = path.strip_prefix(CORPUS) else {
            links.extend(names.iter().map(|name| format!("[{name}](../{path})")));
            continue;
        };
        let more = names.len().saturating_sub(NAMED_CASES);
        let shown = names.iter().take(NAMED_CASES).copied().collect::<Vec<_>>().join("; ");
        let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
        links.push(format!("[{file}](../{path}): {shown}{rest}"));
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_clause_is_accounted_for_and_the_page_is_up_to_date() {
        let root = repository();
        let made = page(&root).unwrap();
        let written = std::fs::read_to_string(root.join(PAGE)).unwrap_or_default();
        assert!(made == written, "{PAGE} is out of date: run `cargo xtask gen`");
    }

    #[test]
    fn a_mark_names_the_test_below_it() {
        let mut holders = Holders::new();
        let text = format!("    {MARK} N1, C2\n    #[test]\n    fn it_works() {{\n");
        marks("a.rs", &text, &mut holders).unwrap();
        let held = vec![Holder { path: "a.rs".into(), name: "it_works".into() }];
        assert_eq!(holders, Holders::from([("N1".into(), held.clone()), ("C2".into(), held)]));
        assert!(marks("a.rs", &format!("{MARK} N1\nstruct A;\n"), &mut holders).is_err());
    }

    #[test]
    fn a_clause_without_test_and_reason_and_a_mark_without_clause_are_refused() {
        let family = |because: Option<&str>| {
            let clause =
                Clause { section: String::new(), says: "x".into(), because: because.map(str::to_owned) };
            let clauses = BTreeMap::from([("N1".to_owned(), clause)]);
            BTreeMap::from([("N".to_owned(), Family { title: "t".into(), clauses })])
        };
        let holder = |id: &str| Holders::from([(id.to_owned(), Vec::new())]);
        assert!(check(&family(None), &Holders::new()).is_err());
        assert!(check(&family(Some("because")), &Holders::new()).is_err());
        assert!(check(&family(Some("not held: why")), &Holders::new()).is_ok());
        assert!(check(&family(None), &holder("N1")).is_ok());
        assert!(check(&family(None), &holder("N2")).is_err());
    }
}
