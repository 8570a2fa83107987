//! The daemon is away: plain pods do not notice, the others wait and lose nothing.

use std::time::{Duration, Instant};

use e2e::{
    Cluster,
    cluster::{DAEMONSET, NAMESPACE, eventually},
    objects::Namespace,
};

use crate::invariants_hold;

/// Keeps the daemon off the nodes until it is dropped.
struct Away<'a>(&'a Cluster);

impl<'a> Away<'a> {
    fn from(cluster: &'a Cluster) -> Self {
        select(cluster, r#"{"no-such-label":"yes"}"#);
        cluster
            .kubectl(&[
                "--namespace",
                NAMESPACE,
                "wait",
                "--for=delete",
                "pod",
                "-l",
                "app.kubernetes.io/name=multus",
                "--timeout=60s",
            ])
            .unwrap();
        Self(cluster)
    }
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        select(self.0, r#"{"no-such-label":null}"#);
    }
}

fn select(cluster: &Cluster, labels: &str) {
    let patch = format!(r#"{{"spec":{{"template":{{"spec":{{"nodeSelector":{labels}}}}}}}}}"#);
    cluster.kubectl(&["--namespace", NAMESPACE, "patch", DAEMONSET, "--type=merge", "-p", &patch]).unwrap();
}

// Holds: B3, P9
#[test]
fn without_the_daemon_plain_pods_start_others_wait_and_deleted_ones_release_all() {
    let cluster = Cluster::ready().unwrap();
    let space = Namespace::new(cluster, "daemon-away").unwrap();
    space.bridge("a", 51).unwrap();
    space.pod("early", Some("a")).unwrap();
    space.ready("early", 60).unwrap();
    let away = Away::from(cluster);

    space.pod("plain", None).unwrap();
    space.ready("plain", 60).unwrap();

    space.pod("asks", Some("a")).unwrap();
    let said = eventually(Duration::from_secs(60), || {
        let events = space.events("asks")?;
        let failed = events.iter().find(|event| event.starts_with("FailedCreatePodSandBox"));
        failed.cloned().ok_or_else(|| anyhow::anyhow!("{events:?}"))
    })
    .unwrap();
    assert!(said.contains("awaits the multus daemon"), "{said}");

    space.delete("early").unwrap();
    eventually(Duration::from_secs(30), || {
        let reserved = cluster.on_node("ls /var/lib/cni/networks/daemon-away-a | grep ^10 || true")?;
        anyhow::ensure!(reserved.is_empty(), "{reserved}");
        Ok(())
    })
    .unwrap();
    let phase = space.kubectl(&["get", "pod", "asks", "-o", "jsonpath={.status.phase}"]).unwrap();
    assert_eq!(phase, "Pending", "a pod that asks for networks started without the daemon");

    drop(away);
    cluster.rolled_out().unwrap();
    let returned = Instant::now();
    space.ready("asks", 60).unwrap();
    let waited = returned.elapsed();
    assert!(waited < Duration::from_secs(20), "it took {} s after the daemon's return", waited.as_secs());
    invariants_hold(cluster);
}
