//! A runtime with a memory: what it remembers, and what it does when it cannot.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use cni::{
    cache::{Cache, Entry, Key},
    config::NetworkConfig,
    error::code,
    runtime::Runtime,
};
use serde_json::json;

use crate::bench::{Bench, attachment};

const KEY: Key<'_> = Key { network: "testnet", container_id: "c1", ifname: "net1" };

fn cache(bench: &Bench) -> Cache {
    Cache::new(bench.plugins.root().join("cache"))
}

fn keyed(bench: &Bench, value: u32) -> NetworkConfig {
    bench.list("1.1.0", json!([{"type": "one", "key": value}]))
}

// Holds: D11, D15
#[test]
fn gc_undoes_an_attachment_with_the_configuration_of_its_add() {
    let bench = Bench::new(&["one"]);
    let cache = cache(&bench);
    let runtime = Runtime { runner: bench.runner(), cache: &cache };
    runtime.add(&keyed(&bench, 1), &attachment()).unwrap();
    runtime.gc(&keyed(&bench, 2), &[("c1".to_owned(), "net1".to_owned())]).unwrap();
    assert!(cache.read(KEY).unwrap().is_some());
    runtime.gc(&keyed(&bench, 2), &[("c2".to_owned(), "net1".to_owned())]).unwrap();
    assert!(cache.read(KEY).unwrap().is_none());
    let seen: Vec<_> =
        bench.records().iter().map(|r| format!("{} {}", r.command(), r.config()["key"])).collect();
    assert_eq!(seen, ["ADD 1", "GC 2", "DEL 1", "GC 2"]);
    let del = &bench.records()[2];
    assert_eq!(
        (del.var("CNI_NETNS"), del.var("CNI_ARGS")),
        ("/run/netns/x", "IgnoreUnknown=1;K8S_POD_NAME=p")
    );
    assert_eq!(del.config()["prevResult"]["ips"][0]["address"], "192.0.2.10/24");
}

// Holds: C24, D15
#[test]
fn gc_goes_on_after_an_attachment_that_does_not_go() {
    let bench = Bench::new(&["one"]);
    let cache = cache(&bench);
    let runtime = Runtime { runner: bench.runner(), cache: &cache };
    let network = bench.list("1.1.0", json!([{"type": "one", "behaviour": {"DEL": "fail"}}]));
    for container_id in ["c1", "c2"] {
        runtime.add(&network, &cni::chain::Attachment { container_id, ..attachment() }).unwrap();
    }
    let error = runtime.gc(&network, &[]).unwrap_err();
    assert!(error.code == 100 && error.msg.contains("c1") && error.msg.contains("c2"), "{error}");
    assert_eq!(bench.records().last().unwrap().command(), "GC");
    assert_eq!(cache.list().unwrap().len(), 2);
}

// Holds: C10, D10
#[test]
fn a_memory_that_is_torn_or_gone_keeps_nothing_from_being_detached() {
    let bench = Bench::new(&["one"]);
    let cache = cache(&bench);
    let runtime = Runtime { runner: bench.runner(), cache: &cache };
    let network = keyed(&bench, 1);
    let file = bench.plugins.root().join("cache/results/testnet-c1-net1");
    for torn in [Some("{"), Some(""), None] {
        runtime.add(&network, &attachment()).unwrap();
        match torn {
            Some(text) => fs::write(&file, text).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        runtime.del(&network, &attachment()).unwrap();
        assert!(!file.exists() && bench.records().pop().unwrap().command() == "DEL");
        assert!(bench.records().pop().unwrap().config().get("prevResult").is_none());
    }
    // CHECK has nothing to compare with and says so.
    runtime.add(&network, &attachment()).unwrap();
    fs::write(&file, "{").unwrap();
    assert_eq!(runtime.check(&network, &attachment()).unwrap_err().code, code::DECODE);
}

#[test]
fn a_reader_sees_each_attachment_whole_and_nothing_else() {
    // In memory where that can be: every write goes to the disk.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let cache = Cache::new(dir.path());
    let entry = |size: usize| Entry {
        network: KEY.network.to_owned(),
        container_id: KEY.container_id.to_owned(),
        ifname: KEY.ifname.to_owned(),
        config: "x".repeat(size),
        ..Entry::default()
    };
    cache.write(&entry(1)).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..300 {
                cache.write(&entry(if round % 2 == 0 { 200_000 } else { 10 })).unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            assert!(matches!(cache.read(KEY).unwrap().unwrap().config.len(), 1 | 10 | 200_000));
            let names = fs::read_dir(dir.path().join("results")).unwrap();
            let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
            assert!(names.iter().all(|name| name == "testnet-c1-net1"), "{names:?}");
        }
    });
}

#[test]
fn an_attachment_that_cannot_be_remembered_is_a_failed_add() {
    let bench = Bench::new(&["one"]);
    fs::write(bench.plugins.root().join("cache"), "in the way").unwrap();
    let cache = cache(&bench);
    let runtime = Runtime { runner: bench.runner(), cache: &cache };
    assert_eq!(runtime.add(&keyed(&bench, 1), &attachment()).unwrap_err().code, code::IO);
}
