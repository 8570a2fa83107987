//! A report for people: what came out, in tables; what was called and answered, if they want to know.

use std::fmt::Write;

use crate::run::report::{Call, Pod, Report, Step, Verdict};

/// How a report is shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    /// With what each plugin received and answered.
    pub verbose: bool,
    /// With colours.
    pub colour: bool,
}

/// A colour of terminals.
#[derive(Clone, Copy)]
enum Paint {
    Bold,
    Green,
    Yellow,
    Red,
}

impl Style {
    fn paint(self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Bold => 1,
            Paint::Green => 32,
            Paint::Yellow => 33,
            Paint::Red => 31,
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The whole report. Writing into a string cannot fail, so the results of that are dropped.
pub fn report(report: &Report, style: Style) -> String {
    let mut out = String::new();
    let host = if report.host == "machine" { "this machine" } else { "throw-away host" };
    let _ = writeln!(
        out,
        "{host} with {}; plugins of {}",
        report.interfaces.join(", "),
        report.plugin_dirs.join(", ")
    );
    for pod in &report.pods {
        out.push('\n');
        out.push_str(&one_pod(pod, style));
    }
    if !report.reach.is_empty() {
        out.push('\n');
    }
    for reach in &report.reach {
        let verdict = match reach.ok {
            true => style.paint(Paint::Green, &format!("reached in {}", time(reach.milliseconds))),
            false => style.paint(Paint::Red, &format!("NOT REACHED: {}", reach.why)),
        };
        let _ = writeln!(
            out,
            "{} -> {} {} over {}: {verdict}",
            reach.from, reach.to, reach.address, reach.network
        );
    }
    out.push('\n');
    out.push_str(&left(report, style));
    out.push_str(&verdict(report, style));
    out
}

fn left(report: &Report, style: Style) -> String {
    let mut out = String::new();
    for leak in &report.leaks {
        let what = format!("LEAK: {} {} is still there after DEL", leak.kind, leak.what);
        let _ = writeln!(out, "{}", style.paint(Paint::Red, &what));
    }
    if report.leaks.is_empty() && report.pods.iter().any(|pod| pod.not_tried.is_empty()) {
        let stays = match report.stays.as_slice() {
            [] => String::new(),
            stays => format!("; by design of the plugins: {}", stays.join(", ")),
        };
        let _ = writeln!(out, "left behind after DEL: nothing{stays}");
    }
    out
}

fn verdict(report: &Report, style: Style) -> String {
    let tried = report.pods.iter().filter(|pod| pod.not_tried.is_empty()).count();
    let (paint, word) = match report.verdict {
        Verdict::Works => (Paint::Green, "works"),
        Verdict::Fails => (Paint::Red, "FAILS"),
        Verdict::NotTried => (Paint::Yellow, "not tried"),
    };
    let of = match (report.verdict, report.pods.len()) {
        (_, 0) => "no network and no pod that asks for one".to_owned(),
        (Verdict::NotTried, all) => format!("{} of {all} pods", all - tried),
        (_, 1) => "1 pod".to_owned(),
        (_, all) => format!("{all} pods"),
    };
    format!("{}: {of}, {}\n", style.paint(paint, word), time(report.milliseconds))
}

fn one_pod(pod: &Pod, style: Style) -> String {
    let mut out = String::new();
    let steps: Vec<String> = pod.steps.iter().map(|step| shown_step(step, style)).collect();
    let name = style.paint(Paint::Bold, &format!("pod {}/{}", pod.namespace, pod.name));
    let steps = if steps.is_empty() { style.paint(Paint::Yellow, "not tried") } else { steps.join(", ") };
    let _ = writeln!(out, "{name}: {steps}");
    for reason in &pod.not_tried {
        let _ = writeln!(out, "  {reason}");
    }
    for step in &pod.steps {
        if let Some(error) = &step.error {
            let _ = writeln!(out, "  {}: {} (code {})", step.verb, error.message, error.code);
        }
        for line in &step.log {
            let _ = writeln!(out, "  {}: {line}", step.verb);
        }
    }
    if !pod.interfaces.is_empty() {
        out.push_str(&table(&interfaces(pod)));
        for (index, route) in pod.routes.iter().enumerate() {
            let _ = writeln!(out, "  {:9} {route}", if index == 0 { "routes" } else { "" });
        }
    }
    if style.verbose {
        for step in &pod.steps {
            step.calls.iter().for_each(|call| out.push_str(&one_call(call, style)));
        }
        if let Some(status) = &pod.status {
            let _ = writeln!(out, "  network-status {status}");
        }
    }
    out
}

fn shown_step(step: &Step, style: Style) -> String {
    match &step.error {
        None => format!("{} {}", step.verb, time(step.milliseconds)),
        Some(_) => {
            style.paint(Paint::Red, &format!("{} FAILED after {}", step.verb, time(step.milliseconds)))
        }
    }
}

fn interfaces(pod: &Pod) -> Vec<Vec<String>> {
    let mut rows =
        vec![["interface", "network", "plugins", "addresses", "mac", "mtu"].map(str::to_owned).to_vec()];
    for interface in &pod.interfaces {
        let of = pod.attachments.iter().find(|attachment| attachment.interface == interface.name);
        let network = match of {
            Some(attachment) if attachment.network == "multus-try" => "the sandbox's own".to_owned(),
            Some(attachment) => attachment.network.clone(),
            None => "-".to_owned(),
        };
        let plugins = match of {
            Some(attachment) if attachment.network != "multus-try" => attachment.plugins.join(", "),
            _ => "-".to_owned(),
        };
        let addresses =
            if interface.addresses.is_empty() { "none".to_owned() } else { interface.addresses.join(" ") };
        let name = if interface.up { interface.name.clone() } else { format!("{} (down)", interface.name) };
        rows.push(vec![name, network, plugins, addresses, interface.mac.clone(), interface.mtu.to_string()]);
    }
    rows
}

/// Columns as wide as they need to be.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}", width = *width)).collect();
        let _ = writeln!(out, "  {}", cells.join("  ").trim_end());
    }
    out
}

fn one_call(call: &Call, style: Style) -> String {
    let indent = "  ".repeat(usize::try_from(call.depth).unwrap_or_default() + 1);
    let exit = call.exit.map_or("killed".to_owned(), |code| format!("exit {code}"));
    let head = format!("{} {} {}", call.plugin, call.verb, call.interface);
    let mut out =
        format!("{indent}{} {}, {exit}\n", style.paint(Paint::Bold, &head), time(call.milliseconds));
    let _ = writeln!(out, "{indent}  received {}", squeezed(&call.received));
    if !call.answered.trim().is_empty() {
        let _ = writeln!(out, "{indent}  answered {}", squeezed(&call.answered));
    }
    out
}

/// JSON on one line; anything else as it is, without line breaks.
fn squeezed(text: &str) -> String {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) => value.to_string(),
        Err(_) => cni::error::one_line(text, 4000),
    }
}

fn time(milliseconds: f64) -> String {
    match milliseconds {
        ..10.0 => format!("{milliseconds:.1} ms"),
        ..1000.0 => format!("{milliseconds:.0} ms"),
        _ => format!("{:.1} s", milliseconds / 1000.0),
    }
}
