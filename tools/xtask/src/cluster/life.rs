//! Bringing the whole cluster up and down.

use std::fs::{self, File};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::layout::{CONTROL, Layout, Node};
use super::probe::{self, Steps};
use super::{cgroup, control, net, node, process, tools};

/// Written when `up` has ended well; without it, what is there is the rest of a crash.
const COMPLETE: &str = "complete";

/// Only one command at a time may change the cluster.
fn lock(layout: &Layout) -> Result<File> {
    let path = layout.cache().join("cluster.lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    if file.try_lock().is_err() {
        println!("waiting for another `cargo xtask cluster` to end");
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

fn check_root() -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    bail!("a cluster needs root: it makes network namespaces, mounts and cgroups; run this as root (sudo -E)")
}

/// Starts the cluster, or checks the health of the one that runs.
pub(crate) fn up(layout: &Layout, nodes: u8) -> Result<()> {
    check_root()?;
    let _lock = lock(layout)?;
    if layout.cluster.join(COMPLETE).exists() {
        let existing = layout.nodes()?.len();
        if existing != usize::from(nodes) {
            bail!(
                "a cluster of {existing} node(s) is up, not {nodes}; end it first: `cargo xtask cluster down`"
            );
        }
        if report(layout)? {
            println!("the cluster is up already and well");
            return Ok(());
        }
        bail!("the cluster is up but not well; `cargo xtask cluster down` ends it");
    }
    clear(layout)?;
    tools::ensure(layout)?;
    if let Err(error) = start_all(layout, nodes) {
        // Logs stay, so that the cause can be found.
        clear(layout).context("the cluster did not start, and what was started cannot be removed")?;
        return Err(error.context(format!("the cluster did not start; logs: {}", layout.logs().display())));
    }
    Ok(())
}

fn start_all(layout: &Layout, nodes: u8) -> Result<()> {
    let mut steps = Steps::new();
    let logs = layout.logs();
    if logs.exists() {
        fs::remove_dir_all(&logs).with_context(|| format!("cannot clear {}", logs.display()))?;
    }
    for folder in [&logs, &layout.records()] {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    control::prepare(layout)?;
    net::create_bridge()?;
    let api = control::start_api(layout)?;
    steps.done("certificates, bridge, etcd and API server started");
    let nodes: Vec<Node> = (1..=nodes).map(Node::new).collect();
    nodes.iter().try_for_each(|node| node::boot(layout, node))?;
    steps.done("nodes booted, containerd started");
    control::wait_for_api(layout, &api)?;
    steps.done("API server ready");
    let controllers = control::start_controllers(layout)?;
    nodes.iter().try_for_each(|node| node::join(layout, node))?;
    steps.done("images loaded, kubelet and kube-proxy started");
    nodes.iter().try_for_each(|node| node::wait(layout, node))?;
    steps.done("nodes Ready");
    probe::until("the default service account", Duration::from_secs(30), || {
        controllers.iter().try_for_each(|record| process::check_alive(layout, record))?;
        Ok(control::kubectl(layout, &["get", "serviceaccount", "default"]).is_ok())
    })?;
    fs::write(layout.cluster.join(COMPLETE), "")?;
    steps.done("pods can be made");
    println!("{:6.1} s  cluster up, {} node(s), cgroups {}", steps.total(), nodes.len(), cgroup::versions()?);
    println!("          use it: eval \"$(cargo xtask cluster env)\"    logs: {}", logs.display());
    Ok(())
}

/// Ends everything and removes all traces but logs and caches.
pub(crate) fn down(layout: &Layout) -> Result<()> {
    check_root()?;
    let _lock = lock(layout)?;
    let mut steps = Steps::new();
    let killed = clear(layout)?;
    steps.done(&format!("cluster down, {killed} process(es) ended"));
    Ok(())
}

/// The state folder may be gone while links and processes are there, and the other way round.
fn clear(layout: &Layout) -> Result<usize> {
    // The state cannot be trusted from here on.
    remove_file(&layout.cluster.join(COMPLETE))?;
    let mut groups = layout.nodes()?;
    groups.extend(net::leftovers());
    groups.extend(cgroup::groups()?);
    groups.extend(process::records(layout)?.into_iter().map(|record| record.group));
    groups.retain(|group| group != CONTROL);
    groups.sort();
    groups.dedup();
    let mut killed = 0;
    for group in groups.iter().map(String::as_str).chain([CONTROL]) {
        killed += node::stop(layout, group)?;
    }
    cgroup::remove(None)?;
    net::remove_bridge()?;
    for name in ["nodes", "pki", "etcd", "processes"] {
        let folder = layout.cluster.join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
    }
    remove_file(&layout.kubeconfig())?;
    Ok(killed)
}

fn remove_file(path: &std::path::Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Shows what runs; whether all of it is well.
pub(super) fn status(layout: &Layout) -> Result<bool> {
    if !layout.cluster.join(COMPLETE).exists() {
        println!("the cluster is down; start it with `cargo xtask cluster up`");
        return Ok(false);
    }
    report(layout)
}

fn report(layout: &Layout) -> Result<bool> {
    let mut well = true;
    for record in process::records(layout)? {
        let state = match (record.is_alive(), record.is_stopped()) {
            (false, _) => "DEAD",
            (true, true) => "stopped",
            (true, false) => "runs",
        };
        well &= state == "runs";
        println!("{:<8} {:<24} pid {:<8} {state}", record.group, record.component, record.pid);
    }
    let api = control::is_ready(layout);
    println!("API server: {}", if api { "ready" } else { "NOT ready" });
    for name in layout.nodes()? {
        let ready = api && node::is_ready(layout, &Node::parse(&name)?)?;
        println!("{name}: {}", if ready { "Ready" } else { "NOT Ready" });
        well &= ready;
    }
    Ok(well && api)
}

/// Cuts the power of a node.
pub(super) fn node_stop(layout: &Layout, name: &str) -> Result<()> {
    check_root()?;
    let _lock = lock(layout)?;
    let node = known(layout, name)?;
    let mut steps = Steps::new();
    let killed = node::stop(layout, &node.name)?;
    steps.done(&format!("{name} off, {killed} process(es) ended"));
    Ok(())
}

/// Boots a node that is off.
pub(super) fn node_start(layout: &Layout, name: &str) -> Result<()> {
    check_root()?;
    let _lock = lock(layout)?;
    let node = known(layout, name)?;
    if node::holder(layout, &node).is_ok() {
        bail!("{name} runs already; `cargo xtask cluster node reboot {name}` cuts its power first");
    }
    let mut steps = Steps::new();
    node::stop(layout, name).with_context(|| format!("cannot remove what is left of {name}"))?;
    node::boot(layout, &node)?;
    node::join(layout, &node)?;
    node::wait(layout, &node)?;
    steps.done(&format!("{name} Ready"));
    Ok(())
}

fn known(layout: &Layout, name: &str) -> Result<Node> {
    let node = Node::parse(name)?;
    if layout.node(name).exists() {
        return Ok(node);
    }
    bail!("the cluster has no {name}; `cargo xtask cluster status` shows its nodes")
}
