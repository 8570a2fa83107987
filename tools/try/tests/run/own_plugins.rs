//! Plugins that are shell scripts: what they received, and what they leave.

use serde_json::Value;

use crate::support::{Machine, Own, run, unable};

const FINE: &str = r#"ADD) echo '{"cniVersion":"1.0.0","interfaces":[{"name":"net1","sandbox":"'$CNI_NETNS'"}],"ips":[]}' ;;"#;

// Holds: N2, N56
#[test]
fn a_plugin_receives_its_config_as_written_and_both_are_shown() {
    if unable() {
        return;
    }
    let own = Own::new(FINE);
    let (code, report) = own.report(&[]);
    assert_eq!(code, 0, "{report:#}");
    let add = &report["pods"][0]["steps"][0];
    let call = add["calls"].as_array().unwrap().iter().find(|call| call["plugin"] == "own").unwrap();
    // A number that no float holds, and the name that the definition gives.
    assert!(call["received"].as_str().unwrap().contains("12345678901234567890"), "{call:#}");
    let received: Value = serde_json::from_str(call["received"].as_str().unwrap()).unwrap();
    assert_eq!(received["name"], "own");
    assert!(call["answered"].as_str().unwrap().contains("net1"));
    assert_eq!((&call["interface"], &call["exit"]), (&Value::from("net1"), &Value::from(0)));
}

#[test]
fn what_del_leaves_is_named_and_is_exit_code_1() {
    if unable() {
        return;
    }
    let before = Machine::now();
    let own = Own::new(&format!(
        "{}\n",
        FINE.replace(
            "ADD)",
            "ADD) mkdir -p /var/lib/cni/own /etc/own; touch /var/lib/cni/own/10.1.1.1 /etc/own/state; \
             ip link add trying0 type veth peer name trying1; ip link add left0 netns $CNI_NETNS type veth peer name left1 netns $CNI_NETNS;"
        )
    ));
    let (code, report) = own.report(&[]);
    assert_eq!((code, &report["verdict"]), (1, &Value::from("fails")), "{report:#}");
    let leaks: Vec<String> = report["leaks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|leak| format!("{} {}", leak["kind"].as_str().unwrap(), leak["what"].as_str().unwrap()))
        .collect();
    for leak in [
        "file /etc/own/state",
        "file /var/lib/cni/own/10.1.1.1",
        "link trying0",
        "link trying1",
        "link left0 in default/own",
    ] {
        assert!(leaks.iter().any(|known| known == leak), "{leak} is missing in {leaks:?}");
    }
    // The machine itself has nothing of it.
    assert_eq!(Machine::now(), before);
    assert!(!std::path::Path::new("/etc/own").exists());
    let shown = run(&[&own.manifest(), "--plugin-dir", &own.bin()]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("LEAK: link trying0 is still there after DEL"));
}

// Holds: N51, N53
#[test]
fn a_plugin_that_fails_is_shown_with_its_own_code_and_words() {
    if unable() {
        return;
    }
    let own = Own::new(r#"ADD) echo '{"cniVersion":"1.0.0","code":123,"msg":"no more colours"}'; exit 1 ;;"#);
    let (code, report) = own.report(&[]);
    assert_eq!(code, 1);
    let steps = report["pods"][0]["steps"].as_array().unwrap();
    assert_eq!(steps[0]["error"]["code"], 123, "{report:#}");
    assert!(steps[0]["error"]["message"].as_str().unwrap().contains("no more colours"));
    // As from a runtime, DEL comes after a failed ADD, and CHECK does not.
    assert_eq!((steps.len(), &steps[1]["verb"], &steps[1]["error"]), (2, &Value::from("DEL"), &Value::Null));

    let own = Own::new(&format!("{FINE}\nDEL) echo '{{\"code\":124,\"msg\":\"stuck\"}}'; exit 1 ;;"));
    let (code, report) = own.report(&[]);
    assert_eq!(code, 1);
    let del = &report["pods"][0]["steps"][2];
    assert!(del["error"]["message"].as_str().unwrap().contains("stuck"), "{report:#}");
    let journal = |leak: &Value| leak["kind"] == "journal";
    assert!(report["leaks"].as_array().unwrap().iter().any(journal), "{report:#}");
}

#[test]
fn a_plugin_that_is_missing_is_named_with_the_cure() {
    if unable() {
        return;
    }
    let own = Own::new(FINE);
    let manifest = std::fs::read_to_string(own.manifest()).unwrap();
    std::fs::write(own.manifest(), manifest.replace("\"own\"", "\"macvlan\"")).unwrap();
    let (code, report) = own.report(&[]);
    assert_eq!(code, 3, "{report:#}");
    let reason = report["pods"][0]["notTried"][0].as_str().unwrap();
    assert!(
        reason.contains("the plugin macvlan is in none of") && reason.contains("--install-plugins"),
        "{reason}"
    );
}

#[test]
fn warnings_of_the_plugin_are_shown() {
    if unable() {
        return;
    }
    let own = Own::new(FINE);
    let annotation = r#"[{"name":"own","mac":"02:00:00:00:00:01"}]"#;
    let (code, report) = own.report(&["--annotation", annotation]);
    assert_eq!(code, 0, "{report:#}");
    let log = report["pods"][0]["steps"][0]["log"].to_string();
    assert!(log.contains("mac"), "{report:#}");
}
