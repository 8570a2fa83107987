//! One node: its namespaces and folders, containerd, kubelet and kube-proxy.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::layout::{Layout, Node};
use super::process::{self, Record, command_in};
use super::{cgroup, control, image, net, probe};
use crate::command::run;

const HOLDER: &str = "holder";
const CONTAINERD: &str = "containerd";
const KUBELET: &str = "kubelet";
const PROXY: &str = "kube-proxy";
/// Made by the holder as its last step; in the node's own `/run`.
const MOUNTED: &str = "run/node-is-mounted";

const MOUNTS: &str = include_str!("../../../../ci/cluster/config/node-mounts.sh");
const PRIMARY_CNI: &str = include_str!("../../../../ci/cluster/config/10-bridge.conflist");
const CONTAINERD_CONFIG: &str = include_str!("../../../../ci/cluster/config/containerd.toml");
const KUBELET_CONFIG: &str = include_str!("../../../../ci/cluster/config/kubelet.yaml");
const PROXY_CONFIG: &str = include_str!("../../../../ci/cluster/config/kube-proxy.yaml");

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Writes what a machine has on its disk before it is switched on for the first time.
fn install(layout: &Layout, node: &Node) -> Result<()> {
    let files = layout.node_files(&node.name);
    let plugins = files.join("opt/cni/bin");
    fs::create_dir_all(&plugins).with_context(|| format!("cannot create {}", plugins.display()))?;
    for entry in fs::read_dir(layout.tool("cni")).context("cannot list the CNI plugins of the cache")? {
        let entry = entry?;
        fs::copy(entry.path(), plugins.join(entry.file_name()))
            .with_context(|| format!("cannot copy {}", entry.path().display()))?;
    }
    write(
        &files.join("etc/cni/net.d/10-bridge.conflist"),
        &PRIMARY_CNI.replace("{{POD_CIDR}}", &node.pod_cidr()),
    )?;
    let kubernetes = files.join("etc/kubernetes");
    fs::create_dir_all(kubernetes.join("manifests"))?;
    write(&kubernetes.join("resolv.conf"), "")?;
    write(&kubernetes.join("containerd.toml"), CONTAINERD_CONFIG)?;
    control::write_kubeconfig(&kubernetes.join("kubelet.kubeconfig"), &layout.pki(), &node.name)?;
    let config = KUBELET_CONFIG
        .replace("{{PKI}}", &layout.pki().display().to_string())
        .replace("{{CGROUP}}", &cgroup::root_of(&node.name));
    write(&kubernetes.join("kubelet.yaml"), &config)?;
    let kubeconfig = layout.pki().join("kube-proxy.kubeconfig").display().to_string();
    let config = PROXY_CONFIG.replace("{{NODE}}", &node.name).replace("{{KUBECONFIG}}", &kubeconfig);
    write(&kubernetes.join("kube-proxy.yaml"), &config)
}

/// Boots the node up to containerd: what needs no API server. The first boot installs it.
pub(super) fn boot(layout: &Layout, node: &Node) -> Result<()> {
    let folder = layout.node(&node.name);
    if !folder.join("boot_id").exists() {
        install(layout, node)?;
    }
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/uuid").context("cannot make a boot id")?;
    write(&folder.join("boot_id"), &boot_id)?;
    write(&folder.join("mounts.sh"), MOUNTS)?;
    net::create(&node.name, node.address())?;
    cgroup::create(&node.name)?;

    let mut command = command_in(&node.name, None, "unshare")?;
    command.args(["--mount", "--", "sh"]).arg(folder.join("mounts.sh")).arg(&folder);
    let holder = process::start(layout, &node.name, HOLDER, &command)?;
    let mounted = Path::new("/proc").join(holder.pid.to_string()).join("root").join(MOUNTED);
    probe::until(&format!("the mounts of {}", node.name), Duration::from_secs(10), || {
        process::check_alive(layout, &holder)?;
        Ok(mounted.exists())
    })?;
    start_component(layout, node, CONTAINERD).map(drop)
}

/// Starts one component of a booted node; also used to start it again.
pub(super) fn start_component(layout: &Layout, node: &Node, component: &str) -> Result<Record> {
    let mut command = command_in(&node.name, Some(holder(layout, node)?), layout.tool(component))?;
    match component {
        CONTAINERD => {
            command.arg("--config=/etc/kubernetes/containerd.toml");
            // Its shims are looked up beside it.
            command.env("PATH", path_with(layout)?);
        }
        KUBELET => {
            command.args([
                "--config=/etc/kubernetes/kubelet.yaml",
                "--kubeconfig=/etc/kubernetes/kubelet.kubeconfig",
            ]);
            command
                .arg(format!("--hostname-override={}", node.name))
                .arg(format!("--node-ip={}", node.address()));
        }
        PROXY => {
            command.arg("--config=/etc/kubernetes/kube-proxy.yaml");
        }
        other => bail!("a node has no component {other:?}; it has {CONTAINERD}, {KUBELET}, {PROXY}"),
    }
    process::start(layout, &node.name, component, &command)
}

/// `PATH` with the cache's programs in front.
pub(super) fn path_with(layout: &Layout) -> Result<std::ffi::OsString> {
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(layout.bin.clone()).chain(std::env::split_paths(&rest));
    std::env::join_paths(folders).context("the cache folder's name cannot stand in PATH")
}

/// The process that keeps the mount namespace of a running node.
pub(super) fn holder(layout: &Layout, node: &Node) -> Result<i32> {
    let record = process::record(layout, &node.name, HOLDER)?;
    if !record.is_alive() {
        bail!("{0} does not run; start it with `cargo xtask cluster node start {0}`", node.name);
    }
    Ok(record.pid)
}

/// Starts the rest and loads the images that every node has.
pub(super) fn join(layout: &Layout, node: &Node) -> Result<()> {
    let holder = holder(layout, node)?;
    let containerd = process::record(layout, &node.name, CONTAINERD)?;
    let socket = format!("/proc/{holder}/root/run/containerd/containerd.sock");
    probe::until(&format!("containerd of {}", node.name), Duration::from_secs(30), || {
        process::check_alive(layout, &containerd)?;
        Ok(std::os::unix::net::UnixStream::connect(&socket).is_ok())
    })?;
    load(layout, node, &image::base_archive(layout)?)?;
    start_component(layout, node, KUBELET)?;
    start_component(layout, node, PROXY).map(drop)
}

/// Loads a docker-archive into containerd, where the kubelet finds its images.
pub(super) fn load(layout: &Layout, node: &Node, archive: &Path) -> Result<()> {
    let mut command = command_in(&node.name, Some(holder(layout, node)?), layout.tool("ctr"))?;
    command.args(["--namespace=k8s.io", "images", "import"]).arg(archive);
    run(&mut command)
        .map(drop)
        .with_context(|| format!("cannot load {} into {}", archive.display(), node.name))
}

/// Waits until the node of this very boot takes pods.
pub(super) fn wait(layout: &Layout, node: &Node) -> Result<()> {
    let records = process::records(layout)?;
    let own: Vec<&Record> = records.iter().filter(|record| record.group == node.name).collect();
    probe::until(&format!("{} to be Ready", node.name), Duration::from_secs(60), || {
        own.iter().try_for_each(|record| process::check_alive(layout, record))?;
        is_ready(layout, node)
    })
}

/// Whether the node takes pods, said after its last boot.
pub(super) fn is_ready(layout: &Layout, node: &Node) -> Result<bool> {
    let boot_id =
        fs::read_to_string(layout.node(&node.name).join("boot_id")).context("cannot read the boot id")?;
    let fields = "{.status.nodeInfo.bootID} {.status.conditions[?(@.type=='Ready')].status} {.spec.taints}";
    // A node that is not registered yet is an error of kubectl.
    let Ok(said) =
        control::kubectl(layout, &["get", "node", &node.name, "-o", &format!("jsonpath={fields}")])
    else {
        return Ok(false);
    };
    Ok(said.trim() == format!("{} True", boot_id.trim()) && probe::http_ok(node.address(), 10256, "/livez"))
}

/// Cuts the power: every process of the node ends, its namespaces and `/run` are gone, its disk stays.
pub(super) fn stop(layout: &Layout, name: &str) -> Result<usize> {
    let killed = process::kill_group(layout, name)?;
    net::remove(name)?;
    cgroup::remove(Some(name))?;
    Ok(killed)
}

/// A command inside a running node.
pub(super) fn exec(layout: &Layout, node: &Node, command: &[String]) -> Result<Command> {
    let Some((program, arguments)) = command.split_first() else { bail!("no command was given") };
    let mut inside = command_in(&node.name, Some(holder(layout, node)?), program)?;
    inside.args(arguments).env("PATH", path_with(layout)?);
    Ok(inside)
}
