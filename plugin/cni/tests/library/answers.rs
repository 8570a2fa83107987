//! What plugins answer, and what becomes of it.

use crate::bench::{Bench, attachment};
use cni::error::code;
use serde_json::{Value, json};

// Holds: C4, N51, B17
#[test]
fn every_code_of_a_plugin_arrives_with_its_words() {
    let bench = Bench::new(&["one"]);
    for code in [1, 2, 3, 4, 5, 6, 7, 8, 11, 50, 51, 99, 100, 999, 4_294_967_295_u32] {
        let plugin = json!([{"type": "one", "behaviour": "fail", "code": code, "msg": "no address left"}]);
        let network = bench.list("1.1.0", plugin);
        let failures = [
            bench.runner().add(&network, &attachment()).map(drop),
            bench.runner().del(&network, &attachment(), None),
            bench.runner().check(&network, &attachment(), None),
            bench.runner().status(&network),
            bench.runner().gc(&network, &[]),
        ];
        for failure in failures {
            let error = failure.unwrap_err();
            assert_eq!(error.code, code, "{error}");
            assert!(error.to_string().contains("no address left: by behaviour"), "{error}");
        }
    }
}

#[test]
fn an_error_object_counts_whatever_the_exit_code_and_nothing_else_does() {
    let bench = Bench::new(&[]);
    for (text, expected) in [
        // The error object of a plugin that forgot to fail.
        (r#"echo '{"code":42,"msg":"m"}'"#, Err((42, "m"))),
        (r#"echo '{"code":0,"msg":"m"}'; exit 1"#, Err((code::INTERNAL, "m"))),
        // A result cannot be believed when the plugin says that it failed.
        (r#"echo '{"ips":[{"address":"192.0.2.5/24"}]}'; exit 1"#, Err((code::INTERNAL, "exit code 1"))),
        (r#"echo '{"code":42,"msg":"m","ips":[]}'"#, Ok(())),
        (r#"echo '{"code":"42","msg":"m"}'; exit 1"#, Err((code::INTERNAL, "exit code 1"))),
        (r#"echo '{"msg":"m"}'; exit 3"#, Err((code::INTERNAL, "exit code 3"))),
        (r#"echo text; exit 3"#, Err((code::INTERNAL, "exit code 3"))),
        ("kill -SEGV $$", Err((code::INTERNAL, "SIGSEGV"))),
        ("exit 137", Err((code::INTERNAL, "exit code 137"))),
    ] {
        bench.script("one", text);
        let network = bench.list("1.0.0", json!([{"type": "one"}]));
        let answer = bench.runner().add(&network, &attachment());
        match (answer, expected) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err((code, word))) => {
                assert!(error.code == code && error.msg.contains(word), "{text}: {error}");
                assert!(error.msg.contains("plugin one"), "{text}: {error}");
            }
            (answer, expected) => panic!("{text}: {answer:?}, not {expected:?}"),
        }
    }
}

#[test]
fn a_result_that_no_runtime_could_read_fails_where_its_plugin_is_known() {
    let bench = Bench::new(&["one", "two"]);
    for result in [
        json!({"cniVersion": "7.0.0"}),
        json!({"cniVersion": 1}),
        json!({"ips": [{"address": "192.0.2.5"}]}),
        json!({"ips": [{"address": "192.0.2.5/33"}]}),
        json!({"ips": [{"address": "192.0.2.5/+8"}]}),
        json!({"ips": [{"gateway": "192.0.2.1"}]}),
        json!({"ips": [{"address": "192.0.2.5/24", "gateway": "192.0.2.0/24"}]}),
        json!({"ips": [{"address": "192.0.2.5/24", "interface": "0"}]}),
        json!({"ips": [null]}),
        json!({"ips": {}}),
        json!({"routes": [{"dst": "default"}]}),
        json!({"routes": [{"dst": "0.0.0.0/0", "gw": "eth0"}]}),
        json!({"interfaces": [{"name": "a", "mtu": "1500"}]}),
        json!({"dns": []}),
        json!({"cniVersion": "0.4.0", "ips": [{"address": "192.0.2.5/24", "version": 4}]}),
        json!({"ips": [["192.0.2.5/24"]]}),
        json!({"interfaces": [["net1"]]}),
        json!([]),
        json!("text"),
    ] {
        let network = bench.list("1.0.0", json!([{"type": "one", "result": result}, {"type": "two"}]));
        let error = bench.runner().add(&network, &attachment()).unwrap_err();
        assert!(error.code == code::DECODE && error.msg.contains("plugin one"), "{result}: {error}");
        assert_eq!(bench.records().pop().unwrap().plugin, "one");
    }
}

#[test]
fn what_is_odd_but_readable_is_taken() {
    let bench = Bench::new(&["one"]);
    for result in [
        json!({"cniVersion": "", "ips": null, "interfaces": null, "routes": null, "dns": null}),
        json!({"ips": [{"address": "192.0.2.5/24", "interface": 7, "gateway": ""}]}),
        json!({"ips": [{"address": "192.0.2.5/24", "interface": -1, "version": "6"}]}),
        json!({"interfaces": [{"name": null}], "unknown": {"x": [1]}}),
    ] {
        let network = bench.list("1.0.0", json!([{"type": "one", "result": result}]));
        bench.runner().add(&network, &attachment()).unwrap();
    }
}

// Holds: D12, D16
#[test]
fn the_next_plugin_gets_the_result_in_the_version_of_the_network() {
    let bench = Bench::new(&["one", "two"]);
    for (config, printed) in [("1.0.0", "0.3.1"), ("0.4.0", "1.1.0"), ("1.1.0", "0.2.0"), ("0.2.0", "1.0.0")]
    {
        let result = match printed {
            "0.2.0" => json!({"cniVersion": printed, "ip4": {"ip": "192.0.2.5/24"}}),
            "0.3.1" => json!({"cniVersion": printed, "ips": [{"version": "4", "address": "192.0.2.5/24"}]}),
            _ => json!({"cniVersion": printed, "ips": [{"address": "192.0.2.5/24"}]}),
        };
        let network = bench.list(config, json!([{"type": "one", "result": result}, {"type": "two"}]));
        let last = bench.runner().add(&network, &attachment()).unwrap();
        let given = bench.records().pop().unwrap().config()["prevResult"].clone();
        assert_eq!(given["cniVersion"], config);
        assert!(given.to_string().contains("192.0.2.5/24"), "{given}");
        assert_eq!(last.version(), config);
    }
    // What that version cannot say stops the chain, and is not handed on as it is.
    let nothing = json!({"cniVersion": "1.0.0", "interfaces": [{"name": "net1"}]});
    let network = bench.list("0.2.0", json!([{"type": "one", "result": nothing}, {"type": "two"}]));
    let error = bench.runner().add(&network, &attachment()).unwrap_err();
    assert_eq!(error.code, code::INCOMPATIBLE_VERSION, "{error}");
    assert_eq!(bench.records().pop().unwrap().plugin, "one");
}

// Holds: C30
#[test]
fn every_field_of_a_result_survives_a_chain() {
    let bench = Bench::new(&["one", "two"]);
    let full = json!({
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "net1", "mac": "02:00:00:00:00:01", "mtu": 9000, "sandbox": "/run/netns/x",
            "socketPath": "/run/vhost.sock", "pciID": "0000:3d:00.1"}],
        "ips": [{"interface": 0, "address": "192.0.2.5/24", "gateway": "192.0.2.1"}],
        "routes": [{"dst": "0.0.0.0/0", "gw": "192.0.2.1", "mtu": 1400, "advmss": 1360, "priority": 100,
            "table": 200, "scope": 0}],
        "dns": {"nameservers": ["192.0.2.53"], "domain": "example.org", "search": ["a"], "options": ["ndots:2"]},
        "new": {"kept": [1.0, 9_007_199_254_740_993_u64]},
    });
    let network = bench.list("1.1.0", json!([{"type": "one", "result": full}, {"type": "two"}]));
    let result = bench.runner().add(&network, &attachment()).unwrap();
    assert_eq!(serde_json::from_str::<Value>(result.raw()).unwrap(), full);
    assert_eq!(bench.records()[1].config()["prevResult"], full);
    let typed = serde_json::to_value(result.typed().unwrap()).unwrap();
    for key in ["interfaces", "ips", "routes", "dns"] {
        assert_eq!(typed[key], full[key]);
    }
}

// Holds: D6
#[test]
fn a_plugin_says_its_versions() {
    let bench = Bench::new(&["one"]);
    let all = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
    assert_eq!(bench.runner().versions("one").unwrap(), all);
    for (name, text, expected) in [
        ("oldest", r#"echo '{"code":4,"msg":"unknown CNI_COMMAND: VERSION"}'; exit 1"#, Some(&all[..1])),
        ("old", r#"echo '{"cniVersion":"0.2.0"}'"#, Some(&all[..2])),
        ("none", r#"echo '{"cniVersion":"1.0.0"}'"#, None),
        ("odd", "echo text", None),
        ("silent", "true", None),
        ("failing", r#"echo '{"code":100,"msg":"m"}'; exit 1"#, None),
    ] {
        bench.script(name, text);
        let versions = bench.runner().versions(name);
        assert_eq!(
            versions.as_ref().ok().map(Vec::as_slice),
            expected.map(|v| v.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>()).as_deref(),
            "{name}: {versions:?}"
        );
    }
    bench.runner().versions("../one").unwrap_err();
}
