//! What a pod asks of its networks, and how it reaches the delegates.

use serde_json::{Value, json};
use testkit::answer::Answer;

use crate::host::{Host, http};

const ALL: [&str; 6] = ["ips", "mac", "infinibandGUID", "portMappings", "bandwidth", "deviceID"];

fn capabilities() -> Value {
    json!({ "capabilities": ALL.iter().map(|name| ((*name).to_owned(), true)).collect::<std::collections::BTreeMap<_, _>>() })
}

/// A pod that asks for `a` with these requests; what the delegate of `a` got with its ADD.
#[track_caller]
fn with(host: &Host, keys: &Value, requests: &Value) -> (Answer, Option<testkit::Record>) {
    host.honest_daemon(&[("demo/a", host.nad("second", keys))]);
    let mut element = json!({ "name": "a" });
    element.as_object_mut().unwrap().extend(requests.as_object().unwrap().clone());
    let answer = host.call("ADD", Some(&json!([element]).to_string()));
    let call = host.plugins.records().unwrap().into_iter().find(|call| call.plugin == "second");
    (answer, call)
}

// Holds: N14, N15, N17, N24, N26, N27, N29, N32
#[test]
fn every_request_reaches_a_plugin_that_declares_its_capability_and_no_other() {
    let requests = json!({
        "ips": ["192.0.2.7/24", "2001:db8::7"], "mac": "02:00:00:00:00:07",
        "infiniband-guid": "c2:11:22:33:44:55:66:77",
        "portMappings": [{"hostPort": 8080, "containerPort": 80}],
        "bandwidth": {"ingressRate": 2048, "ingressBurst": 1600},
    });
    let host = Host::new();
    let (answer, call) = with(&host, &capabilities(), &requests);
    answer.result();
    assert_eq!(
        call.unwrap().config()["runtimeConfig"],
        json!({
            "ips": ["192.0.2.7/24", "2001:db8::7"], "mac": "02:00:00:00:00:07",
            "infinibandGUID": "c2:11:22:33:44:55:66:77",
            "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
            "bandwidth": {"ingressRate": 2048, "ingressBurst": 1600},
        })
    );
    let host = Host::new();
    let (answer, call) = with(&host, &json!({"capabilities": {"mac": true, "ips": false}}), &requests);
    answer.result();
    assert_eq!(call.unwrap().config()["runtimeConfig"], json!({"mac": "02:00:00:00:00:07"}));
}

// Holds: N16, N18, N25, N28
#[test]
fn a_request_that_no_plugin_can_serve_is_said_and_under_strict_refused() {
    let request = json!({"mac": "02:00:00:00:00:07"});
    let host = Host::new();
    let (answer, _) = with(&host, &json!({}), &request);
    answer.result();
    assert!(answer.stderr.contains("asks for mac"), "{}", answer.stderr);
    for (capability, request) in [
        ("ips", json!({"ips": ["192.0.2.7/24"]})),
        ("mac", request),
        ("infinibandGUID", json!({"infiniband-guid": "c2:11:22:33:44:55:66:77"})),
        ("portMappings", json!({"portMappings": [{"hostPort": 8080, "containerPort": 80}]})),
        ("bandwidth", json!({"bandwidth": {"ingressRate": 2048}})),
    ] {
        let mut host = Host::new();
        host.options["strict"] = json!(true);
        let (answer, call) = with(&host, &json!({}), &request);
        let (code, line) = answer.failure();
        assert!(code == 7 && line.starts_with("CAPABILITY_MISSING") && line.contains("demo/a"), "{line}");
        assert!(line.contains(&format!("asks for {capability},")), "{line}");
        assert_eq!(call, None);
    }
}

// Holds: B21
#[test]
fn older_plugins_get_address_and_mac_in_cni_args_with_every_verb() {
    let host = Host::new();
    let (answer, _) =
        with(&host, &json!({}), &json!({"ips": ["192.0.2.7", "2001:db8::7"], "mac": "02:00:00:00:00:07"}));
    answer.result();
    assert!(host.call("CHECK", None).ok);
    assert!(host.call("DEL", None).ok);
    let args: Vec<String> = host
        .plugins
        .records()
        .unwrap()
        .iter()
        .filter(|call| call.plugin == "second")
        .map(|call| call.var("CNI_ARGS").to_owned())
        .collect();
    let expected = "IgnoreUnknown=1;K8S_POD_NAMESPACE=demo;K8S_POD_NAME=pod;K8S_POD_UID=u1;MAC=02:00:00:00:00:07;IP=192.0.2.7,2001:db8::7";
    assert_eq!(args, [expected; 3]);
}

// Holds: N22, N23, P3, B11
#[test]
fn the_pods_cni_args_win_over_the_definitions_and_an_odd_definition_is_a_clear_error() {
    let host = Host::new();
    let keys = json!({"args": {"cni": {"keep": 1, "both": "nad"}, "other": true}});
    let (answer, call) =
        with(&host, &keys, &json!({"cni-args": {"both": "pod", "new": [9007199254740993_u64]}}));
    answer.result();
    let args = &call.unwrap().config()["args"];
    assert_eq!(
        *args,
        json!({"cni": {"keep": 1, "both": "pod", "new": [9007199254740993_u64]}, "other": true})
    );
    for odd in [json!("x"), json!([]), json!({"cni": 5})] {
        let host = Host::new();
        let (answer, call) = with(&host, &json!({ "args": odd }), &json!({"cni-args": {"a": "b"}}));
        let (code, line) = answer.failure();
        assert!(code == 7 && line.starts_with("NAD_INVALID") && line.contains("args"), "{line}");
        assert_eq!(call, None);
        assert!(host.call("DEL", None).ok);
    }
}

// Holds: N33
#[test]
fn an_ipam_claim_reaches_the_delegate() {
    let host = Host::new();
    let (answer, call) = with(&host, &json!({}), &json!({"ipam-claim-reference": "claim-1"}));
    answer.result();
    assert_eq!(call.unwrap().config()["args"]["cni"]["ipam-claim-reference"], "claim-1");
}

/// A daemon that knows `a` with a resource, and the devices of the pod.
fn with_devices(host: &Host, networks: &[(&str, Value)], devices: &Value) {
    let known: Vec<Value> = networks
        .iter()
        .map(|(name, keys)| {
            json!({"namespace": "demo", "name": name, "config": host.nad("second", keys),
                "annotations": {"k8s.v1.cni.cncf.io/resourceName": "example.com/nic"}})
        })
        .collect();
    let devices = devices.clone();
    host.daemon(move |path, body| {
        if path != "/v1/resolve" {
            return http(200, "{}");
        }
        let wanted = body["selections"].as_array().unwrap();
        let found: Vec<&Value> = wanted
            .iter()
            .filter_map(|one| known.iter().find(|network| network["name"] == one["name"]))
            .collect();
        http(200, &json!({"networks": found, "devices": devices}).to_string())
    });
}

// Holds: B12
#[test]
fn each_network_of_a_resource_gets_a_device_of_its_own() {
    let host = Host::new();
    let declares = json!({"capabilities": {"deviceID": true}});
    with_devices(
        &host,
        &[("a", declares.clone()), ("b", declares)],
        &json!({"example.com/nic": ["0000:01:00.1", "0000:01:00.2"]}),
    );
    host.call("ADD", Some("a,b")).result();
    let got: Vec<(Value, Value, Value)> = host
        .plugins
        .records()
        .unwrap()
        .iter()
        .filter(|call| call.plugin == "second")
        .map(|call| call.config())
        .map(|config| {
            (
                config["deviceID"].clone(),
                config["pciBusID"].clone(),
                config["runtimeConfig"]["deviceID"].clone(),
            )
        })
        .collect();
    let all = |id: &str| (json!(id), json!(id), json!(id));
    assert_eq!(got, [all("0000:01:00.1"), all("0000:01:00.2")]);
}

// Holds: N44
#[test]
fn what_a_device_plugin_knows_reaches_the_delegate_and_the_status_and_goes_with_the_pod() {
    let mut host = Host::new();
    let folder = host.root("devinfo");
    host.options["deviceInfoDir"] = json!(folder);
    std::fs::create_dir_all(folder.join("dp")).unwrap();
    let info = json!({"type": "pci", "version": "1.1.0", "pci": {"pci-address": "0000:01:00.1"}});
    std::fs::write(folder.join("dp/example.com-nic-0000:01:00.1-device.json"), info.to_string()).unwrap();
    let declares = json!({"capabilities": {"CNIDeviceInfoFile": true, "deviceID": true}});
    with_devices(&host, &[("a", declares)], &json!({"example.com/nic": ["0000:01:00.1"]}));
    host.call("ADD", Some("a")).result();
    let config = host.plugins.records().unwrap()[1].config();
    let file = config["runtimeConfig"]["CNIDeviceInfoFile"].as_str().unwrap().to_owned();
    assert_eq!(file, folder.join("cni/demo-a-sandbox1_net1").to_str().unwrap());
    let status: Value =
        serde_json::from_str(host.asked_for("/v1/publish")[0]["status"].as_str().unwrap()).unwrap();
    assert_eq!(status[1]["device-info"], info);
    assert!(host.call("DEL", None).ok);
    assert!(!std::path::Path::new(&file).exists());
}

#[test]
fn a_device_that_the_kubelet_did_not_give_to_the_pod_is_refused() {
    let host = Host::new();
    with_devices(&host, &[("a", json!({}))], &json!({"example.com/nic": []}));
    let (code, line) = host.call("ADD", Some(r#"[{"name":"a","deviceID":"0000:00:1f.0"}]"#)).failure();
    assert!(code == 7 && line.starts_with("DEVICE_REFUSED"), "{line}");
    assert_eq!(host.calls(), Vec::<String>::new());
}

#[test]
fn keys_count_in_any_case_and_the_older_name_of_interface_too() {
    let host = Host::new();
    host.honest_daemon(&[("demo/a", host.nad("second", &json!({})))]);
    host.call("ADD", Some(r#"[{"NAME":"a","interfaceRequest":"data0","unknown":{"x":1}}]"#)).result();
    assert_eq!(host.calls(), ["ADD first eth0", "ADD second data0"]);
}

#[test]
fn strict_refuses_what_the_standard_forbids_and_go_multus_lets_pass() {
    for element in [
        r#"{"name":"a","mac":"02:00:00:00:00:00:00:01"}"#,
        r#"{"name":"a","infiniband-guid":"02:00:00:00:00:01"}"#,
        r#"{"name":"a","ips":[]}"#,
        r#"{"name":"a","portMappings":[{"containerPort":80}]}"#,
        r#"{"name":"a","bandwidth":{}}"#,
        r#"{"name":"a","bandwidth":{"egressBurst":5}}"#,
    ] {
        let mut host = Host::new();
        host.honest_daemon(&[("demo/a", host.nad("second", &capabilities()))]);
        assert!(host.call("ADD", Some(&format!("[{element}]"))).ok, "{element}");
        assert!(host.call("DEL", None).ok);
        host.options["strict"] = json!(true);
        assert_eq!(host.call("ADD", Some(&format!("[{element}]"))).failure().0, 7, "{element}");
    }
}

#[test]
fn a_request_of_another_shape_is_refused() {
    for element in [
        r#"{"name":"a","bandwidth":[]}"#,
        r#"{"name":"a","portMappings":[[]]}"#,
        r#"{"name":"a","portMappings":{}}"#,
        r#"{"name":"a","ips":["192.0.2.1/33"]}"#,
        r#"{"name":"a","ips":["192.0.2.1/24/1"]}"#,
        r#"{"name":"a","ips":["192.0.2.1/"]}"#,
        r#"{"name":"a","ips":["2001:db8::1/129"]}"#,
    ] {
        let host = Host::new();
        host.honest_daemon(&[("demo/a", host.nad("second", &capabilities()))]);
        let (code, line) = host.call("ADD", Some(&format!("[{element}]"))).failure();
        assert!(code == 7 && line.starts_with("SELECTION_INVALID"), "{element}: {line}");
    }
}
