//! `cargo xtask demo`: from a fresh clone to two pods that reach each other over a second network.
//!
//! Runs as often as one likes: what is already there is kept or upgraded.

use crate::cluster::Layout;
use crate::command::{show, succeed, xtask};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const NAMESPACE: &str = "multus-system";
const PODS: [&str; 2] = ["alpha", "beta"];
const STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

/// The interface over which the two pods talk in the end: the bridge of `docs/examples/bridge.yaml`.
const PING_INTERFACE: &str = "net1";

/// Runs the demo, and says on failure where to look.
pub(crate) fn run() -> Result<()> {
    let mut phases = Phases::default();
    phases.run("cluster", || succeed(&mut xtask(["cluster", "up"])))?;
    phases.run("images", || succeed(&mut xtask(["images", "--load"])))?;
    let outcome = phases.run("chart", chart).and_then(|()| phases.run("pods", pods)).and_then(|()| look());
    if let Err(error) = outcome {
        evidence();
        return Err(error.context(format!(
            "the demo stopped; the cluster is still up, its logs are in {}",
            Layout::new()?.logs().display()
        )));
    }
    phases.print();
    println!(
        "\nLook around:\n  \
         eval \"$(cargo xtask cluster env)\"     # KUBECONFIG, and kubectl and helm in PATH\n  \
         kubectl get net-attach-def\n  \
         kubectl describe pod alpha             # the event tells which networks it got\n  \
         kubectl exec alpha -- ip address\n  \
         kubectl -n {NAMESPACE} logs daemonset/multus --all-containers\n\
         Stop it:\n  \
         cargo xtask cluster down"
    );
    Ok(())
}

/// How long each part took.
#[derive(Default)]
struct Phases(Vec<(&'static str, Duration)>);

impl Phases {
    fn run(&mut self, name: &'static str, body: impl FnOnce() -> Result<()>) -> Result<()> {
        println!("== {name}");
        let started = Instant::now();
        body().with_context(|| format!("phase `{name}` failed"))?;
        self.0.push((name, started.elapsed()));
        Ok(())
    }

    fn print(&self) {
        println!("\nTime");
        for (name, time) in &self.0 {
            println!("  {name:<8} {:>6.1} s", time.as_secs_f64());
        }
        let total: Duration = self.0.iter().map(|(_, time)| *time).sum();
        println!("  {:<8} {:>6.1} s", "total", total.as_secs_f64());
    }
}

/// A tool of the cluster's cache, aimed at the cluster.
fn tool<const N: usize>(name: &str, args: [&str; N]) -> Result<Command> {
    let layout = Layout::new()?;
    let mut command = Command::new(layout.bin.join(name));
    command
        .args(args)
        .env("KUBECONFIG", layout.kubeconfig())
        .current_dir(crate::tidy::repository())
        .stdin(Stdio::null());
    Ok(command)
}

fn kubectl<const N: usize>(args: [&str; N]) -> Result<Command> {
    tool("kubectl", args)
}

fn chart() -> Result<()> {
    let before = tool("helm3", ["status", "multus", "--namespace", NAMESPACE])?
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("cannot run helm; is the cluster's cache complete?")?
        .success();
    succeed(&mut tool(
        "helm3",
        [
            "upgrade",
            "multus",
            "chart",
            "--install",
            "--namespace",
            NAMESPACE,
            "--create-namespace",
            "--set",
            "image.repository=localhost/multus-rs",
            "--set",
            "image.tag=dev",
            "--set",
            "image.pullPolicy=Never",
            "--wait",
            "--timeout",
            "3m",
        ],
    )?)?;
    if before {
        // The tag is always `dev`, so the DaemonSet cannot see that the image is a new one.
        succeed(&mut kubectl(["--namespace", NAMESPACE, "rollout", "restart", "daemonset"])?)?;
    }
    // Helm's own wait is content with one node less than there are.
    succeed(&mut kubectl(["--namespace", NAMESPACE, "rollout", "status", "daemonset", "--timeout=120s"])?)
}

fn pods() -> Result<()> {
    // Made by the controller manager a moment after the cluster starts; pods are refused before.
    succeed(&mut kubectl(["wait", "--for=create", "serviceaccount/default", "--timeout=60s"])?)?;
    succeed(&mut kubectl(["apply", "-f", "docs/examples"])?)?;
    succeed(&mut kubectl(["wait", "--for=condition=Ready", "pod/alpha", "pod/beta", "--timeout=120s"])?)
}

#[derive(Deserialize)]
struct List<T> {
    items: Vec<T>,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Pod {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Network {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    #[serde(default)]
    config: String,
}

/// One entry of the `network-status` annotation.
#[derive(Debug, Deserialize)]
struct Interface {
    name: String,
    #[serde(default)]
    interface: String,
    #[serde(default)]
    ips: Vec<String>,
    #[serde(default)]
    mac: String,
    #[serde(default)]
    default: bool,
}

/// The table, and the ping.
fn look() -> Result<()> {
    let pods: List<Pod> = json(kubectl(["get", "pods", PODS[0], PODS[1], "-o", "json"])?)?;
    let networks: List<Network> =
        json(kubectl(["get", "net-attach-def", "--all-namespaces", "-o", "json"])?)?;
    let types: BTreeMap<String, String> = networks
        .items
        .iter()
        .map(|nad| {
            (format!("{}/{}", nad.metadata.namespace, nad.metadata.name), plugin_type(&nad.spec.config))
        })
        .collect();
    let mut rows = vec![["POD", "INTERFACE", "ADDRESS", "MAC", "FROM"].map(str::to_owned)];
    let mut target = None;
    for pod in &pods.items {
        for interface in interfaces(pod)? {
            if pod.metadata.name == PODS[1] && interface.interface == PING_INTERFACE {
                target = interface.ips.first().cloned();
            }
            rows.push([
                pod.metadata.name.clone(),
                interface.interface.clone(),
                interface.ips.join(", "),
                interface.mac.clone(),
                origin(&interface, &types),
            ]);
        }
    }
    println!("\n{}", table(&rows));
    let target =
        target.with_context(|| format!("{STATUS} of pod {} has no address for {PING_INTERFACE}", PODS[1]))?;
    println!("{} pings {} over {PING_INTERFACE}:", PODS[0], PODS[1]);
    succeed(&mut kubectl([
        "exec",
        PODS[0],
        "--",
        "ping",
        "-c",
        "3",
        "-w",
        "10",
        "-I",
        PING_INTERFACE,
        &target,
    ])?)
}

/// What the pod's `network-status` says.
fn interfaces(pod: &Pod) -> Result<Vec<Interface>> {
    let name = &pod.metadata.name;
    let text = pod.metadata.annotations.get(STATUS).with_context(|| {
        format!("pod {name} is Ready but has no annotation {STATUS}; see the daemon's log")
    })?;
    serde_json::from_str(text).with_context(|| format!("pod {name}: {STATUS} is not what we publish"))
}

/// In words: which network gave this interface.
fn origin(interface: &Interface, types: &BTreeMap<String, String>) -> String {
    let name = &interface.name;
    match types.get(name) {
        Some(plugin) => format!("network {name}, plugin {plugin}"),
        None if interface.default => format!("the cluster's own network, {name}"),
        None => name.clone(),
    }
}

/// The plugin that a NAD runs: of a list, the first.
fn plugin_type(config: &str) -> String {
    let config: serde_json::Value = serde_json::from_str(config).unwrap_or_default();
    let first = config.get("plugins").and_then(|plugins| plugins.get(0)).unwrap_or(&config);
    first.get("type").and_then(|name| name.as_str()).unwrap_or("unknown").to_owned()
}

/// Columns as wide as their widest cell.
fn table(rows: &[[String; 5]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let line: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Runs a command and reads the JSON that it prints.
fn json<T: for<'a> Deserialize<'a>>(mut command: Command) -> Result<T> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", show(&command)))?;
    if !output.status.success() {
        bail!("{} ended with {}", show(&command), output.status);
    }
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("cannot read what {} printed", show(&command)))
}

/// What one would ask first when the demo fails. It is only shown, so its own failures are too.
fn evidence() {
    for command in [
        kubectl(["get", "pods", "--all-namespaces", "-o", "wide"]),
        kubectl(["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"]),
    ] {
        let shown = command.and_then(|mut command| {
            println!("\n$ {}", show(&command));
            succeed(&mut command)
        });
        if let Err(error) = shown {
            eprintln!("{error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_tells_where_an_address_came_from() {
        let pod: Pod = serde_json::from_value(serde_json::json!({"metadata": {"name": "alpha", "annotations": {STATUS:
            r#"[{"name":"net","interface":"eth0","ips":["10.0.0.2"],"mac":"aa","default":true,"dns":{}},
                {"name":"default/bridge-net","interface":"net1","ips":["10.61.0.2","fd00::2"],"mac":"bb","dns":{}}]"#}}}))
        .unwrap();
        let types = BTreeMap::from([(
            "default/bridge-net".to_owned(),
            plugin_type(r#"{"plugins":[{"type":"bridge"},{"type":"tuning"}]}"#),
        )]);
        let from: Vec<String> = interfaces(&pod).unwrap().iter().map(|one| origin(one, &types)).collect();
        assert_eq!(from, ["the cluster's own network, net", "network default/bridge-net, plugin bridge"]);
    }

    #[test]
    fn columns_line_up() {
        let row = |cells: [&str; 5]| cells.map(str::to_owned);
        let text =
            table(&[row(["POD", "I", "A", "M", "FROM"]), row(["alpha", "net1", "10.61.0.2", "aa", "x"])]);
        assert_eq!(text, "POD    I     A          M   FROM\nalpha  net1  10.61.0.2  aa  x\n");
    }
}
