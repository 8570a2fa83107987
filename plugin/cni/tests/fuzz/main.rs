//! Whatever users, plugins and files hold: an answer, or an error of one short line, and never a panic.
//!
//! Each target has its corpus in `tests/corpus`; see `testkit::fuzz` for longer runs.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{collections::BTreeMap, fs, path::Path};

use cni::{
    cache::{Cache, Key},
    config::{self, NetworkConfig},
    dispatch::{self, Manifest, Plugin},
    env::Request,
    error::Error,
    raw::Object,
    result::CniResult,
    version::SUPPORTED,
};

fn fuzz(corpus: &str, target: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(corpus);
    testkit::fuzz::run(&folder, target).unwrap();
}

/// What every error must be, since it goes into a pod's events.
fn short(error: &Error) {
    let line = error.to_string();
    assert!(!line.is_empty() && line.chars().count() < 300, "{line}");
    assert!(!line.contains(char::is_control), "{line:?}");
}

fn ok_or_short<T>(outcome: Result<T, Error>) -> Option<T> {
    outcome.inspect_err(short).ok()
}

// Holds: D2, D3
#[test]
fn a_configuration_is_read_safely_or_refused() {
    fuzz("config", |input| {
        let text = String::from_utf8_lossy(input);
        let Some(mut network) = ok_or_short(NetworkConfig::parse(&text, Some("default"))) else { return };
        assert!(config::valid_network_name(&network.name));
        assert!(SUPPORTED.contains(&&*network.cni_version));
        for plugin in &network.plugins {
            assert!(config::valid_plugin_type(&config::plugin_type(plugin).unwrap()));
        }
        network.capabilities();
        // What was accepted can be written, read again, and is the same.
        let stored = network.to_json();
        let restored = NetworkConfig::restore(&stored).unwrap();
        assert_eq!(restored.to_json(), stored);
        network.strip_runtime_keys();
        assert!(network.plugins.iter().all(|plugin| plugin.get("prevResult").is_none()));
    });
}

#[test]
fn an_object_keeps_its_text() {
    fuzz("config", |input| {
        let text = String::from_utf8_lossy(input);
        let Some(object) = ok_or_short(Object::parse(&text)) else { return };
        let again = Object::parse(&object.to_json()).unwrap();
        assert_eq!(again.to_json(), object.to_json());
        for (key, value) in object.iter() {
            assert!(text.contains(value.get()), "{key}");
        }
    });
}

#[test]
fn a_result_is_converted_or_refused() {
    fuzz("result", |input| {
        for given in ["0.1.0", "0.4.0", "1.1.0"] {
            let Some(result) = ok_or_short(CniResult::parse(input, given)) else { continue };
            let typed = ok_or_short(result.typed());
            for to in SUPPORTED {
                let Some(converted) = ok_or_short(result.convert(to)) else { continue };
                assert_eq!(converted.version(), to);
                // A result that could be decoded can be so in every version that it was converted to.
                if typed.is_some() {
                    converted.typed().unwrap();
                }
            }
        }
    });
}

struct Reader;

impl Plugin for Reader {
    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        Ok(request.prev_result()?.unwrap_or_else(|| CniResult::empty(&request.cni_version)))
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        request.prev_result().map(drop)
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        request.prev_result().map(drop)
    }

    fn gc(&self, request: &Request) -> Result<(), Error> {
        request.valid_attachments().map(drop)
    }
}

// Holds: C2, C3
#[test]
fn a_call_is_answered_or_refused() {
    let manifest = Manifest { about: "reader", versions: &SUPPORTED, refuse_own_netns: false };
    fuzz("env", |input| {
        // Variables, an empty line, and standard input.
        let text = String::from_utf8_lossy(input);
        let (variables, stdin) = text.split_once("\n\n").unwrap_or((&text, ""));
        let pairs = variables.lines().filter_map(|line| line.split_once('='));
        let env: BTreeMap<String, String> =
            pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        match dispatch::answer(&manifest, &Reader, &env, stdin.as_bytes()) {
            Ok(answer) => assert!(answer.is_empty() || Object::parse_capped(&answer, usize::MAX).is_ok()),
            Err(failure) => {
                short(&failure.error);
                assert!(SUPPORTED.contains(&&*failure.cni_version));
                let object = Object::parse(&failure.error.to_json(&failure.cni_version)).unwrap();
                assert_eq!(object.get_as::<u32>("code").unwrap(), Some(failure.error.code));
            }
        }
    });
}

#[test]
fn a_remembered_attachment_is_read_or_refused() {
    // In memory where that can be: every write goes to the disk.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let cache = Cache::new(dir.path());
    fs::create_dir(dir.path().join("results")).unwrap();
    let key = Key { network: "lan", container_id: "c1", ifname: "eth0" };
    let file = dir.path().join("results/lan-c1-eth0");
    fuzz("cache", |input| {
        fs::write(&file, input).unwrap();
        let listed = cache.list().unwrap();
        let Some(entry) = ok_or_short(cache.read(key)).flatten() else {
            assert!(listed.is_empty());
            return;
        };
        // What was read can be written and read again, under a name that leads nowhere else.
        if ok_or_short(cache.write(&entry)).is_some() {
            let again = cache.read(entry.key()).unwrap().unwrap();
            assert_eq!(again.config, entry.config);
            assert_eq!(again.args, entry.args);
            cache.remove(entry.key()).unwrap();
        }
    });
}
