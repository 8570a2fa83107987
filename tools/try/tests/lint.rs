//! The lint, on definitions with one mistake each and on good ones.
#![expect(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use multus_try::{
    files,
    lint::{Finding, Here, lint, rules},
};

/// The interfaces of the node that the examples are for.
const INTERFACES: [&str; 6] = ["eth0", "eth1", "eth2", "ens1f0", "bond0", "enp3s0"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn manifests(name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder(name)).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "yaml" || end == "json")).collect();
    paths.sort();
    paths
}

fn findings(path: &Path) -> Vec<Finding> {
    let interfaces = INTERFACES.iter().map(|name| (*name).to_owned()).collect();
    let here = Here { interfaces: Some(interfaces), plugins: Vec::new() };
    lint(files::read(&[path.to_owned()]).unwrap(), here, &BTreeSet::new())
}

/// What the head of a broken file says: the rule, the place as `LINE:COLUMN`, and a part of the remedy.
fn expected(path: &Path) -> (String, String, String) {
    let head = if path.extension().is_some_and(|end| end == "json") {
        fs::read_to_string(format!("{}.expect", path.display())).unwrap()
    } else {
        fs::read_to_string(path).unwrap()
    };
    let line = |key: &str| head.lines().find_map(|line| line.strip_prefix(key)).unwrap().to_owned();
    let (rule, place) =
        line("# expect: ").split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    (rule, place, line("# fix: "))
}

#[test]
fn each_broken_definition_gets_its_mistake_its_place_its_fix_and_nothing_else() {
    let paths = manifests("broken");
    assert!(paths.len() >= 60, "{}", paths.len());
    let mut wrong = Vec::new();
    for path in &paths {
        let (rule, place, fix) = expected(path);
        let found = findings(path);
        let right = matches!(found.as_slice(), [one] if one.rule == rule
            && format!("{}:{}", one.line, one.column) == place && one.fix.contains(&fix));
        if !right {
            wrong.push(format!("{}: wanted {rule} {place} {fix:?}, found {found:#?}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), paths.len(), wrong.join("\n"));
}

#[test]
fn good_definitions_get_no_finding() {
    let paths = manifests("good");
    assert!(paths.len() >= 30, "{}", paths.len());
    for path in &paths {
        let found = findings(path);
        assert!(found.is_empty(), "{}: {found:#?}", path.display());
    }
}

#[test]
fn the_projects_own_examples_get_no_finding() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples");
    let found = lint(files::read(&[examples]).unwrap(), Here::default(), &BTreeSet::new());
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_rule_has_a_broken_definition_that_shows_it() {
    let shown: BTreeSet<String> = manifests("broken").iter().map(|path| expected(path).0).collect();
    let names: Vec<&str> = rules::all().map(|rule| rule.name).collect();
    let unshown: Vec<&&str> = names.iter().filter(|name| !shown.contains(**name)).collect();
    assert!(unshown.is_empty(), "{unshown:?}");
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "two rules of one name");
    assert!(names.len() >= 60, "{}", names.len());
}

#[test]
fn messages_are_one_short_line_and_say_what_to_do() {
    for path in manifests("broken") {
        for finding in findings(&path) {
            for text in [&finding.message, &finding.fix, &finding.why.to_owned()] {
                assert!(!text.is_empty() && text.len() < 300 && !text.contains('\n'), "{text:?}");
            }
        }
    }
}

#[test]
fn a_mistake_is_silenced_by_a_comment_in_its_document_and_by_an_option() {
    for path in manifests("broken").iter().filter(|path| path.extension().is_some_and(|end| end == "yaml")) {
        let (rule, ..) = expected(path);
        let sources = files::read(std::slice::from_ref(path)).unwrap();
        let interfaces = Some(INTERFACES.iter().map(|name| (*name).to_owned()).collect());
        let here = || Here { interfaces: interfaces.clone(), plugins: Vec::new() };
        let allowed = BTreeSet::from([rule.clone()]);
        assert!(lint(sources.clone(), here(), &allowed).is_empty(), "{}", path.display());
        if ["yaml-syntax", "yaml-tab"].contains(&rule.as_str()) {
            continue;
        }
        // In the document of the finding: behind its `---`, or at the top.
        let mut commented = sources;
        let comment = format!("# multus-try: allow {rule}\n");
        commented[0].text =
            format!("{comment}{}", commented[0].text.replace("---\n", &format!("---\n{comment}")));
        let found = lint(commented, here(), &BTreeSet::new());
        assert!(found.is_empty(), "{}: {found:#?}", path.display());
    }
}

#[test]
fn a_comment_silences_its_own_document_only() {
    let path = folder("broken/range-order.yaml");
    let mut sources = files::read(&[path]).unwrap();
    let text = sources[0].text.clone();
    sources[0].text =
        format!("# multus-try: allow range-order, mtu\n{text}---\n{}", text.replace("storage", "backup"));
    let found = lint(sources, Here::default(), &BTreeSet::new());
    assert_eq!(found.iter().map(|finding| finding.rule).collect::<Vec<_>>(), ["range-order"]);
}
