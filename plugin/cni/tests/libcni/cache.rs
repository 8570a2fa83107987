//! The remembered attachments: libcni reads ours, and we read libcni's.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt};

use cni::{
    base64,
    cache::{Cache, Entry, Key},
    config::NetworkConfig,
    raw::Object,
    result::CniResult,
};
use serde_json::{Value, json};

use crate::{
    calls::{Bench, forges_a_result, kinds},
    configs::{as_go_sees, corpus},
    oracle::Oracle,
};

/// The files of both sides for every network of the corpus.
fn filled(oracle: &mut Oracle) -> (Bench, Vec<(String, NetworkConfig, String)>) {
    let corpus = corpus();
    let bench = Bench::new(&kinds(&corpus));
    let mut networks = Vec::new();
    for (index, (file, text)) in corpus.into_iter().enumerate() {
        let network = NetworkConfig::parse(&text, None).ok().filter(|network| !forges_a_result(network));
        // Without a version, the recording plugin answers each side in another one.
        let Some(network) = network.filter(|network| text.contains(&network.cni_version)) else { continue };
        let container = format!("c{index}");
        bench.ours("ADD", &container, &network).unwrap();
        assert_eq!(oracle.ask(&bench.question("ADD", &container, &text)).error, "", "{file}");
        networks.push((container, network, text));
    }
    (bench, networks)
}

fn names(dir: &std::path::Path) -> BTreeSet<String> {
    let files = fs::read_dir(dir.join("results")).unwrap();
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

fn decoded(entry: &Entry) -> Value {
    json!({
        "network": entry.network, "container": entry.container_id, "ifname": entry.ifname, "netns": entry.netns,
        "args": entry.args, "capabilityArgs": as_go_sees(&entry.capability_args.to_json()),
        "result": entry.result.as_ref().map(|result| as_go_sees(result.raw())),
    })
}

#[test]
fn both_sides_write_the_same_files_and_read_each_others() {
    let Some(mut oracle) = Oracle::start() else { return };
    let (bench, networks) = filled(&mut oracle);
    assert_eq!(names(&bench.cache_of_ours()), names(&bench.theirs()));
    let theirs = Cache::new(bench.theirs());
    for (container, network, text) in &networks {
        let key = Key { network: &network.name, container_id: container, ifname: "net1" };
        let (ours, read) = (bench.ours.read(key).unwrap().unwrap(), theirs.read(key).unwrap().unwrap());
        assert_eq!(decoded(&ours), decoded(&read), "{text}");
        assert_eq!(NetworkConfig::restore(&ours.config).unwrap().to_json(), network.to_json());
        assert_eq!(NetworkConfig::restore(&read.config).unwrap().plugins.len(), network.plugins.len());

        let question = |dir: &std::path::Path| {
            json!({"op": "cached", "cache": dir, "name": network.name, "to": network.cni_version,
                "containerId": container, "ifName": "net1"})
        };
        let answers = oracle.ask_all(&[question(&bench.cache_of_ours()), question(&bench.theirs())]);
        assert!(answers.iter().all(|answer| answer.error.is_empty()), "{answers:?}");
        assert!(!answers[0].text.is_empty());
        assert_eq!(answers[0].text, answers[1].text, "{text}");
        assert_eq!(answers[0].args, answers[1].args, "{text}");
        let config = base64::decode(answers[0].config.as_deref().unwrap()).unwrap();
        assert_eq!(String::from_utf8(config).unwrap(), network.to_json());
    }
}

#[test]
fn both_sides_list_the_same_attachments() {
    let Some(mut oracle) = Oracle::start() else { return };
    let (bench, networks) = filled(&mut oracle);
    // None of these is one.
    for (name, text) in
        [("x", "{"), ("y", r#"{"kind":"other"}"#), ("z", r#"{"kind":"cniCacheV1"}"#), (".tmp", "")]
    {
        for dir in [bench.cache_of_ours(), bench.theirs()] {
            fs::write(dir.join("results").join(name), text).unwrap();
        }
    }
    let listed = |attachments: &[Value]| -> Vec<(String, String, String)> {
        let text = |attachment: &Value, key: &str| attachment[key].as_str().unwrap().to_owned();
        attachments.iter().map(|a| (text(a, "Network"), text(a, "ContainerID"), text(a, "IfName"))).collect()
    };
    for dir in [bench.cache_of_ours(), bench.theirs()] {
        let ours: Vec<_> = Cache::new(&dir).list().unwrap();
        let ours: Vec<_> =
            ours.into_iter().map(|entry| (entry.network, entry.container_id, entry.ifname)).collect();
        let theirs = oracle.ask(&json!({"op": "attachments", "cache": dir})).attachments.unwrap();
        assert_eq!(ours, listed(&theirs));
        assert_eq!(ours.len(), networks.len());
    }
}

#[test]
fn what_is_written_is_read_replaced_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::new(dir.path().join("new"));
    assert!(cache.list().unwrap().is_empty());
    let mut entry = Entry {
        network: "net".to_owned(),
        container_id: "c1".to_owned(),
        ifname: "eth0".to_owned(),
        netns: "/run/netns/x".to_owned(),
        args: vec![("A".to_owned(), "b=c".to_owned())],
        capability_args: Object::parse(r#"{"big":9007199254740993}"#).unwrap(),
        config: r#"{"name":"net","é":1.10}"#.to_owned(),
        result: Some(CniResult::parse(br#"{"cniVersion":"1.1.0","x":9007199254740993}"#, "1.1.0").unwrap()),
    };
    assert!(cache.read(entry.key()).unwrap().is_none());
    for netns in ["/run/netns/x", "/run/netns/y", ""] {
        entry.netns = netns.to_owned();
        cache.write(&entry).unwrap();
        let read = cache.read(entry.key()).unwrap().unwrap();
        assert_eq!(read.netns, netns);
        assert_eq!(read.config, entry.config);
        assert_eq!(read.capability_args.to_json(), r#"{"big":9007199254740993}"#);
        assert_eq!(read.result.unwrap().raw(), r#"{"cniVersion":"1.1.0","x":9007199254740993}"#);
    }
    assert_eq!(cache.list().unwrap().len(), 1);
    let file = dir.path().join("new/results/net-c1-eth0");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(dir.path().join("new")).unwrap().permissions().mode() & 0o777, 0o700);
    // Nothing but that file: a temp file left behind would be an attachment to libcni.
    assert_eq!(fs::read_dir(dir.path().join("new")).unwrap().count(), 1);
    cache.remove(entry.key()).unwrap();
    cache.remove(entry.key()).unwrap();
    assert!(!file.exists() && cache.read(entry.key()).unwrap().is_none());
}

// Holds: C2
#[test]
fn a_name_that_leads_elsewhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::new(dir.path());
    for (network, container_id, ifname) in [
        ("../n", "c", "eth0"),
        ("n", "../c", "eth0"),
        ("n", "c", "../e"),
        ("", "c", "e"),
        ("n", "", "e"),
        ("n", "c", ""),
    ] {
        let key = Key { network, container_id, ifname };
        cache.read(key).unwrap_err();
        cache.remove(key).unwrap_err();
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_torn_file_is_an_error_and_one_of_long_ago_is_its_result() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::new(dir.path());
    fs::create_dir(dir.path().join("results")).unwrap();
    let file = dir.path().join("results/n-c-e");
    let key = Key { network: "n", container_id: "c", ifname: "e" };
    for torn in [
        "",
        "{",
        "[]",
        r#"["cniCacheV1","c","","e","n"]"#,
        "null",
        "{}",
        r#"{"kind":"cniCacheV1","config":"%"}"#,
        r#"{"kind":"cniCacheV2","ips":[]}"#,
    ] {
        fs::write(&file, torn).unwrap();
        let error = cache.read(key).unwrap_err();
        assert!(error.code == 6 && error.msg.contains("n-c-e"), "{torn}: {error}");
    }
    let legacy = r#"{"cniVersion":"0.3.1","ips":[{"version":"4","address":"192.0.2.5/24"}]}"#;
    fs::write(&file, legacy).unwrap();
    let entry = cache.read(key).unwrap().unwrap();
    assert_eq!((entry.result.unwrap().raw(), entry.config.as_str()), (legacy, ""));
    if let Some(mut oracle) = Oracle::start() {
        let theirs = oracle.ask(&json!({"op": "cached", "cache": dir.path(), "name": "n", "to": "0.3.1",
            "containerId": "c", "ifName": "e"}));
        assert!(theirs.text.contains("192.0.2.5/24"), "{theirs:?}");
    }
}
