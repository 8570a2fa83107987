//! Mutations of the corpus: what we take, libcni takes, so that no runtime and no plugin refuses what passed
//! through us.

use std::{cell::RefCell, path::Path};

use cni::{config::NetworkConfig, raw::same_key, result::CniResult};
use serde_json::{Value, json};

use crate::oracle::Oracle;

fn fuzz(corpus: &str, target: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(corpus);
    testkit::fuzz::run(&folder, target).unwrap();
}

/// Keys of results that libcni reads.
const KEYS: [&str; 24] = [
    "cniVersion",
    "interfaces",
    "ips",
    "routes",
    "dns",
    "ip4",
    "ip6",
    "ip",
    "name",
    "mac",
    "mtu",
    "sandbox",
    "socketPath",
    "pciID",
    "address",
    "gateway",
    "interface",
    "version",
    "dst",
    "gw",
    "nameservers",
    "domain",
    "search",
    "options",
];

/// True where a key has another case than libcni writes. It reads such a key; we leave it unread and unchanged.
fn other_case(value: &Value) -> bool {
    let odd = |key: &str| KEYS.iter().any(|known| key != *known && same_key(key, known));
    match value {
        Value::Object(map) => map.iter().any(|(key, value)| odd(key) || other_case(value)),
        Value::Array(items) => items.iter().any(other_case),
        _ => false,
    }
}

#[test]
fn a_result_that_we_take_is_one_for_libcni() {
    let Some(oracle) = Oracle::start() else { return };
    let oracle = RefCell::new(oracle);
    fuzz("result", |input| {
        let Ok(result) = CniResult::parse(input, "0.1.0") else { return };
        if result.typed().is_err() || other_case(&serde_json::from_str(result.raw()).unwrap_or_default()) {
            return;
        }
        let question = json!({"op": "convert", "text": result.raw(), "to": result.version()});
        let theirs = oracle.borrow_mut().ask(&question);
        assert!(theirs.error.is_empty(), "{}: {}", theirs.error, result.raw());
    });
}

#[test]
fn a_configuration_that_we_take_is_one_for_libcni() {
    let Some(oracle) = Oracle::start() else { return };
    let oracle = RefCell::new(oracle);
    fuzz("config", |input| {
        let Ok(mut network) = NetworkConfig::parse(&String::from_utf8_lossy(input), None) else { return };
        // What no plugin gets to see may be as it likes.
        network.strip_runtime_keys();
        for plugin in &mut network.plugins {
            plugin.remove_if(|key| key.to_ascii_lowercase().starts_with("cni.dev/"));
        }
        let theirs = oracle.borrow_mut().ask(&json!({"op": "parse", "text": network.to_json()}));
        // A number that is too big for libcni's own float is one for the plugin to judge.
        if !theirs.error.contains("into Go value of type float64") {
            assert!(theirs.error.is_empty(), "{}: {}", theirs.error, network.to_json());
        }
    });
}
