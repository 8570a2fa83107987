//! The project's examples, with the reference plugins.

use serde_json::Value;

use crate::support::{Machine, example, plugins, report, run, unable};

fn interface<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let interfaces = pod["interfaces"].as_array().unwrap();
    interfaces
        .iter()
        .find(|interface| interface["name"] == name)
        .unwrap_or_else(|| panic!("no {name}: {pod:#}"))
}

fn routes(pod: &Value) -> Vec<&str> {
    pod["routes"].as_array().unwrap().iter().map(|route| route.as_str().unwrap()).collect()
}

#[test]
fn the_first_minutes_example_works_and_leaves_the_machine_as_it_was() {
    if unable() || plugins().is_none() {
        return;
    }
    let before = Machine::now();
    let (code, report) = report(&[&example("macvlan.yaml")]);
    assert_eq!(code, 0, "{report:#}");
    assert_eq!((&report["verdict"], &report["host"]), (&Value::from("works"), &Value::from("throw-away")));
    assert!(report["milliseconds"].as_f64().unwrap() < 60_000.0);
    let pod = &report["pods"][0];
    let verbs: Vec<&Value> = pod["steps"].as_array().unwrap().iter().map(|step| &step["verb"]).collect();
    assert_eq!(verbs, ["ADD", "CHECK", "DEL"]);
    let net1 = interface(pod, "net1");
    assert_eq!(
        (&net1["kind"], &net1["addresses"][0], &net1["up"]),
        (&"macvlan".into(), &"10.62.0.2/24".into(), &true.into())
    );
    assert_eq!(pod["attachments"][1]["network"], "default/macvlan-net");
    assert_eq!(pod["status"][1]["ips"][0], "10.62.0.2");
    assert!(report["leaks"].as_array().unwrap().is_empty());
    assert_eq!(Machine::now(), before);
}

#[test]
fn people_see_interfaces_routes_times_and_that_nothing_is_left() {
    if unable() || plugins().is_none() {
        return;
    }
    let output = run(&[&example("bridge.yaml"), "-v"]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{shown}");
    for part in [
        "pod default/bridge-net: ADD ",
        "net1       default/bridge-net  bridge   10.61.0.2/24",
        "10.61.0.0/24 dev net1",
        "bridge ADD net1",
        "host-local ADD net1",
        "answered {",
        "left behind after DEL: nothing; by design of the plugins: bridge br-demo",
        "works: 1 pod",
    ] {
        assert!(shown.contains(part), "{part:?} is missing in:\n{shown}");
    }
    // Colours are for terminals, and this is none.
    assert!(!shown.contains('\u{1b}'));
}

#[test]
fn two_pods_of_one_network_reach_each_other() {
    if unable() || plugins().is_none() {
        return;
    }
    let (code, report) = report(&[&example("macvlan.yaml"), &example("bridge.yaml"), "--pods", "2"]);
    assert_eq!(code, 0, "{report:#}");
    let reach = report["reach"].as_array().unwrap();
    let networks: Vec<&Value> = reach.iter().map(|reach| &reach["network"]).collect();
    assert_eq!(networks, ["default/macvlan-net", "default/bridge-net"]);
    assert!(reach.iter().all(|reach| reach["ok"] == true), "{reach:#?}");
}

#[test]
fn pods_that_share_no_wire_do_not_reach_each_other_and_that_is_a_failure() {
    if unable() || plugins().is_none() {
        return;
    }
    // In VLANs of their own behind one bridge, each pod is alone.
    let dir = tempfile::tempdir().unwrap();
    let nad = |name: &str, master: &str| {
        format!(
            "apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\nmetadata: {{ name: {name}, namespace: default }}\n\
             spec: {{ config: '{{\"cniVersion\":\"1.0.0\",\"name\":\"one\",\"type\":\"macvlan\",\"master\":\"{master}\",\"mode\":\"vepa\",\
             \"ipam\":{{\"type\":\"host-local\",\"subnet\":\"10.70.0.0/24\"}}}}' }}\n"
        )
    };
    let path = dir.path().join("a.yaml");
    std::fs::write(&path, nad("a", "eth5")).unwrap();
    // VEPA needs a switch that sends frames back; the throw-away one does.
    let (code, answer) = report(&[path.to_str().unwrap(), "--pods", "2"]);
    assert_eq!((code, &answer["reach"][0]["ok"]), (0, &Value::from(true)), "{answer:#}");
    let private = nad("a", "eth5").replace("vepa", "private");
    std::fs::write(&path, &private).unwrap();
    // Private pods are not meant to reach each other, so nothing is tried.
    let (code, answer) = report(&[path.to_str().unwrap(), "--pods", "2"]);
    assert_eq!((code, answer["reach"].as_array().unwrap().len()), (0, 0), "{answer:#}");
}

// Holds: N15, N17, N22, N31
#[test]
fn a_pods_own_addresses_and_default_route_come_out_as_asked() {
    if unable() || plugins().is_none() {
        return;
    }
    let (code, report) = report(&[&example("networks/macvlan-default-route.yaml")]);
    assert_eq!(code, 0, "{report:#}");
    let pod = &report["pods"][0];
    let net1 = interface(pod, "net1");
    assert_eq!(net1["mac"], "02:64:00:00:00:05");
    assert_eq!(net1["addresses"], serde_json::json!(["10.64.0.5/24", "fd00:64::5/64"]));
    assert!(routes(pod).contains(&"default via 10.64.0.1 dev net1"), "{pod:#}");
    assert!(!routes(pod).iter().any(|route| route.starts_with("default via 198.18.")), "{pod:#}");

    let (code, report) = crate::support::report(&[&example("networks/bridge-gateway.yaml")]);
    assert_eq!(code, 0, "{report:#}");
    let pod = &report["pods"][0];
    assert_eq!(interface(pod, "out0")["addresses"][0], "10.63.0.77/24");
    assert!(routes(pod).contains(&"default via 10.63.0.1 dev out0"), "{pod:#}");
}

#[test]
fn a_chain_of_plugins_works() {
    if unable() || plugins().is_none() {
        return;
    }
    let (code, report) = report(&[&example("networks/chained.yaml")]);
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(
        report["pods"][0]["attachments"][1]["plugins"],
        serde_json::json!(["bridge", "tuning", "portmap"])
    );
}

#[test]
fn what_this_machine_lacks_is_said_with_the_reason_and_exit_code_3() {
    if unable() || plugins().is_none() {
        return;
    }
    for (file, reason) in [
        ("networks/sriov.yaml", "come from a device plugin through the kubelet"),
        ("networks/whereabouts.yaml", "keeps its addresses in the cluster's API"),
    ] {
        let (code, report) = report(&[&example(file)]);
        assert_eq!((code, &report["verdict"]), (3, &Value::from("not-tried")), "{report:#}");
        assert!(report["pods"][0]["notTried"][0].as_str().unwrap().contains(reason), "{report:#}");
    }
    let (code, report) = report(&[&example("networks/ipvlan.yaml")]);
    match code {
        0 => assert_eq!(interface(&report["pods"][0], "net1")["kind"], "ipvlan"),
        _ => {
            assert_eq!(code, 3, "{report:#}");
            let reason = report["pods"][0]["notTried"][0].as_str().unwrap();
            assert!(reason.contains("this kernel makes no links of type ipvlan"), "{reason}");
        }
    }
}

#[test]
fn a_pod_of_the_files_gets_what_its_annotation_says_and_an_annotation_can_be_given() {
    if unable() || plugins().is_none() {
        return;
    }
    let (code, answer) = report(&[&example("")]);
    assert!([0, 3].contains(&code), "{answer:#}");
    let pods = answer["pods"].as_array().unwrap();
    let alpha = pods.iter().find(|pod| pod["name"] == "alpha").unwrap();
    assert_eq!(alpha["networks"], serde_json::json!(["default/bridge-net", "default/macvlan-net"]));
    interface(alpha, "net2");
    let (code, answer) =
        report(&[&example("bridge.yaml"), "--annotation", r#"[{"name":"bridge-net","interface":"data0"}]"#]);
    assert_eq!(code, 0, "{answer:#}");
    interface(&answer["pods"][0], "data0");
}

#[test]
fn a_network_that_is_in_no_file_fails_with_the_plugins_own_words() {
    if unable() {
        return;
    }
    let (code, report) = report(&[&example("pods.yaml")]);
    assert_eq!(code, 1);
    let error = &report["pods"][0]["steps"][0]["error"];
    assert_eq!(error["code"], 7);
    assert!(error["message"].as_str().unwrap().contains("NAD_NOT_FOUND"), "{error}");
}

#[test]
fn a_file_that_the_api_server_would_refuse_is_not_run() {
    let broken = crate::support::root().join("tools/try/tests/broken/config-not-text.yaml");
    let output = run(&[broken.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not run"));
    assert!(String::from_utf8_lossy(&output.stdout).contains("[config-not-text]"));
}

#[test]
fn users_who_are_not_root_have_a_throw_away_host_too() {
    if unable() {
        return;
    }
    let Some(plugins) = plugins() else { return };
    // Where a user may read it.
    let dir = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()
        .unwrap();
    let copy =
        |from: &std::path::Path, name: &str| assert!(std::fs::copy(from, dir.path().join(name)).unwrap() > 0);
    copy(crate::support::BINARY.as_ref(), "multus-try");
    for plugin in ["macvlan", "host-local"] {
        copy(&plugins.join(plugin), plugin);
    }
    copy(example("macvlan.yaml").as_ref(), "macvlan.yaml");
    let as_nobody = |program: &str| {
        let mut command = std::process::Command::new("setpriv");
        command
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", program])
            .current_dir(dir.path());
        command
    };
    if !as_nobody("unshare").args(["-Urn", "true"]).status().is_ok_and(|status| status.success()) {
        testkit::skip("this kernel gives users no namespaces");
        return;
    }
    let output = as_nobody("./multus-try").args(["--plugin-dir", ".", "macvlan.yaml"]).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{shown}{}", String::from_utf8_lossy(&output.stderr));
    assert!(shown.contains("10.62.0.2/24"), "{shown}");
}
