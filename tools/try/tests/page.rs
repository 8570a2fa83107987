//! The page of rules in `docs/lint` says what the rules are, with an example of each.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests may fail loudly")]

use std::{collections::BTreeSet, fmt::Write, fs, path::Path};

use multus_try::{
    files,
    lint::{Here, lint, rules},
};

/// Lines of an example on each side of its mistake.
const AROUND: usize = 3;

fn page() -> String {
    let mut page = "<!-- Made from the rules and tools/try/tests/broken by a test; BLESS=1 cargo test -p multus-try --test page -->\n\
         # Rules of the lint\n\n\
         `multus-try --lint FILE …` tells these mistakes. How to run and silence it: [multus-try](../try.md).\n\n"
        .to_owned();
    for rule in rules::all() {
        writeln!(page, "- [{0}](#{0})", rule.name).unwrap();
    }
    for rule in rules::all() {
        let (name, why, fix) = (rule.name, rule.why, rule.fix);
        let why = format!("{}{}", why[..1].to_uppercase(), &why[1..]);
        let fix = format!("{}{}", fix[..1].to_uppercase(), &fix[1..]);
        write!(page, "\n## {name}\n\n{why}.\n\n{fix}.\n\n{}", example(name)).unwrap();
    }
    page
}

/// The mistake in its lines, and what is said about it.
fn example(rule: &str) -> String {
    let broken = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let sources = files::read(&[broken.join(format!("{rule}.yaml"))]).or_else(|_| {
        let mut of_rule: Vec<_> = fs::read_dir(&broken).unwrap().map(|entry| entry.unwrap().path()).collect();
        of_rule.sort();
        let head = format!("# expect: {rule} ");
        of_rule.retain(|path| fs::read_to_string(path).unwrap().starts_with(&head));
        files::read(&of_rule[..1])
    });
    let sources = sources.unwrap();
    let here = Here { interfaces: Some(["eth0", "eth1"].map(str::to_owned).to_vec()), plugins: Vec::new() };
    let findings = lint(sources.clone(), here, &BTreeSet::new());
    let finding = findings.first().unwrap_or_else(|| panic!("{rule} has no finding"));
    // The first two lines are the test's.
    let first = finding.line.saturating_sub(AROUND).max(3);
    let lines = sources[0].text.lines().enumerate().map(|(index, line)| (index + 1, line));
    let mut shown = String::new();
    for (number, line) in lines.filter(|(number, _)| (first..=finding.line + AROUND).contains(number)) {
        let mark = if number == finding.line { ">" } else { " " };
        let line: String = line.chars().take(100).collect();
        writeln!(shown, "{mark} {line}").unwrap();
    }
    // Where the repository lies is nobody's business.
    let message = finding.message.replace(&format!("{}/", broken.display()), "");
    format!("```text\n{shown}```\n\n- {message}\n- Fix: {}\n", finding.fix)
}

#[test]
fn the_page_of_rules_is_what_the_rules_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/lint/README.md");
    let page = page();
    if std::env::var_os("BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "docs/lint/README.md is old: BLESS=1 cargo test -p multus-try --test page");
}
