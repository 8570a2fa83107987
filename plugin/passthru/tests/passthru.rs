//! `passthru` as a runtime runs it.
#![expect(clippy::unwrap_used, reason = "a helper of tests, which clippy cannot see as one")]

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

fn run(vars: &[(&str, &str)], stdin: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_passthru"));
    command.env_clear().envs(vars.iter().copied());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It need not read what it is given.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

fn call(command: &str, config: &str) -> (Option<i32>, String) {
    let vars = [
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/proc/self/ns/net"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin"),
    ];
    let output = run(&vars, config);
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

// Holds: C6, C30
#[test]
fn add_prints_the_previous_result_byte_for_byte() {
    let kept = r#"{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","mtu":1500,"socketPath":"/s","pciID":"0000:00:01.0"}],"routes":[{"dst":"0.0.0.0/0","mtu":1400,"advmss":1360,"priority":5,"table":254,"scope":0}],"x":12345678901234567890}"#;
    let config = format!(r#"{{"cniVersion":"1.1.0","name":"n","type":"passthru","prevResult":{kept}}}"#);
    assert_eq!(call("ADD", &config), (Some(0), format!("{kept}\n")));
}

#[test]
fn add_without_a_previous_result_prints_an_empty_one_of_that_version() {
    for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let config = json!({"cniVersion": version, "name": "n", "type": "passthru"}).to_string();
        assert_eq!(call("ADD", &config), (Some(0), format!("{{\"cniVersion\":\"{version}\"}}\n")));
    }
}

#[test]
fn the_other_verbs_succeed_and_print_nothing() {
    let config = r#"{"cniVersion":"1.1.0","name":"n","type":"passthru"}"#;
    for command in ["DEL", "CHECK", "STATUS", "GC"] {
        assert_eq!(call(command, config), (Some(0), String::new()), "{command}");
    }
    // Whatever the configuration says: nothing is left behind that could be in the way.
    assert_eq!(call("DEL", r#"{"cniVersion":"0.1.0"}"#), (Some(0), String::new()));
}

// Holds: C3, C4
#[test]
fn a_refused_call_prints_an_error_object_and_exits_with_1() {
    for (command, config, expected) in [
        ("ADD", r#"{"cniVersion":"0.2.0","name":"n"}"#, 1),
        ("CHECK", r#"{"cniVersion":"0.3.1","name":"n"}"#, 1),
        ("STATUS", r#"{"cniVersion":"1.0.0","name":"n"}"#, 1),
        ("GC", r#"{"cniVersion":"1.0.0","name":"n"}"#, 1),
        ("ADD", r#"{"cniVersion":"1.0.0","name":"n","prevResult":7}"#, 6),
        ("ADD", "", 6),
        ("ADD", r#"{"cniVersion":"1.0.0"}"#, 7),
        ("NONE", "{}", 4),
    ] {
        let (code, stdout) = call(command, config);
        assert_eq!(code, Some(1), "{command} {config}");
        let object: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(object["code"], expected, "{command} {config}: {stdout}");
        assert!(!object["msg"].as_str().unwrap().is_empty());
    }
}

// Holds: C23
#[test]
fn version_needs_nothing_but_the_command() {
    let output = run(&[("CNI_COMMAND", "VERSION")], "");
    assert!(output.status.success());
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected =
        json!({"cniVersion": "1.1.0", "supportedVersions": ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]});
    assert_eq!(printed, expected);
}

#[test]
fn run_by_hand_it_says_what_it_is() {
    for vars in [&[][..], &[("CNI_COMMAND", "")]] {
        let output = run(vars, "");
        assert!(output.status.success() && output.stdout.is_empty());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("passthru") && said.contains("0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"), "{said}");
    }
}
