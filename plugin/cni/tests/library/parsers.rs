//! Environment, configuration and result: what is read, what is refused, and that nothing panics.

use std::{collections::BTreeMap, fs};

use cni::{
    config::{self, NetworkConfig},
    env::{Command, Request, valid_container_id, valid_ifname},
    error::{Error, code},
    raw::Object,
    result::CniResult,
    version::SUPPORTED,
};
use proptest::prelude::*;

fn call(command: &str) -> BTreeMap<String, String> {
    let vars = [
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/x"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin:/usr/lib/cni"),
        ("CNI_ARGS", "IgnoreUnknown=1;A=b=c;"),
    ];
    vars.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

const CONFIG: &[u8] = br#"{"cniVersion":"1.0.0","name":"n","type":"x"}"#;

#[test]
fn a_call_is_read() {
    let request = Request::from_env(&call("ADD"), CONFIG).unwrap();
    assert_eq!(request.command, Command::Add);
    assert_eq!(request.args[1], ("A".to_owned(), "b=c".to_owned()));
    assert_eq!(request.path.len(), 2);
    assert_eq!(request.cni_version, "1.0.0");
}

// Holds: C4, D20
#[test]
fn each_verb_names_the_variables_that_it_lacks() {
    for (command, name, fails) in [
        ("ADD", "CNI_NETNS", true),
        ("ADD", "CNI_IFNAME", true),
        ("CHECK", "CNI_NETNS", true),
        ("DEL", "CNI_NETNS", false),
        ("DEL", "CNI_CONTAINERID", true),
        ("STATUS", "CNI_CONTAINERID", false),
        ("GC", "CNI_IFNAME", false),
        ("VERSION", "CNI_PATH", false),
    ] {
        let mut env = call(command);
        env.remove(name);
        match Request::from_env(&env, CONFIG) {
            Ok(_) => assert!(!fails, "{command} without {name}"),
            Err(e) => assert!(fails && e.code == code::BAD_ENVIRONMENT && e.msg.contains(name), "{e}"),
        }
    }
    assert_eq!(Request::from_env(&call("NONE"), CONFIG).unwrap_err().code, code::BAD_ENVIRONMENT);
    assert_eq!(Request::from_env(&BTreeMap::new(), CONFIG).unwrap_err().code, code::BAD_ENVIRONMENT);
    assert_eq!(Request::from_env(&call("ADD"), b"{").unwrap_err().code, code::DECODE);
    let future = br#"{"cniVersion":"9.0.0","name":"n"}"#;
    assert_eq!(Request::from_env(&call("ADD"), future).unwrap_err().code, code::INCOMPATIBLE_VERSION);
    Request::from_env(&call("VERSION"), b"").unwrap();
}

// Holds: C10
#[test]
fn arguments_that_an_add_refuses_do_not_stop_a_del() {
    for (text, refused) in
        [("", false), (";;", false), ("A=b=c;B=", false), ("A", true), ("A=b;word;C=d", true)]
    {
        let mut env = call("ADD");
        env.insert("CNI_ARGS".to_owned(), text.to_owned());
        match Request::from_env(&env, CONFIG) {
            Ok(_) => assert!(!refused, "{text}"),
            Err(error) => assert!(refused && error.code == code::BAD_ENVIRONMENT, "{text}: {error}"),
        }
        env.insert("CNI_COMMAND".to_owned(), "DEL".to_owned());
        let keys: Vec<_> =
            Request::from_env(&env, CONFIG).unwrap().args.into_iter().map(|(key, _)| key).collect();
        let with_value: Vec<_> =
            text.split(';').filter_map(|item| Some(item.split_once('=')?.0.to_owned())).collect();
        assert_eq!(keys, with_value, "{text}");
    }
}

// Holds: C1, C2, N19
#[test]
fn ids_and_interface_names() {
    for good in ["a", "A0_.-", &"x".repeat(64)] {
        assert!(valid_container_id(good), "{good}");
    }
    for bad in ["", "../x", "-a", "a/b", "a\0", "é", &"x".repeat(300)] {
        assert!(!valid_container_id(bad), "{bad}");
    }
    for good in ["eth0", "net-1.2", "exactly15bytes0"] {
        assert!(valid_ifname(good), "{good}");
    }
    for bad in ["", ".", "..", "a/b", "a:b", "a b", "net%d", "sixteen-bytes-00", "a\u{a0}b", "a\u{7}"] {
        assert!(!valid_ifname(bad), "{bad}");
    }
}

// Holds: D4, D6
#[test]
fn a_network_is_read_as_single_plugin_and_as_list() {
    let single =
        NetworkConfig::parse(r#"{"type":"bridge","capabilities":{"mac":true,"ips":false}}"#, Some("nad"))
            .unwrap();
    assert_eq!((single.name.as_str(), single.cni_version.as_str()), ("nad", "0.1.0"));
    assert_eq!(single.capabilities().into_iter().collect::<Vec<_>>(), ["mac"]);
    let text = r#"{"cniVersion":"0.4.0","cniVersions":["1.0.0","9.9.9"],"name":"l","disableCheck":"true","other":1.0,
        "plugins":[{"type":"a","x":1},{"type":"b"}]}"#;
    let list = NetworkConfig::parse(text, None).unwrap();
    assert_eq!(list.cni_version, "1.0.0");
    assert!(list.disable_check && !list.disable_gc);
    assert_eq!(
        list.to_json(),
        r#"{"cniVersion":"1.0.0","name":"l","disableCheck":true,"other":1.0,"plugins":[{"type":"a","x":1},{"type":"b"}]}"#
    );
    assert_eq!(NetworkConfig::parse(&list.to_json(), None).unwrap().to_json(), list.to_json());
}

// Holds: D2, D3, P2
#[test]
fn bad_networks_are_refused() {
    let many = format!(r#"{{"name":"n","plugins":[{}]}}"#, vec![r#"{"type":"a"}"#; 65].join(","));
    let deep = format!(r#"{{"name":"n","type":"a","x":{}{}}}"#, "[".repeat(80), "]".repeat(80));
    let large = format!(r#"{{"name":"n","type":"a","x":"{}"}}"#, "x".repeat(300_000));
    for text in [
        r#"{"type":"a"}"#,
        r#"{"type":"a","name":"../x"}"#,
        r#"{"name":"n"}"#,
        r#"{"name":"n","plugins":[]}"#,
        r#"{"name":"n","plugins":[null]}"#,
        r#"{"name":"n","plugins":[{"type":"a"},{"type":"../b"}]}"#,
        r#"{"name":"n","type":"a","ipam":{"type":"../b"}}"#,
        r#"{"name":"n","type":"a","IPAM":{"Type":"/b"}}"#,
        r#"{"name":"n","type":7}"#,
        &many,
        &deep,
        &large,
    ] {
        let error = NetworkConfig::parse(text, None).unwrap_err();
        assert_eq!(error.code, code::INVALID_CONFIG, "{text:.80}: {error}");
        assert!(error.to_string().chars().count() < 300);
    }
    for text in ["", "[]", "null", "{", "\"x\"", "a,["] {
        assert_eq!(NetworkConfig::parse(text, Some("n")).unwrap_err().code, code::DECODE, "{text}");
    }
    NetworkConfig::parse(r#"{"name":"n","type":"a","ipam":{}}"#, None).unwrap();
    NetworkConfig::parse(r#"{"name":"n","type":"a","ipam":{"type":""}}"#, None).unwrap();
}

// Holds: D16
#[test]
fn runtime_keys_of_a_user_are_dropped_in_every_spelling() {
    let text =
        r#"{"name":"n","plugins":[{"type":"a","prevResult":{},"RuntimeConfig":{},"prevReſult":1,"keep":2}]}"#;
    let mut network = NetworkConfig::parse(text, None).unwrap();
    network.strip_runtime_keys();
    assert_eq!(network.plugins[0].to_json(), r#"{"type":"a","keep":2}"#);
}

#[test]
fn files_are_found_and_a_list_gets_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("20-b.conf", r#"{"name":"single","type":"b"}"#);
    write("10-a.conflist", r#"{"name":"net","plugins":[{"type":"a"}]}"#);
    write("30-only.conflist", r#"{"name":"net","loadOnlyInlinedPlugins":true,"plugins":[{"type":"a"}]}"#);
    write(".hidden.tmp", "{");
    fs::create_dir(dir.path().join("net")).unwrap();
    write("net/2.conf", r#"{"type":"second"}"#);
    write("net/1.conf", r#"{"type":"first"}"#);
    write("net/ignored.conflist", "{");
    let files = config::scan_dir(dir.path()).unwrap();
    let names: Vec<_> = files.iter().map(|f| f.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["10-a.conflist", "20-b.conf", "30-only.conflist"]);
    let kinds = |index: usize| -> Vec<String> {
        let network = NetworkConfig::load_file(&files[index]).unwrap();
        network.plugins.iter().map(|p| p.get_as("type").unwrap().unwrap()).collect()
    };
    assert_eq!(kinds(0), ["a", "first", "second"]);
    assert_eq!(kinds(1), ["b"]);
    assert_eq!(kinds(2), ["a"]);
    assert!(config::scan_dir(&dir.path().join("absent")).unwrap().is_empty());
    assert_eq!(NetworkConfig::load_file(&dir.path().join("absent")).unwrap_err().code, code::IO);
}

// Holds: C30
#[test]
fn results_convert_between_all_versions_and_back() {
    let text = r#"{"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"02:00:00:00:00:01","sandbox":"/x"}],
        "ips":[{"address":"192.0.2.2/24","gateway":"192.0.2.1"},{"address":"2001:db8::2/64"}],
        "routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0","gw":"2001:db8::1"}],"dns":{"nameservers":["192.0.2.53"]}}"#;
    let original = CniResult::parse(text.as_bytes(), "1.1.0").unwrap();
    assert_eq!(original.raw(), text);
    let typed = original.typed().unwrap();
    for version in SUPPORTED {
        let there = original.convert(version).unwrap();
        assert!(there.raw().contains(&format!(r#""cniVersion":"{version}""#)), "{}", there.raw());
        assert_eq!(CniResult::parse(there.raw().as_bytes(), "0.1.0").unwrap().version(), version);
        let back = there.convert("1.1.0").unwrap().typed().unwrap();
        assert_eq!(
            (&back.ips, &back.routes, &back.dns),
            (&typed.ips, &typed.routes, &typed.dns),
            "{version}"
        );
        if !matches!(version, "0.1.0" | "0.2.0") {
            assert_eq!(back.interfaces, typed.interfaces);
        }
    }
    assert!(original.convert("0.4.0").unwrap().raw().contains(r#""version":"6""#));
    assert!(!original.convert("1.0.0").unwrap().raw().contains(r#""version""#));
    assert_eq!(original.convert("2.0.0").unwrap_err().code, code::INCOMPATIBLE_VERSION);
    assert_eq!(CniResult::empty("1.0.0").convert("0.2.0").unwrap_err().code, code::INCOMPATIBLE_VERSION);
}

#[test]
fn bad_results_are_refused() {
    for text in ["{", "[]", "null", "7", r#"{"cniVersion":"7.0.0"}"#, r#"{"cniVersion":7}"#, "\u{feff}{}"] {
        assert_eq!(CniResult::parse(text.as_bytes(), "1.0.0").unwrap_err().code, code::DECODE, "{text}");
    }
    assert_eq!(CniResult::parse(b"\xff", "1.0.0").unwrap_err().code, code::DECODE);
    let without_version = CniResult::parse(br#"{"ips":null}"#, "0.3.1").unwrap();
    assert_eq!(without_version.version(), "0.3.1");
    assert!(without_version.typed().unwrap().ips.is_empty());
}

#[test]
fn an_error_is_one_short_line() {
    let error = Error::new(7, "first\nsecond").with_details("d".repeat(1000));
    let line = error.to_string();
    assert!(line.starts_with("first second: d") && line.chars().count() < 300, "{line}");
    assert_eq!(Error::new(7, "m").to_json("1.0.0"), r#"{"cniVersion":"1.0.0","code":7,"msg":"m"}"#);
}

/// JSON-like text, so that parsers are reached beyond their first character.
fn jsonish() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "null",
        "true",
        "1e999",
        "-1",
        "\"\"",
        "\"type\"",
        "\"a\"",
        "\"name\"",
        "\"plugins\"",
        "\"ipam\"",
        "\"cniVersion\"",
        "\"1.0.0\"",
        "\"0.2.0\"",
        "\"ips\"",
        "\"address\"",
        "\"interface\"",
        "\"ip4\"",
        "\"code\"",
        "\"msg\"",
        "\"\\ud800\"",
        "é",
    ]);
    prop_oneof![any::<String>(), prop::collection::vec(words, 0..40).prop_map(|w| w.concat())]
}

proptest! {
    #[test]
    fn no_parser_panics(text in jsonish(), bytes in any::<Vec<u8>>(), version in prop::sample::select(SUPPORTED.to_vec())) {
        if let Ok(object) = Object::parse(&text) {
            let again = Object::parse(&object.to_json()).unwrap();
            prop_assert_eq!(again.to_json(), object.to_json());
        }
        if let Ok(mut network) = NetworkConfig::parse(&text, Some("n")) {
            network.strip_runtime_keys();
            NetworkConfig::parse(&network.to_json(), None).unwrap();
        }
        for input in [text.as_bytes(), &bytes] {
            if let Ok(result) = CniResult::parse(input, version) {
                let _ = result.typed();
                for to in SUPPORTED {
                    let _ = result.convert(to);
                }
            }
            for command in ["ADD", "DEL", "VERSION"] {
                let _ = Request::from_env(&call(command), input);
            }
        }
        let mut env = call("ADD");
        env.insert("CNI_ARGS".to_owned(), text.clone());
        env.insert("CNI_IFNAME".to_owned(), text);
        let _ = Request::from_env(&env, CONFIG);
    }
}
