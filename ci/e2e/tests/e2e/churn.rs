//! Pods come without pause while the DaemonSet is replaced under them.

use std::sync::atomic::{AtomicBool, Ordering};

use e2e::{
    Cluster,
    cluster::{DAEMONSET, NAMESPACE},
    invariants::every_pod_has_what_it_asked_for,
    objects::Namespace,
};

use crate::invariants_hold;

/// How often the DaemonSet is restarted; the soak does it again and again.
const ROUNDS: usize = 1;

// Holds: N45, C28, D9, B7, P8
#[test]
fn churn_under_a_restarting_daemon_starts_no_pod_without_its_networks() {
    let cluster = Cluster::ready().unwrap();
    let space = Namespace::new(cluster, "churn").unwrap();
    space.bridge("a", 61).unwrap();
    space.bridge("b", 62).unwrap();
    for round in 0..ROUNDS {
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
            let restart = scope.spawn(|| {
                cluster.kubectl(&["--namespace", NAMESPACE, "rollout", "restart", DAEMONSET])?;
                cluster.rolled_out()
            });
            while !restart.is_finished() {
                every_pod_has_what_it_asked_for(cluster).unwrap();
            }
            done.store(true, Ordering::Relaxed);
            restart.join().unwrap().unwrap();
            creator.join().unwrap()
        });
        assert!(created.len() > 3, "too few pods to tell: {created:?}");
        std::thread::scope(|scope| {
            let ready = scope.spawn(|| space.all_ready(&created, 120));
            while !ready.is_finished() {
                every_pod_has_what_it_asked_for(cluster).unwrap();
            }
            ready.join().unwrap().unwrap();
        });
        every_pod_has_what_it_asked_for(cluster).unwrap();
        println!("round {round}: {} pods through a restart, each with its networks", created.len());
        space.kubectl(&["delete", "pods", "--all", "--timeout=120s"]).unwrap();
    }
    invariants_hold(cluster);
}
