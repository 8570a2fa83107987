//! Ways to break a cluster, and to mend it as an operator or the machine itself would.

use std::time::Duration;

use anyhow::Result;
use e2e::{
    Cluster,
    cluster::{DAEMONSET, NAMESPACE, NODE},
};

/// A node besides [`NODE`].
pub(crate) struct Other<'a>(pub(crate) &'a str);

type Disturb = fn(&Cluster, &Other) -> Result<()>;

/// All of them, with what to call them.
pub(crate) const DISTURBANCES: &[(&str, Disturb)] = &[
    ("the DaemonSet is replaced", replace_daemon_set),
    ("the daemons are killed", kill_daemons),
    ("containerd is killed", kill_containerd),
    ("the kubelet is killed", kill_kubelet),
    ("the API server hangs", hang_api_server),
    ("a node loses power", cut_power),
];

fn replace_daemon_set(cluster: &Cluster, _: &Other) -> Result<()> {
    cluster.kubectl(&["--namespace", NAMESPACE, "rollout", "restart", DAEMONSET]).map(drop)
}

fn kill_daemons(cluster: &Cluster, _: &Other) -> Result<()> {
    let pods = ["--namespace", NAMESPACE, "delete", "pods", "--all", "--force", "--grace-period=0"];
    cluster.kubectl(&pods).map(drop)
}

fn kill_containerd(cluster: &Cluster, _: &Other) -> Result<()> {
    kill_and_start(cluster, "containerd")
}

fn kill_kubelet(cluster: &Cluster, _: &Other) -> Result<()> {
    kill_and_start(cluster, "kubelet")
}

fn kill_and_start(cluster: &Cluster, component: &str) -> Result<()> {
    let component = format!("{NODE}/{component}");
    cluster.xtask(&["cluster", "signal", &component, "KILL"])?;
    cluster.xtask(&["cluster", "start", &component]).map(drop)
}

/// Longer than the plugin tries to publish.
fn hang_api_server(cluster: &Cluster, _: &Other) -> Result<()> {
    cluster.xtask(&["cluster", "signal", "kube-apiserver", "STOP"])?;
    std::thread::sleep(Duration::from_secs(8));
    cluster.xtask(&["cluster", "signal", "kube-apiserver", "CONT"]).map(drop)
}

fn cut_power(cluster: &Cluster, other: &Other) -> Result<()> {
    cluster.xtask(&["cluster", "node", "reboot", other.0]).map(drop)
}
