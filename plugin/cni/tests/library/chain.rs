//! What delegates see when a network is run: order, environment, configuration, previous result.

use crate::bench::{Bench, attachment};
use cni::{chain::Attachment, config::NetworkConfig, error::code, raw::Object, result::CniResult};
use serde_json::json;

const NAMES: [&str; 3] = ["one", "two", "three"];

// Holds: N50, D12, D16
#[test]
fn add_runs_in_order_and_hands_each_result_on() {
    let bench = Bench::new(&NAMES);
    let network = bench.list("1.0.0", json!([{"type": "one"}, {"type": "two"}, {"type": "three"}]));
    let result = bench.runner().add(&network, &attachment()).unwrap();
    let records = bench.records();
    assert_eq!(records.iter().map(|r| r.plugin.as_str()).collect::<Vec<_>>(), NAMES);
    for record in &records {
        assert_eq!(record.command(), "ADD");
        assert_eq!(record.var("CNI_CONTAINERID"), "c1");
        assert_eq!(record.var("CNI_NETNS"), "/run/netns/x");
        assert_eq!(record.var("CNI_IFNAME"), "net1");
        assert_eq!(record.var("CNI_ARGS"), "IgnoreUnknown=1;K8S_POD_NAME=p");
        assert_eq!(record.var("CNI_PATH"), bench.plugins.bin().display().to_string());
        assert_eq!(record.config()["name"], "testnet");
        assert_eq!(record.config()["cniVersion"], "1.0.0");
    }
    assert!(records[0].config().get("prevResult").is_none());
    assert_eq!(records[1].config()["prevResult"]["interfaces"][0]["name"], "net1");
    assert_eq!(records[2].config()["prevResult"], records[1].config()["prevResult"]);
    assert_eq!(result.typed().unwrap().ips[0].address, "192.0.2.10/24");
}

// Holds: C4, D12
#[test]
fn add_stops_at_the_first_failure_with_its_code_and_message() {
    let bench = Bench::new(&NAMES);
    let network = bench.list(
        "1.0.0",
        json!([{"type": "one"}, {"type": "two", "behaviour": "fail", "code": 123, "msg": "no address left"}, {"type": "three"}]),
    );
    let error = bench.runner().add(&network, &attachment()).unwrap_err();
    assert_eq!(error.code, 123);
    assert!(error.msg.contains("no address left") && error.msg.contains("two"), "{error}");
    assert_eq!(bench.records().len(), 2);
}

// Holds: D13
#[test]
fn del_runs_in_reverse_with_the_result_of_the_add() {
    let bench = Bench::new(&NAMES);
    let network = bench.list("0.4.0", json!([{"type": "one"}, {"type": "two"}, {"type": "three"}]));
    let prev = bench.runner().add(&network, &attachment()).unwrap();
    bench.runner().del(&network, &attachment(), Some(&prev)).unwrap();
    let dels: Vec<_> = bench.records().into_iter().filter(|r| r.command() == "DEL").collect();
    assert_eq!(dels.iter().map(|r| r.plugin.as_str()).collect::<Vec<_>>(), ["three", "two", "one"]);
    assert!(dels.iter().all(|r| r.config()["prevResult"]["ips"][0]["version"] == "4"));
}

// Holds: D13
#[test]
fn del_before_0_4_0_has_no_previous_result_and_stops_at_a_failure() {
    let bench = Bench::new(&NAMES);
    let network = bench.list(
        "0.3.1",
        json!([{"type": "one"}, {"type": "two", "behaviour": {"DEL": "fail"}}, {"type": "three"}]),
    );
    let prev = CniResult::empty("0.3.1");
    bench.runner().del(&network, &attachment(), Some(&prev)).unwrap_err();
    let records = bench.records();
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|r| r.config().get("prevResult").is_none()));
}

// Holds: C9, C12
#[test]
fn del_without_netns_and_result_works() {
    let bench = Bench::new(&["one"]);
    let network = bench.list("1.1.0", json!([{"type": "one"}]));
    bench.runner().del(&network, &Attachment { netns: None, ..attachment() }, None).unwrap();
    assert_eq!(bench.records()[0].var("CNI_NETNS"), "");
}

// Holds: D16
#[test]
fn runtime_config_holds_what_was_asked_and_declared() {
    let bench = Bench::new(&["one", "two"]);
    let network = bench.list(
        "1.0.0",
        json!([{"type": "one", "capabilities": {"mac": true, "ips": false}}, {"type": "two", "capabilities": {"bandwidth": true}}]),
    );
    let asked = Object::parse(r#"{"mac":"02:00:00:00:00:09","ips":["192.0.2.1/24"]}"#).unwrap();
    bench.runner().add(&network, &Attachment { capability_args: &asked, ..attachment() }).unwrap();
    let records = bench.records();
    assert_eq!(records[0].config()["runtimeConfig"], json!({"mac": "02:00:00:00:00:09"}));
    assert!(records[1].config().get("runtimeConfig").is_none());
    assert!(records.iter().all(|r| r.config().get("capabilities").is_none()));
}

// Holds: N3, D1
#[test]
fn unknown_keys_reach_the_delegate_byte_for_byte() {
    let bench = Bench::new(&["one"]);
    let record = serde_json::Value::from(bench.plugins.record_file().display().to_string());
    let kept =
        r#""big":123456789012345678901234567890,"exact":1.10,"nested":{"z": 1,  "a":[1e300]},"esc":"\u00e9""#;
    let text =
        format!(r#"{{"cniVersion":"1.0.0","name":"n","type":"one","record":{record},{kept},"cni.dev/x":1}}"#);
    let network = NetworkConfig::parse(&text, None).unwrap();
    bench.runner().add(&network, &attachment()).unwrap();
    let stdin = &bench.records()[0].stdin;
    assert!(stdin.contains(kept), "{stdin}");
    assert!(!stdin.contains("cni.dev"), "{stdin}");
    // Also by way of the journal.
    assert!(NetworkConfig::parse(&network.to_json(), None).unwrap().plugins[0].to_json().contains(kept));
}

// Holds: D16
#[test]
fn another_spelling_of_a_key_of_ours_does_not_reach_a_delegate() {
    let bench = Bench::new(&["one"]);
    let network = bench.list(
        "1.0.0",
        json!([{"type": "one", "Name": "forged", "CNIVERSION": "0.1.0", "prevRe\u{17f}ult": {"ips": []}}]),
    );
    bench.runner().add(&network, &attachment()).unwrap();
    let config = bench.records()[0].config();
    let keys: Vec<_> = config.as_object().unwrap().keys().map(String::as_str).collect();
    assert!(!keys.iter().any(|k| ["Name", "CNIVERSION", "prevRe\u{17f}ult"].contains(k)), "{keys:?}");
    assert_eq!(config["name"], "testnet");
}

// Holds: C17, C21, C25, D14
#[test]
fn check_status_and_gc_follow_the_version() {
    let bench = Bench::new(&["one"]);
    let valid = [("c1".to_owned(), "net1".to_owned())];
    let old = bench.list("0.3.1", json!([{"type": "one"}]));
    assert_eq!(bench.runner().check(&old, &attachment(), None).unwrap_err().code, code::INCOMPATIBLE_VERSION);
    let before = bench.list("1.0.0", json!([{"type": "one"}]));
    bench.runner().status(&before).unwrap();
    bench.runner().gc(&before, &valid).unwrap();
    assert!(bench.records().is_empty());

    let now = bench.list("1.1.0", json!([{"type": "one", "behaviour": {"STATUS": "fail"}, "code": 51}]));
    bench.runner().check(&now, &attachment(), Some(&CniResult::empty("1.1.0"))).unwrap();
    assert_eq!(bench.runner().status(&now).unwrap_err().code, code::LIMITED);
    bench.runner().gc(&now, &valid).unwrap();
    let gc = bench.records().pop().unwrap();
    let expected = json!([{"containerID": "c1", "ifname": "net1"}]);
    assert_eq!(gc.config()["cni.dev/valid-attachments"], expected);
    assert_eq!(gc.config()["cni.dev/attachments"], expected);
    assert_eq!(gc.var("CNI_CONTAINERID"), "");
}

// Holds: C24, D4, D15
#[test]
fn gc_goes_on_after_a_failure_and_disabled_verbs_do_nothing() {
    let bench = Bench::new(&["one", "two"]);
    let mut network = bench.list("1.1.0", json!([{"type": "one", "behaviour": "fail"}, {"type": "two"}]));
    bench.runner().gc(&network, &[]).unwrap_err();
    assert_eq!(bench.records().len(), 2);
    network.disable_gc = true;
    network.disable_check = true;
    bench.runner().gc(&network, &[]).unwrap();
    bench.runner().check(&network, &attachment(), None).unwrap();
    assert_eq!(bench.records().len(), 2);
}

// Holds: N38
#[test]
fn no_output_is_an_empty_result() {
    let bench = Bench::new(&["one"]);
    let network = bench.list("1.0.0", json!([{"type": "one", "behaviour": "empty"}]));
    let result = bench.runner().add(&network, &attachment()).unwrap();
    assert_eq!(result.raw(), r#"{"cniVersion":"1.0.0"}"#);
}
