//! Configurations: what is accepted, how it is read, and which files of a folder make a network.

use std::{fs, path::Path};

use cni::{
    config::{NetworkConfig, find_network},
    error::Error,
    raw::{Object, same_key},
};
use serde_json::{Value, json};

use crate::oracle::{Answer, Network, Oracle};

/// The corpus of configurations as (name, text), in the order of the names.
pub(crate) fn corpus() -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/config");
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path: &std::path::PathBuf| {
        (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap())
    };
    files.iter().map(read).collect()
}

/// Text as Go prints it: it turns every number into a float on its way, and results may have an empty `dns`.
pub(crate) fn as_go_sees(text: &str) -> Value {
    fn visit(value: &mut Value) {
        match value {
            Value::Number(number) => *value = json!(number.as_f64()),
            Value::Array(items) => items.iter_mut().for_each(visit),
            Value::Object(map) => {
                map.retain(|key, value| key != "dns" || *value != json!({}));
                map.values_mut().for_each(visit);
            }
            _ => {}
        }
    }
    let mut value = serde_json::from_str(text).unwrap();
    visit(&mut value);
    value
}

fn same_network(what: &str, ours: &NetworkConfig, theirs: &Network) {
    let or_default = |version: &str| if version.is_empty() { "0.1.0".to_owned() } else { version.to_owned() };
    assert_eq!(ours.name, theirs.name, "{what}");
    assert_eq!(ours.cni_version, or_default(&theirs.cni_version), "{what}");
    assert_eq!((ours.disable_check, ours.disable_gc), (theirs.disable_check, theirs.disable_gc), "{what}");
    let plugins = theirs.plugins.as_deref().unwrap_or_default();
    assert_eq!(ours.plugins.len(), plugins.len(), "{what}");
    let mut capabilities = Vec::new();
    for (ours, theirs) in ours.plugins.iter().zip(plugins) {
        assert_eq!(cni::config::plugin_type(ours).unwrap(), theirs.kind, "{what}");
        assert_eq!(as_go_sees(&ours.to_json()), as_go_sees(&theirs.bytes), "{what}");
        let declared = theirs.capabilities.iter().flatten();
        capabilities.extend(declared.filter(|(_, on)| **on).map(|(name, _)| name.clone()));
    }
    capabilities.sort();
    capabilities.dedup();
    assert_eq!(ours.capabilities().into_iter().collect::<Vec<_>>(), capabilities, "{what}");
}

/// Both refuse it, or both read the same.
fn same_outcome(what: &str, ours: &Result<NetworkConfig, Error>, theirs: &Answer) {
    match (ours, &theirs.network) {
        (Ok(ours), Some(theirs)) => same_network(what, ours, theirs),
        (Err(_), None) => {}
        _ => panic!("{what}: we: {ours:?}; libcni: {theirs:?}"),
    }
}

// Holds: D1, D4, D6
#[test]
fn every_configuration_of_the_corpus_is_read_as_libcni_reads_it() {
    let Some(mut oracle) = Oracle::start() else { return };
    for (name, text) in corpus() {
        let ours = NetworkConfig::parse(&text, None);
        let theirs = oracle.ask(&json!({"op": "parse", "text": text}));
        if name.contains("stricter-") {
            // libcni refuses these only when a plugin is run, takes one of two, or has no limit.
            assert!(ours.is_err() && theirs.error.is_empty(), "{name}: {ours:?}; libcni: {theirs:?}");
            continue;
        }
        assert_eq!(name.contains("bad-"), ours.is_err(), "{name}: {ours:?}; libcni: {theirs:?}");
        same_outcome(&name, &ours, &theirs);
    }
}

// Holds: D5
#[test]
fn files_and_their_folders_are_read_as_libcni_reads_them() {
    let Some(mut oracle) = Oracle::start() else { return };
    let list = r#"{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"a"}]}"#;
    let inlined =
        r#"{"cniVersion":"1.0.0","name":"net","loadOnlyInlinedPlugins":true,"plugins":[{"type":"a"}]}"#;
    let bare = r#"{"cniVersion":"1.0.0","name":"net"}"#;
    let bare_inlined = r#"{"cniVersion":"1.0.0","name":"net","loadOnlyInlinedPlugins":"true"}"#;
    let folders: [&[(&str, &str)]; 5] = [
        &[],
        &[("20.conf", r#"{"type":"twenty"}"#), ("10.conf", r#"{"type":"ten","name":"x"}"#)],
        &[(".conf", r#"{"type":"hidden"}"#), ("x.conflist", "{"), ("x.json", "{"), ("noconf", "{")],
        &[("10.conf", r#"{"type":"ten"}"#), ("20.conf", "{")],
        &[("10.conf", r#"{"name":"ten"}"#)],
    ];
    for file in [list, inlined, bare, bare_inlined, "", "{", "null"] {
        for folder in folders {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x.conflist");
            fs::write(&path, file).unwrap();
            if !folder.is_empty() {
                fs::create_dir(dir.path().join("net")).unwrap();
            }
            for (name, text) in folder {
                fs::write(dir.path().join("net").join(name), text).unwrap();
            }
            let ours = NetworkConfig::load_file(&path);
            let theirs = oracle.ask(&json!({"op": "file", "path": path}));
            same_outcome(&format!("{file} with {folder:?}"), &ours, &theirs);
        }
    }
}

// Holds: N5
#[test]
fn a_network_is_found_in_the_file_where_libcni_finds_it() {
    let Some(mut oracle) = Oracle::start() else { return };
    let list = |name: &str, kind: &str| format!(r#"{{"name":"{name}","plugins":[{{"type":"{kind}"}}]}}"#);
    let single = |name: &str, kind: &str| format!(r#"{{"name":"{name}","type":"{kind}"}}"#);
    let files = [
        ("10-a.conf", single("a", "s10")),
        ("05-b.json", single("b", "s05")),
        ("30-a.conflist", list("a", "l30")),
        ("20-a.conflist", list("a", "l20")),
        ("20-b.conf", single("b", "s20")),
        ("00-c.conflist.bak", list("c", "bak")),
        ("00-d.CONF", single("d", "capital")),
    ];
    for left_out in 0..files.len() {
        let dir = tempfile::tempdir().unwrap();
        for (index, (name, text)) in files.iter().enumerate() {
            if index != left_out {
                fs::write(dir.path().join(name), text).unwrap();
            }
        }
        for name in ["a", "b", "c", "d", "absent"] {
            let ours = find_network(dir.path(), name);
            let theirs = oracle.ask(&json!({"op": "find", "dir": dir.path(), "name": name}));
            same_outcome(&format!("{name} without {}", files[left_out].0), &ours, &theirs);
        }
    }
    // libcni gives up at the first file that it cannot read; one file of somebody else's must not do that to us.
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("00-broken.conflist"), "{").unwrap();
    fs::write(dir.path().join("10-a.conflist"), list("a", "l10")).unwrap();
    assert!(!oracle.ask(&json!({"op": "find", "dir": dir.path(), "name": "a"})).error.is_empty());
    assert_eq!(find_network(dir.path(), "a").unwrap().name, "a");
}

/// Every spelling that differs from `key` in one or two letters, by case or by a letter that looks alike.
fn spellings(key: &str) -> Vec<String> {
    let letters: Vec<char> = key.chars().collect();
    let others = |c: char| {
        let mut others = vec![c.to_ascii_uppercase(), c.to_ascii_lowercase()];
        others.extend(match c.to_ascii_lowercase() {
            's' => vec!['\u{17f}', 'ß', 'Ŝ'],
            'k' => vec!['\u{212a}', 'ķ'],
            'i' => vec!['İ', 'ı', 'í'],
            'e' => vec!['é', 'ｅ'],
            'n' => vec!['ñ', 'Ｎ'],
            _ => vec![],
        });
        others
    };
    let mut found = vec![key.to_owned(), key.to_ascii_uppercase(), format!("{key} "), format!("{key}\u{0}")];
    for first in 0..letters.len() {
        for one in others(letters[first]) {
            for second in 0..letters.len() {
                for two in others(letters[second]) {
                    let mut spelling = letters.clone();
                    spelling[first] = one;
                    spelling[second] = two;
                    found.push(spelling.into_iter().collect());
                }
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

// Holds: D2
#[test]
fn a_spelling_counts_as_a_key_where_gos_decoder_takes_it() {
    let Some(mut oracle) = Oracle::start() else { return };
    for key in ["type", "name", "cniVersion", "capabilities", "ipam"] {
        let spellings = spellings(key);
        let question = |spelling: &String| {
            let mut plugin = json!({"type": "t"});
            plugin[spelling] = match key {
                "capabilities" => json!({"seen": true}),
                "ipam" => json!({"type": "seen"}),
                _ => json!("seen"),
            };
            // Two keys: the one in question comes last, so that a decoder that takes it has its value.
            json!({"op": "plugin", "text": plugin.to_string()})
        };
        let answers = oracle.ask_all(&spellings.iter().map(question).collect::<Vec<_>>());
        for (spelling, answer) in spellings.iter().zip(answers) {
            let read = answer.plugin.unwrap();
            let seen = match key {
                "type" => read.kind == "seen",
                "name" => read.name == "seen",
                "cniVersion" => read.cni_version == "seen",
                "capabilities" => read.capabilities.unwrap_or_default().contains_key("seen"),
                _ => read.ipam_type == "seen",
            };
            assert_eq!(same_key(spelling, key), seen, "{spelling:?} for {key:?}");
        }
    }
}

#[test]
fn of_a_key_given_twice_the_last_value_counts_as_in_go() {
    let Some(mut oracle) = Oracle::start() else { return };
    let text = r#"{"name":"n","type":"a","type":"b","name":"m"}"#;
    let theirs = oracle.ask(&json!({"op": "plugin", "text": text})).plugin.unwrap();
    let ours = Object::parse(text).unwrap();
    assert_eq!(cni::config::plugin_type(&ours).unwrap(), theirs.kind);
    assert_eq!(ours.get_known::<String>("name").unwrap().unwrap(), theirs.name);
}
