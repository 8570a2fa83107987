//! A plugin as its runtime sees it: which calls reach it, in which version it answers, and with which codes.

use std::{collections::BTreeMap, sync::Mutex};

use cni::{
    dispatch::{Failure, Manifest, Plugin, answer},
    env::Request,
    error::{Error, code},
    result::CniResult,
    version::SUPPORTED,
};
use serde_json::{Value, json};

/// Remembers its calls and fails with `code`, where one is set.
#[derive(Default)]
struct Told {
    calls: Mutex<Vec<String>>,
    code: Option<u32>,
    result: Option<&'static str>,
}

impl Told {
    fn note(&self, request: &Request) -> Result<(), Error> {
        self.calls.lock().unwrap().push(request.command.as_str().to_owned());
        self.code.map_or(Ok(()), |code| Err(Error::new(code, "told to fail").with_details("why")))
    }
}

impl Plugin for Told {
    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        self.note(request)?;
        match self.result {
            Some(text) => CniResult::parse(text.as_bytes(), &request.cni_version),
            None => Ok(request.prev_result()?.unwrap_or_else(|| CniResult::empty(&request.cni_version))),
        }
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        self.note(request)
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        self.note(request)
    }

    fn status(&self, request: &Request) -> Result<(), Error> {
        self.note(request)
    }

    fn gc(&self, request: &Request) -> Result<(), Error> {
        self.note(request)
    }
}

const MANIFEST: Manifest<'_> =
    Manifest { about: "told 1.0", versions: &["0.3.1", "0.4.0", "1.0.0", "1.1.0"], refuse_own_netns: true };

fn env(command: &str) -> BTreeMap<String, String> {
    let vars = [
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/absent"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin"),
    ];
    vars.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn call(plugin: &Told, command: &str, config: &Value) -> Result<String, Failure> {
    answer(&MANIFEST, plugin, &env(command), config.to_string().as_bytes())
}

fn config(version: &str) -> Value {
    json!({"cniVersion": version, "name": "n", "type": "told"})
}

// Holds: C4, C17, C19
#[test]
fn a_verb_that_the_version_does_not_have_is_refused_with_code_1() {
    let since =
        [("ADD", "0.3.1"), ("DEL", "0.3.1"), ("CHECK", "0.4.0"), ("STATUS", "1.1.0"), ("GC", "1.1.0")];
    for (command, since) in since {
        for version in MANIFEST.versions {
            let told = Told::default();
            let answered = call(&told, command, &config(version));
            let served = cni::version::at_least(version, since);
            assert_eq!(answered.is_ok(), served, "{command} at {version}");
            assert_eq!(told.calls.lock().unwrap().len(), usize::from(served), "{command} at {version}");
            if let Err(failure) = answered {
                assert_eq!(failure.error.code, code::INCOMPATIBLE_VERSION);
                assert_eq!(failure.cni_version, *version);
            }
        }
    }
}

// Holds: C3, C10
#[test]
fn a_version_that_the_plugin_does_not_speak_is_refused_except_at_del() {
    for version in ["0.1.0", "0.2.0", "9.9.9", "x"] {
        for command in ["ADD", "CHECK", "STATUS", "GC"] {
            let told = Told::default();
            let failure = call(&told, command, &config(version)).unwrap_err();
            assert_eq!(failure.error.code, code::INCOMPATIBLE_VERSION, "{command} at {version}");
            // The error object is in a version that the plugin speaks.
            assert_eq!(failure.cni_version, "1.1.0");
            assert!(told.calls.lock().unwrap().is_empty());
        }
        call(&Told::default(), "DEL", &config(version)).unwrap();
    }
}

// Holds: C5, C6
#[test]
fn the_result_comes_in_the_version_of_the_call() {
    let result = r#"{"cniVersion":"1.0.0","ips":[{"address":"192.0.2.5/24","gateway":"192.0.2.1"}]}"#;
    for version in MANIFEST.versions {
        let told = Told { result: Some(result), ..Told::default() };
        let text = call(&told, "ADD", &config(version)).unwrap();
        let printed: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(printed["cniVersion"], *version);
        assert_eq!(printed["ips"][0]["address"], "192.0.2.5/24");
        assert_eq!(printed["ips"][0].get("version").is_some(), version.starts_with("0."));
    }
    let prev =
        json!({"cniVersion": "0.4.0", "name": "n", "prevResult": {"cniVersion": "0.4.0", "other": 1.0}});
    assert_eq!(call(&Told::default(), "ADD", &prev).unwrap(), r#"{"cniVersion":"0.4.0","other":1.0}"#);
    for broken in [json!({"cniVersion": "7.0.0"}), json!("text"), json!([])] {
        let prev = json!({"cniVersion": "1.0.0", "name": "n", "prevResult": broken});
        let failure = call(&Told::default(), "ADD", &prev).unwrap_err();
        assert_eq!(failure.error.code, code::DECODE);
        assert!(failure.error.msg.contains("prevResult"), "{failure}");
    }
}

// Holds: C3, C4
#[test]
fn every_code_of_a_plugin_comes_through_in_the_version_of_the_call() {
    for code in [1, 2, 3, 4, 5, 6, 7, 11, 50, 51, 100, 999, u32::MAX] {
        for command in ["ADD", "DEL", "CHECK", "STATUS", "GC"] {
            let told = Told { code: Some(code), ..Told::default() };
            let failure = call(&told, command, &config("1.1.0")).unwrap_err();
            let object: Value = serde_json::from_str(&failure.error.to_json(&failure.cni_version)).unwrap();
            let expected =
                json!({"cniVersion": "1.1.0", "code": code, "msg": "told to fail", "details": "why"});
            assert_eq!(object, expected);
        }
    }
}

// Holds: C23
#[test]
fn version_is_answered_without_and_with_any_configuration() {
    for (stdin, spoken) in [
        ("", "0.1.0"),
        ("{", "0.1.0"),
        (r#"{"cniVersion":"0.4.0"}"#, "0.4.0"),
        (r#"{"cniVersion":"1.1.0"}"#, "1.1.0"),
        (r#"{"cniVersion":"9.0.0"}"#, "9.0.0"),
    ] {
        let only = BTreeMap::from([("CNI_COMMAND".to_owned(), "VERSION".to_owned())]);
        let text = answer(&MANIFEST, &Told::default(), &only, stdin.as_bytes()).unwrap();
        let printed: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(printed["supportedVersions"], json!(MANIFEST.versions));
        let expected = if MANIFEST.versions.contains(&spoken) { spoken } else { "1.1.0" };
        assert_eq!(printed["cniVersion"], expected, "{stdin}");
    }
}

// Holds: D20
#[test]
fn the_plugins_own_namespace_is_refused_with_code_8_unless_overridden() {
    let with = |command: &str, netns: &str, allow: Option<&str>, manifest: &Manifest<'_>| {
        let mut env = env(command);
        env.insert("CNI_NETNS".to_owned(), netns.to_owned());
        env.extend(allow.map(|word| ("CNI_NETNS_OVERRIDE".to_owned(), word.to_owned())));
        let config = config("1.0.0").to_string();
        answer(manifest, &Told::default(), &env, config.as_bytes()).map_err(|failure| failure.error.code)
    };
    let own = "/proc/thread-self/ns/net";
    for command in ["ADD", "DEL"] {
        assert_eq!(with(command, own, None, &MANIFEST), Err(code::INVALID_NETNS));
        assert_eq!(with(command, own, Some("no"), &MANIFEST), Err(code::INVALID_NETNS));
        for word in ["1", "true", "TRUE"] {
            with(command, own, Some(word), &MANIFEST).unwrap();
        }
        with(command, own, None, &Manifest { refuse_own_netns: false, ..MANIFEST }).unwrap();
        // One that is gone is the plugin's to judge, and a file that is no namespace is not ours.
        with(command, "/run/netns/absent", None, &MANIFEST).unwrap();
        with(command, "/proc/self/ns/uts", None, &MANIFEST).unwrap();
    }
    with("CHECK", own, None, &MANIFEST).unwrap();
}

// Holds: D20, C3, C4
#[test]
fn a_bad_call_has_the_code_that_says_what_is_bad() {
    let of = |command: &str, stdin: &str| {
        let failure = answer(&MANIFEST, &Told::default(), &env(command), stdin.as_bytes()).unwrap_err();
        (failure.error.code, failure.cni_version)
    };
    // The error is said in the version of the call where that can be read, else in the newest.
    let (own, newest) = ("1.0.0".to_owned(), "1.1.0".to_owned());
    assert_eq!(of("ADD", "{"), (code::DECODE, newest.clone()));
    assert_eq!(of("ADD", r#"{"cniVersion":"1.0.0"}"#), (code::INVALID_CONFIG, own.clone()));
    assert_eq!(of("ADD", r#"{"cniVersion":"1.0.0","name":"a/b"}"#), (code::INVALID_CONFIG, own.clone()));
    assert_eq!(of("WHAT", r#"{"cniVersion":"1.0.0"}"#), (code::BAD_ENVIRONMENT, own));
    assert_eq!(of("WHAT", "{}"), (code::BAD_ENVIRONMENT, newest));
}

#[test]
fn every_supported_version_can_be_spoken() {
    let manifest = Manifest { versions: &SUPPORTED, ..MANIFEST };
    for version in SUPPORTED {
        let told = Told { result: Some(r#"{"ips":[{"address":"192.0.2.5/24"}]}"#), ..Told::default() };
        // A result without version is in that of the call, where 0.2.0 and older know no list of addresses.
        let config = config(version).to_string();
        answer(&manifest, &told, &env("ADD"), config.as_bytes()).unwrap();
    }
}
