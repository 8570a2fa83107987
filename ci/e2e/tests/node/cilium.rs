//! A primary network that behaves as Cilium's agent does: a DaemonSet that writes its config when it has started,
//! maybe late, and in exclusive mode gives every other config of that folder another name.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{Cluster, cluster::eventually};
use serde_json::json;

/// The node's own primary, whose config the agent writes; set aside while the agent is there.
const OWN: &str = "/etc/cni/net.d/10-bridge.conflist";
/// What the agent obeys, and the config that it writes; on the node's disk, so it can be changed while that is off.
pub(crate) const CONTROL: &str = "/var/lib/cni/imitation";

const AGENT: &str = r#"
. /control/agent
sleep "$LATE"
mkdir -p "$(dirname "/net.d/$FILE")"
cp /control/primary.conflist "/net.d/$FILE.tmp"
mv "/net.d/$FILE.tmp" "/net.d/$FILE"
while :; do
  if [ "$EXCLUSIVE" = yes ]; then
    for other in "$(dirname "/net.d/$FILE")"/*.conf "$(dirname "/net.d/$FILE")"/*.conflist; do
      [ -f "$other" ] && [ "$other" != "/net.d/$FILE" ] && mv "$other" "$other.cilium_bak"
    done
  fi
  sleep 1
done"#;

/// How the agent behaves from its next start on.
#[derive(Debug, Clone)]
pub(crate) struct Behaviour {
    /// Seconds that it takes to start.
    pub(crate) late: usize,
    /// Its config, relative to the CNI folder.
    pub(crate) file: &'static str,
    pub(crate) exclusive: bool,
}

/// The agent, running; dropped, the node has its own primary again.
pub(crate) struct Cilium<'a>(&'a Cluster);

impl<'a> Cilium<'a> {
    pub(crate) fn install(cluster: &'a Cluster, behaviour: &Behaviour) -> Result<Self> {
        cluster.on_node(&format!("mkdir -p {CONTROL} && mv {OWN} {CONTROL}/primary.conflist"))?;
        let agent = Self(cluster);
        agent.behave(behaviour)?;
        cluster.apply(&json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "cilium", "namespace": "kube-system"},
            "spec": {
                "selector": {"matchLabels": {"app": "cilium"}},
                "template": {
                    "metadata": {"labels": {"app": "cilium"}},
                    "spec": {
                        "hostNetwork": true, "tolerations": [{"operator": "Exists"}], "terminationGracePeriodSeconds": 0,
                        "nodeSelector": {"kubernetes.io/hostname": e2e::cluster::NODE},
                        "containers": [{
                            "name": "agent", "image": "localhost/multus-rs-test:dev", "imagePullPolicy": "Never",
                            "command": ["sh", "-c", AGENT],
                            "volumeMounts": [
                                {"name": "net-d", "mountPath": "/net.d"}, {"name": "control", "mountPath": "/control"},
                            ],
                        }],
                        "volumes": [
                            {"name": "net-d", "hostPath": {"path": "/etc/cni/net.d"}},
                            {"name": "control", "hostPath": {"path": CONTROL}},
                        ],
                    },
                },
            },
        }))?;
        eventually(Duration::from_secs(60), || {
            cluster.on_node(&format!("test -f /etc/cni/net.d/{}", behaviour.file)).map(drop)
        })?;
        Ok(agent)
    }

    /// Takes effect when the agent starts next.
    pub(crate) fn behave(&self, behaviour: &Behaviour) -> Result<()> {
        let Behaviour { late, file, exclusive } = behaviour;
        let exclusive = if *exclusive { "yes" } else { "no" };
        let text = format!("LATE={late}; FILE={file}; EXCLUSIVE={exclusive}");
        self.0.on_node(&format!("echo '{text}' > {CONTROL}/agent")).map(drop)
    }

    fn remove(&self) -> Result<()> {
        let cluster = self.0;
        cluster.kubectl(&[
            "-n",
            "kube-system",
            "delete",
            "daemonset",
            "cilium",
            "--ignore-not-found",
            "--timeout=60s",
        ])?;
        cluster.kubectl(&[
            "-n",
            "kube-system",
            "wait",
            "--for=delete",
            "pod",
            "-l",
            "app=cilium",
            "--timeout=60s",
        ])?;
        cluster.on_node(&format!("mv {CONTROL}/primary.conflist {OWN}"))?;
        cluster.on_node(&format!(
            "rm -rf {CONTROL} /etc/cni/net.d/cilium /etc/cni/net.d/05-cilium.conflist /etc/cni/net.d/*.cilium_bak"
        ))?;
        let left = cluster.on_node("ls /etc/cni/net.d")?;
        ensure!(
            left.split_whitespace().eq(["00-multus.conflist", "10-bridge.conflist"]),
            "the CNI folder has {left}"
        );
        Ok(())
    }
}

impl Drop for Cilium<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.remove().context("the node's own primary is not back") {
            eprintln!("{error:#}");
        }
    }
}
