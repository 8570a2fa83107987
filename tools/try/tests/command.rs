//! The binary's lint: exit codes and both forms of output.
#![expect(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

fn run(args: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_multus-try"))
        .args(args)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A child that does not read its input may have closed it.
    drop(child.stdin.take().unwrap().write_all(stdin.as_bytes()));
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_mistake_is_one_line_with_its_place_and_exit_code_1() {
    let output = run(&["--lint", "broken/range-order.yaml"], "");
    assert_eq!(output.status.code(), Some(1));
    let shown = text(&output.stdout);
    let mut lines = shown.lines();
    assert!(lines.next().unwrap().starts_with("broken/range-order.yaml:17:"), "{shown}");
    assert!(lines.next().unwrap().starts_with("    why: ") && lines.next().unwrap().starts_with("    fix: "));
    assert!(text(&output.stderr).starts_with("1 mistake found"));
}

#[test]
fn a_good_folder_is_silent_with_exit_code_0() {
    let output = run(&["--lint", "../../../docs/examples"], "");
    assert_eq!(
        (output.status.code(), text(&output.stdout), text(&output.stderr)),
        (Some(0), String::new(), String::new())
    );
}

#[test]
fn standard_input_is_a_file_too_and_json_has_the_documented_keys() {
    let broken =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken/mtu.yaml")).unwrap();
    let output = run(&["--lint", "--output", "json", "-"], &broken);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["formatVersion"], 1);
    let finding = &report["findings"][0];
    assert_eq!((&finding["rule"], &finding["file"]), (&Value::from("mtu"), &Value::from("-")));
    for key in ["line", "column"] {
        assert!(finding[key].is_u64(), "{finding}");
    }
    for key in ["message", "why", "fix"] {
        assert!(finding[key].is_string(), "{finding}");
    }
}

#[test]
fn what_cannot_be_read_or_named_is_exit_code_2_and_one_line() {
    for args in [
        &["--lint", "no-such-file.yaml"][..],
        &["--lint", "--allow", "no-such-rule", "good"],
        &["--lint", "--plugin-dir", "no-such-folder", "good"],
    ] {
        let output = run(args, "");
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let said = text(&output.stderr);
        assert!(said.starts_with("multus-try: ") && said.trim().lines().count() == 1, "{said}");
    }
    assert_eq!(run(&["--no-such-option"], "").status.code(), Some(2));
}

#[test]
fn masters_are_checked_by_the_interfaces_that_are_named() {
    let lint =
        |interfaces: &str| run(&["--lint", "--interfaces", interfaces, "good/vlan.yaml"], "").status.code();
    assert_eq!((lint("eth0,bond0"), lint("eth0")), (Some(0), Some(1)));
    assert_eq!(run(&["--lint", "good/vlan.yaml"], "").status.code(), Some(0));
}
