//! Places inside of JSON that a YAML string holds, and input that no parser may trip over.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests may fail loudly")]

use std::{collections::BTreeSet, path::Path};

use multus_try::{
    json::{self, Placed},
    lint::{Here, World, lint_world},
    node::Node,
    source::Source,
    yaml,
};
use proptest::prelude::*;

fn whole(text: &str) -> Placed {
    Placed { text: text.to_owned(), file: 0, offsets: (0..=text.len()).collect() }
}

/// The config in a manifest, read, and the manifest's text.
fn embedded(manifest: &str) -> (Node, Source) {
    let source = Source { name: "a".to_owned(), text: manifest.to_owned() };
    let (documents, broken) = yaml::read(&source, 0);
    assert!(broken.is_none(), "{broken:?}\n{manifest}");
    let node = documents[0].root.path(&["spec", "config"]).unwrap().clone();
    let multus_try::node::Value::Text(text) = &node.value else { panic!("no string: {node:?}") };
    (json::parse(&yaml::placed(&source, 0, text)).unwrap(), source)
}

/// Every key is found at its place in the file; of a value that is a string, its quote.
fn check(node: &Node, source: &Source, escaped: bool) {
    let quote = if escaped { "\\\"" } else { "\"" };
    for entry in node.entries() {
        let rest = &source.text[entry.at.offset..];
        assert!(
            rest.starts_with(&format!("{quote}{}", entry.key)),
            "{:?} at {:?}",
            entry.key,
            &rest[..20.min(rest.len())]
        );
        let value = &source.text[entry.node.at.offset..];
        match entry.node.text() {
            Some(text) => assert!(value.starts_with(&format!("{quote}{text}")), "{text:?}"),
            None => check(&entry.node, source, escaped),
        }
    }
    node.items().iter().for_each(|item| check(item, source, escaped));
}

const CONFIG: &str = r#"{
  "cniVersion": "1.0.0",

  "type": "bridge",   "isGateway":true,
  "ipam": { "type": "host-local",
"ranges": [ [ { "subnet": "10.61.0.0/24" } ],
            [ { "subnet": "fd00::/64" } ] ] }
}"#;

fn indented(by: usize) -> String {
    CONFIG
        .lines()
        .map(|line| if line.is_empty() { "\n".to_owned() } else { format!("{}{line}\n", " ".repeat(by)) })
        .collect()
}

#[test]
fn every_style_of_string_keeps_the_places_of_its_json() {
    let head = "kind: NetworkAttachmentDefinition\nspec:\n";
    for (style, by) in
        [("|", 4), ("|-", 6), ("|+", 3), (">", 4), (">-", 8), ("|2", 4), ("|  # why", 4), (">\n\n\n", 4)]
    {
        let (node, source) = embedded(&format!("{head}  config: {style}\n{}", indented(by)));
        check(&node, &source, false);
    }
    for by in [0, 2, 4] {
        let (node, source) = embedded(&format!("{head}  config: '{}'\nstatus: {{}}\n", indented(by).trim()));
        check(&node, &source, false);
        let escaped = indented(by).trim().replace('"', "\\\"");
        let (node, source) = embedded(&format!("{head}  config: \"{escaped}\"\n"));
        check(&node, &source, true);
        let (node, source) =
            embedded(&format!("{head}  config: \"{}\"\n", escaped.replace('\n', "\\n\\\n ")));
        check(&node, &source, true);
    }
    let manifest = serde_json::json!({ "spec": { "config": CONFIG } });
    for text in [manifest.to_string(), format!("{manifest:#}"), format!("# a comment\n{manifest}")] {
        let (node, source) = embedded(&text);
        check(&node, &source, true);
    }
}

#[test]
fn the_place_in_a_quoted_string_counts_escapes() {
    let (node, source) = embedded("spec:\n  config: '{ \"it''s\": 1, \"b\": [\"x\"] }'\n");
    let place = node.get("b").unwrap().items()[0].at.offset;
    assert!(source.text[place..].starts_with("\"x\""));
    let (node, source) =
        embedded("spec:\n  config: \"{ \\\"\\u00e9\\x41\\\": 1,\\t\\\"b\\\":\\u0020[3] }\"\n");
    let place = node.get("b").unwrap().items()[0].at.offset;
    assert!(source.text[place..].starts_with("3]"));
    assert_eq!(node.entries()[0].key, "éA");
}

#[test]
fn aliases_that_would_fill_the_memory_are_refused() {
    let mut bomb = "a0: &a0 [x, x]\n".to_owned();
    for level in 1..40 {
        bomb.push_str(&format!("a{level}: &a{level} [*a{0}, *a{0}]\n", level - 1));
    }
    let (_, broken) = yaml::read(&Source { name: "a".to_owned(), text: bomb }, 0);
    assert!(broken.is_some());
}

fn look(text: &str) {
    let sources = vec![Source { name: "a".to_owned(), text: text.to_owned() }];
    let world = World::new(sources, Here { interfaces: Some(vec!["eth0".to_owned()]), plugins: Vec::new() });
    for finding in lint_world(&world, &BTreeSet::new()) {
        assert!(finding.line > 0 && finding.column > 0);
    }
}

#[test]
fn no_manifest_however_broken_makes_the_lint_panic() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for corpus in ["broken", "good"] {
        testkit::fuzz::run(&tests.join(corpus), |input| look(&String::from_utf8_lossy(input))).unwrap();
    }
}

fn any_json(strings: &'static str) -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        strings.prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            proptest::collection::vec((strings, inner), 0..6)
                .prop_map(|entries| { serde_json::Value::Object(entries.into_iter().collect()) }),
        ]
    })
}

fn same(node: &Node, value: &serde_json::Value) -> bool {
    use multus_try::node::Value;
    match (&node.value, value) {
        (Value::Null, serde_json::Value::Null) => true,
        (Value::Switch(a), serde_json::Value::Bool(b)) => a == b,
        (Value::Number(a), serde_json::Value::Number(b)) => *a == b.to_string(),
        (Value::Text(a), serde_json::Value::String(b)) => a.said == *b,
        (Value::List(a), serde_json::Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Map(a), serde_json::Value::Object(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, (key, b))| a.key == *key && same(&a.node, b))
        }
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn json_says_what_serde_json_says(value in any_json(".*")) {
        for text in [value.to_string(), format!("{value:#}")] {
            prop_assert!(same(&json::parse(&whole(&text)).unwrap(), &value), "{}", text);
        }
    }

    #[test]
    fn json_is_refused_where_serde_json_refuses_it(value in any_json(".*"), at in any::<prop::sample::Index>(), sign in "[\\x20-\\x7f]?") {
        let mut text: Vec<char> = value.to_string().chars().collect();
        let place = at.index(text.len());
        text.splice(place..=place, sign.chars());
        let text: String = text.into_iter().collect();
        let ours = json::parse(&whole(&text)).is_ok();
        // Half a pair of code units is a string for Go and so for us.
        if !text.contains("\\u") && !text.contains("\\U") {
            prop_assert_eq!(ours, serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
        }
    }

    #[test]
    fn a_block_of_json_is_placed_to_the_byte(value in any_json("[ -~]*").prop_map(|inner| serde_json::json!({ "config": inner })), by in 3_usize..9) {
        let text = format!("{value:#}");
        let block: String = text.lines().map(|line| format!("{}{line}\n", " ".repeat(by))).collect();
        let (node, source) = embedded(&format!("spec:\n  config: |\n{block}"));
        prop_assert!(same(&node, &value));
        let first = node.entries().first().map(|entry| entry.at.offset);
        prop_assert!(first.is_none_or(|first| source.text[first..].starts_with('"')));
    }
}
