//! A plugin made with `dispatch` beside one made with skel: the same call, the same code.

use std::{
    collections::BTreeMap,
    io::Write,
    process::{Command, Stdio},
};

use cni::{
    dispatch::{Manifest, Plugin, answer},
    env::Request,
    error::Error,
    result::CniResult,
    version::SUPPORTED,
};
use serde_json::Value;

use crate::oracle;

struct Succeeds;

impl Plugin for Succeeds {
    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        // skel's own plugin prints nothing; what we print does not matter here.
        CniResult::parse(br#"{"ips":[{"address":"192.0.2.5/24"}]}"#, "1.0.0")?.convert(&request.cni_version)
    }

    fn del(&self, _: &Request) -> Result<(), Error> {
        Ok(())
    }

    fn check(&self, _: &Request) -> Result<(), Error> {
        Ok(())
    }
}

type Call = (BTreeMap<&'static str, &'static str>, &'static str);

/// The code that our plugin answers with; 0 for success.
fn ours((env, stdin): &Call) -> u32 {
    let manifest = Manifest { about: "", versions: &SUPPORTED, refuse_own_netns: true };
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    answer(&manifest, &Succeeds, &env, stdin.as_bytes()).map_or_else(|failure| failure.error.code, |_| 0)
}

fn skels(binary: &std::path::Path, (env, stdin): &Call) -> u32 {
    let mut command = Command::new(binary);
    command.env_clear().envs(env).env("ORACLE_AS_PLUGIN", "1");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // It does not read what it refuses for other reasons.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    if output.status.success() {
        return 0;
    }
    let error: Value = serde_json::from_slice(&output.stdout).unwrap();
    u32::try_from(error["code"].as_u64().unwrap()).unwrap()
}

const VERBS: [&str; 7] = ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION", "NONE"];

/// Every verb with one thing changed at a time.
fn calls() -> Vec<Call> {
    let good = |verb: &'static str| {
        BTreeMap::from([
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", "c1"),
            ("CNI_NETNS", "/run/netns/absent"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_ARGS", "IgnoreUnknown=1;A=b"),
            ("CNI_PATH", "/opt/cni/bin"),
        ])
    };
    let config = r#"{"cniVersion":"1.1.0","name":"n","type":"t"}"#;
    let mut calls = Vec::new();
    for verb in VERBS {
        for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH"] {
            let mut absent = good(verb);
            absent.remove(name);
            calls.push((absent, config));
            let odd: &[&str] = match name {
                "CNI_CONTAINERID" => &["", "-a", "a/b", "../x", "a b", "é", "A0_.-", "."],
                "CNI_IFNAME" => {
                    &["", ".", "..", "a/b", "a:b", "a b", "sixteen-bytes-00", "exactly15bytes0", "a\u{a0}b"]
                }
                "CNI_NETNS" => &["", "/proc/self/ns/net", "/proc/self/ns/uts", "/", "x"],
                "CNI_PATH" => &["", ":", "relative"],
                _ => &["", "A=", "A=b=c"],
            };
            for value in odd {
                let mut env = good(verb);
                env.insert(name, *value);
                calls.push((env, config));
            }
        }
        for word in ["1", "true", "TRUE", "0", ""] {
            let mut env = good(verb);
            env.extend([("CNI_NETNS", "/proc/self/ns/net"), ("CNI_NETNS_OVERRIDE", word)]);
            calls.push((env, config));
        }
        for stdin in [
            "",
            " ",
            "{",
            "[]",
            "null",
            "{}",
            "7",
            r#"{"name":""}"#,
            r#"{"name":7}"#,
            r#"{"name":null}"#,
            r#"{"name":"n"}"#,
            r#"{"name":"n","cniVersion":""}"#,
            r#"{"name":"n","cniVersion":7}"#,
            r#"{"name":"n","cniVersion":"0.1.0"}"#,
            r#"{"name":"n","cniVersion":"0.2.0"}"#,
            r#"{"name":"n","cniVersion":"0.3.0"}"#,
            r#"{"name":"n","cniVersion":"0.3.1"}"#,
            r#"{"name":"n","cniVersion":"0.4.0"}"#,
            r#"{"name":"n","cniVersion":"1.0.0"}"#,
            r#"{"name":"n","cniVersion":"1.1.0"}"#,
            r#"{"name":"n","cniVersion":"0.5.0"}"#,
            r#"{"name":"n","cniVersion":"1.2.0"}"#,
            r#"{"name":"a/b","cniVersion":"1.1.0"}"#,
            r#"{"name":"-a","cniVersion":"1.1.0"}"#,
            r#"{"cniVersion":"1.1.0"}"#,
        ] {
            calls.push((good(verb), stdin));
        }
    }
    calls
}

// Holds: C1, C2, C4, C17, D3, D20
#[test]
fn a_call_has_the_code_that_it_has_with_skel() {
    let Some(binary) = oracle::binary() else { return };
    let mut compared = 0;
    for call in calls() {
        let (ours, theirs) = (ours(&call), skels(&binary, &call));
        let verb = call.0["CNI_COMMAND"];
        let wrong_type = call.1.contains(":7");
        let expected = match (verb, theirs) {
            // A verb that nobody knows is refused before anything is read.
            ("NONE", _) => 4,
            // `null` is no object.
            (_, 7) if call.1 == "null" => 6,
            // A DEL cleans up also what an ADD would have refused.
            ("DEL", 1 | 7) => 0,
            ("DEL", 6) if call.1.contains(r#""name":7"#) => 0,
            // A key with a value of a wrong type is a matter of the configuration.
            (_, 6) if wrong_type => 7,
            _ => theirs,
        };
        assert_eq!(ours, expected, "{call:?}, skel: {theirs}");
        compared += 1;
    }
    assert!(compared > 400, "{compared}");
}
