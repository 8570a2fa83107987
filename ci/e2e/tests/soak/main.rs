//! What is too long for a gate: pods come and go at random while parts of the cluster break, round after round.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on panics")]

mod disturb;

use std::time::{Duration, Instant};

use anyhow::ensure;
use e2e::{
    Cluster,
    cluster::{NODE, eventually},
    invariants::{self, every_pod_has_what_it_asked_for},
    objects::{Namespace, pod},
    sight::runs,
};
use serde_json::json;
use testkit::random::{Random, number};

use disturb::{DISTURBANCES, Other};

/// Rounds where `E2E_ROUNDS` does not say.
const ROUNDS: u64 = 4;
/// Pods that come or go between two disturbances.
const STEPS: usize = 12;
/// Ways to ask, and the one of asking for nothing.
const FORMS: &[Option<&str>] = &[
    None,
    Some("a"),
    Some("a,b"),
    Some("b@data0,a"),
    Some(r#"[{"name":"a","interface":"data1"},{"name":"b"}]"#),
];

#[test]
fn whatever_breaks_no_pod_runs_without_its_networks_and_none_leaves_a_trace() {
    let cluster = Cluster::ready().unwrap();
    let nodes = cluster.nodes().unwrap();
    if nodes.len() < 2 {
        testkit::skip("there is one node only; start the cluster with: cargo xtask cluster up --nodes 2");
        return;
    }
    let rounds = number("E2E_ROUNDS").unwrap_or(ROUNDS);
    println!("{rounds} rounds");
    let mut dice = Random::seeded("E2E_SEED");
    let space = Namespace::new(cluster, "soak").unwrap();
    space.bridge("a", 81).unwrap();
    space.bridge("b", 82).unwrap();
    let (mut created, mut deleted) = (0, 0);
    for round in 0..rounds {
        let started = Instant::now();
        let mut alive: Vec<String> = Vec::new();
        let mut disturbances = DISTURBANCES.to_vec();
        while !disturbances.is_empty() {
            for _ in 0..STEPS {
                if !alive.is_empty() && dice.below(3) == 0 {
                    let gone = alive.swap_remove(dice.below(alive.len()));
                    space.kubectl(&["delete", "pod", &gone, "--wait=false"]).unwrap();
                    deleted += 1;
                } else {
                    let mut pod = pod(&format!("pod-{created}"), *dice.pick(FORMS).unwrap());
                    pod["spec"]["nodeName"] = json!(dice.pick(&nodes).unwrap());
                    space.create(&[pod]).unwrap();
                    alive.push(format!("pod-{created}"));
                    created += 1;
                }
            }
            let (name, disturb) = disturbances.swap_remove(dice.below(disturbances.len()));
            let other = Other(nodes.iter().find(|node| *node != NODE).unwrap());
            disturb(cluster, &other).unwrap_or_else(|error| panic!("{name}: {error:#}"));
            every_pod_has_what_it_asked_for(cluster)
                .unwrap_or_else(|error| panic!("after {name}: {error:#}"));
            println!("round {round}: {name}, {} pods", alive.len());
        }
        cluster.rolled_out().unwrap();
        for pod in &alive {
            eventually(Duration::from_secs(180), || {
                every_pod_has_what_it_asked_for(cluster)?;
                ensure!(runs(cluster, &space.name, pod)?, "{pod} does not run: {:?}", space.events(pod)?);
                Ok(())
            })
            .unwrap();
        }
        invariants::hold(cluster).unwrap_or_else(|broken| panic!("{broken:#}"));
        space.kubectl(&["delete", "pods", "--all", "--timeout=180s"]).unwrap();
        invariants::hold(cluster).unwrap_or_else(|broken| panic!("{broken:#}"));
        println!("round {round}: well after {} s", started.elapsed().as_secs());
    }
    println!(
        "{created} pods created, {deleted} deleted under way, {} disturbances",
        rounds as usize * DISTURBANCES.len()
    );
}
