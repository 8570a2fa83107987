//! Whatever users, files and the wire hold: an answer or a fault of one short line, never a panic.

use meta::{journal::Journal, netconf::NetConf, selection};
use proptest::prelude::*;

/// Texts near the grammar of the networks annotation, where the mistakes are.
fn annotation() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,200}",
        "[a-c./@, \\-]{0,40}",
        r#"\[(\{"(name|namespace|interface|ips)":("[a-z@/.]{0,16}"|null|[0-9]|\[\]),?\}?,?){0,4}\]"#,
    ]
}

proptest! {
    #[test]
    fn an_annotation_gives_selections_that_are_safe_or_one_line(text in annotation()) {
        match selection::parse(&text, "demo", false) {
            Ok(selections) => {
                prop_assert!(selections.len() <= selection::MAX_NETWORKS);
                for chosen in selections {
                    for name in [&chosen.network.namespace, &chosen.network.name] {
                        prop_assert!(!name.is_empty() && !name.contains(['/', '@', ' ']) && name != "..", "{name}");
                    }
                    prop_assert!(chosen.interface.is_none_or(|name| cni::env::valid_ifname(&name)));
                }
            }
            Err(fault) => {
                let line = fault.line();
                prop_assert!(line.chars().count() < 300 && !line.chars().any(char::is_control), "{line}");
            }
        }
    }

    #[test]
    fn our_entry_of_the_conflist_is_read_or_refused(text in r#"\{("(clusterNetwork|runDir|globalNamespaces|formatVersion|allowedPlugins)":("[a-z,/]{0,9}"|[0-9]{1,20}|null|true|\["a"\]),?){0,4}\}"#) {
        if let Ok(config) = cni::raw::Object::parse(&text)
            && let Err(fault) = NetConf::parse(&config)
        {
            prop_assert!(fault.line().chars().count() < 300);
        }
    }

    #[test]
    fn a_journal_of_any_bytes_is_corrupt_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let state = tempfile::tempdir()?;
        std::fs::create_dir(state.path().join("journal"))?;
        std::fs::write(state.path().join("journal/sandbox.json"), &bytes)?;
        prop_assert!(Journal::durable(state.path()).read("sandbox").is_err());
    }
}

#[test]
fn the_common_forms_mean_what_the_standard_says() {
    let chosen = |text: &str| -> Vec<(String, String, Option<String>)> {
        let selections = selection::parse(text, "demo", false).expect(text);
        selections.into_iter().map(|s| (s.network.namespace, s.network.name, s.interface)).collect()
    };
    let one = |namespace: &str, name: &str, interface: Option<&str>| {
        (namespace.to_owned(), name.to_owned(), interface.map(str::to_owned))
    };
    assert_eq!(chosen("a,b"), [one("demo", "a", None), one("demo", "b", None)]);
    assert_eq!(chosen(" ns/a@if0 , b "), [one("ns", "a", Some("if0")), one("demo", "b", None)]);
    assert_eq!(
        chosen(r#"[{"name":"a","namespace":"ns","interface":"if0","unknown":1}]"#),
        [one("ns", "a", Some("if0"))]
    );
    assert_eq!(
        chosen("a,a"),
        [one("demo", "a", None), one("demo", "a", None)],
        "the same network twice is two attachments"
    );
}
