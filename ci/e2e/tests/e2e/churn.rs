//! Pods come without pause while the DaemonSet is replaced under them.

use std::sync::atomic::{AtomicBool, Ordering};

use e2e::{
    Cluster,
    cluster::{DAEMONSET, NAMESPACE},
    invariants::every_pod_has_what_it_asked_for,
    objects::Namespace,
};

use crate::invariants_hold;

/// How often the DaemonSet is restarted; the soak sets more.
fn rounds() -> usize {
    std::env::var("E2E_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

#[test]
fn churn_under_a_restarting_daemon_starts_no_pod_without_its_networks() {
    let cluster = Cluster::ready().unwrap();
    let space = Namespace::new(cluster, "churn").unwrap();
    space.bridge("a", 61).unwrap();
    space.bridge("b", 62).unwrap();
    for round in 0..rounds() {
        let done = AtomicBool::new(false);
        let created = std::thread::scope(|scope| {
            let creator = scope.spawn(|| {
                let mut created = Vec::new();
                while !done.load(Ordering::Relaxed) && created.len() < 40 {
                    let name = format!("pod-{round}-{}", created.len());
                    space.pod(&name, Some("a,b")).unwrap();
                    created.push(name);
                }
                created
            });
            let restarted = cluster
                .kubectl(&["--namespace", NAMESPACE, "rollout", "restart", DAEMONSET])
                .and_then(|_| cluster.rolled_out());
            done.store(true, Ordering::Relaxed);
            let created = creator.join().unwrap();
            restarted.unwrap();
            created
        });
        assert!(created.len() > 3, "too few pods to tell: {created:?}");
        for pod in &created {
            every_pod_has_what_it_asked_for(cluster).unwrap();
            space.ready(pod, 120).unwrap();
        }
        every_pod_has_what_it_asked_for(cluster).unwrap();
        println!("round {round}: {} pods through a restart, each with its networks", created.len());
        space.kubectl(&["delete", "pods", "--all", "--timeout=120s"]).unwrap();
    }
    invariants_hold(cluster);
}
