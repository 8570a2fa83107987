//! What plugins write to standard error: into our log, a line at a time, without secrets, bounded.

use std::{
    fs,
    sync::{LazyLock, Mutex},
};

use crate::bench::{Bench, attachment};
use log::{Level, LevelFilter, Log, Metadata, Record};
use serde_json::json;

static LINES: LazyLock<Mutex<Vec<(Level, String)>>> = LazyLock::new(Mutex::default);

struct Keeper;

impl Log for Keeper {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        LINES.lock().unwrap().push((record.level(), record.args().to_string()));
    }

    fn flush(&self) {}
}

/// The lines of a plugin that prints `text` to standard error and then does `end`.
fn logged(name: &str, text: &[u8], end: &str) -> Vec<(Level, String)> {
    // The same logger for all tests of this file; each looks at the lines of its own plugin.
    let _ = log::set_logger(&Keeper);
    log::set_max_level(LevelFilter::Debug);
    let bench = Bench::new(&[]);
    let input = bench.plugins.root().join("text");
    fs::write(&input, text).unwrap();
    bench.script(
        name,
        &format!(
            "cat {} >&2
{end}",
            input.display()
        ),
    );
    let network = bench.list("1.0.0", json!([{"type": name}]));
    let answer = bench.runner().add(&network, &attachment());
    if let Err(error) = answer {
        // It is for the log alone.
        assert!(!error.to_string().contains("marker"), "{error}");
    }
    let prefix = format!("plugin {name} ADD: ");
    let lines = LINES.lock().unwrap();
    let own = lines.iter().filter_map(|(level, line)| Some((*level, line.strip_prefix(&prefix)?.to_owned())));
    own.collect()
}

// Holds: D17
#[test]
fn lines_are_forwarded_louder_when_the_plugin_failed() {
    let lines = logged("quiet", b"marker one\n\n  \nmarker two", "echo '{}'");
    assert_eq!(lines, [(Level::Info, "marker one".to_owned()), (Level::Info, "marker two".to_owned())]);
    let lines = logged("loud", b"marker\n", "exit 1");
    assert_eq!(lines, [(Level::Warn, "marker".to_owned())]);
}

#[test]
fn a_line_that_may_hold_a_secret_is_not_forwarded() {
    for (index, line) in [
        "using Token abc",
        "Authorization: Basic abc",
        "bearer abc",
        "PASSWORD=abc",
        "client_secret: abc",
        "-----BEGIN RSA PRIVATE KEY-----",
        "passwd abc",
    ]
    .iter()
    .enumerate()
    {
        let text = format!("marker before\n{line}\nmarker after\n");
        let lines: Vec<_> = logged(&format!("secret{index}"), text.as_bytes(), "echo '{}'")
            .into_iter()
            .map(|(_, line)| line)
            .collect();
        assert_eq!(lines, ["marker before", "(a line that may hold a secret)", "marker after"], "{line}");
    }
}

#[test]
fn control_characters_long_lines_and_bytes_that_are_no_text_do_not_break_the_log() {
    let mut text = b"marker \x1b[31mred\x07\r\nbad \xff\xfe bytes\n".to_vec();
    text.extend(vec![b'x'; 5000]);
    let lines = logged("odd", &text, "echo '{}'");
    assert_eq!(lines.len(), 3);
    for (_, line) in &lines {
        assert!(line.chars().count() <= 1000 && !line.contains(char::is_control), "{line:?}");
    }
}

#[test]
fn of_much_the_end_is_kept() {
    let mut text = String::new();
    for number in 0..40_000 {
        text.push_str(&format!("marker {number}\n"));
    }
    let lines = logged("much", text.as_bytes(), "echo '{}'");
    assert_eq!(lines.last().unwrap().1, "marker 39999");
    let bytes: usize = lines.iter().map(|(_, line)| line.len() + 1).sum();
    assert!(bytes <= 64 * 1024 && bytes > 32 * 1024, "{bytes}");
}
