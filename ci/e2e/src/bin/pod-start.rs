//! How long a pod takes to start on the cluster, as the API server tells it: on a node that has the primary network
//! alone, and on one that has ours before it, in turn. Prints one line of JSON for `cargo xtask bench`.
//!
//! The time is that between two events of one watch: the pod exists, and its container runs. The pod names its node, so
//! no scheduler is part of it.

use std::{
    io::BufReader,
    process::{Child, Stdio},
    sync::mpsc::{self, Receiver},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use e2e::{
    Cluster,
    cluster::NAMESPACE,
    objects::{Namespace, pod},
};
use serde_json::{Deserializer, Value, json};

/// Nodes: with us, and with the primary network alone.
const OURS: &str = "node1";
const ALONE: &str = "node2";
const CONFIG: &str = "/etc/cni/net.d/00-multus.conflist";
/// Who starts a pod: how it is called, where it is, what it asks for.
const CASES: [(&str, &str, Option<&str>); 3] =
    [("primary alone", ALONE, None), ("plain pod", OURS, None), ("pod with 2 networks", OURS, Some("a,b"))];
/// Starts of each that warm caches and are not counted.
const WARM_UP: usize = 2;
/// Longest wait for one event.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    let rounds = std::env::args().nth(1).map_or(Ok(50), |text| text.parse()).context("rounds")?;
    let cluster = Cluster::ready()?;
    if !cluster.nodes()?.iter().any(|node| node == ALONE) {
        bail!("there is no {ALONE}; start the cluster with: cargo xtask cluster up --nodes 2");
    }
    let outcome = leave_alone(cluster).and_then(|()| measure(cluster, rounds));
    // What was measured counts, also where this fails.
    let back = cluster.helm("helm3", &[]);
    println!("{}", outcome?);
    back
}

/// Takes our pod and our config off one node, and sees that they stay away.
fn leave_alone(cluster: &Cluster) -> Result<()> {
    let ours = format!(r"nodeSelector.kubernetes\.io/hostname={OURS}");
    cluster.helm("helm3", &["--set", &ours])?;
    let field = format!("--field-selector=spec.nodeName={ALONE}");
    cluster.kubectl(&["wait", "-n", NAMESPACE, "--for=delete", "pod", &field, "--timeout=60s"])?;
    cluster.on(ALONE, &format!("rm {CONFIG}")).map(drop)
}

fn measure(cluster: &Cluster, rounds: usize) -> Result<Value> {
    let space = Namespace::new(cluster, "pod-start")?;
    space.bridge("a", 98)?;
    space.bridge("b", 99)?;
    let watch = Watch::of(cluster, &space)?;
    let mut times = CASES.map(|_| Vec::new());
    for round in 0..WARM_UP + rounds {
        for turn in 0..CASES.len() {
            // Another one first in each round: nobody always follows the same neighbour.
            let place = (turn + round) % CASES.len();
            let (Some((_, node, networks)), Some(times)) = (CASES.get(place), times.get_mut(place)) else {
                continue;
            };
            let name = format!("pod-{round}-{place}");
            let mut object = pod(&name, *networks);
            object["spec"]["nodeName"] = json!(node);
            space.create(&[object])?;
            let made = watch.until(&name, |change| change.kind == "ADDED")?;
            let runs = watch.until(&name, |change| change.runs)?;
            space.kubectl(&["delete", "pod", &name, "--wait=false"])?;
            watch.until(&name, |change| change.kind == "DELETED")?;
            if round >= WARM_UP {
                times.push((runs - made).as_secs_f64() * 1e6);
            }
        }
        eprintln!("pod starts: round {} of {}", round + 1, WARM_UP + rounds);
    }
    cluster.on(ALONE, &format!("test ! -e {CONFIG}")).context("our config came back")?;
    let rows = CASES.into_iter().zip(times);
    Ok(rows.map(|((name, ..), times)| json!({"case": name, "microseconds": times})).collect())
}

/// A change of a pod, as the API server told it.
struct Change {
    at: Instant,
    kind: String,
    pod: String,
    runs: bool,
}

/// All changes of a namespace's pods.
struct Watch {
    kubectl: Child,
    changes: Receiver<Change>,
}

impl Watch {
    fn of(cluster: &Cluster, space: &Namespace<'_>) -> Result<Self> {
        let args = ["get", "pods", "-n", &space.name, "--watch", "--output-watch-events", "-o", "json"];
        let mut kubectl = cluster.kubectl_command(&args).stderr(Stdio::null()).spawn()?;
        let told = BufReader::new(kubectl.stdout.take().context("kubectl has no stdout")?);
        let (sender, changes) = mpsc::channel();
        std::thread::spawn(move || {
            for event in Deserializer::from_reader(told).into_iter::<Value>() {
                let at = Instant::now();
                let Ok(event) = event else { return };
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let object = &event["object"];
                let change = Change {
                    at,
                    kind: text(&event["type"]),
                    pod: text(&object["metadata"]["name"]),
                    runs: object["status"]["containerStatuses"][0]["state"]["running"].is_object(),
                };
                if sender.send(change).is_err() {
                    return;
                }
            }
        });
        Ok(Self { kubectl, changes })
    }

    /// When this happened to the pod.
    fn until(&self, pod: &str, wanted: impl Fn(&Change) -> bool) -> Result<Instant> {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let change =
                self.changes.recv_timeout(left).with_context(|| format!("{pod}: nothing changes"))?;
            if change.pod == pod && wanted(&change) {
                return Ok(change.at);
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It may have ended by itself; then both fail, and nothing is left to do.
        drop(self.kubectl.kill());
        drop(self.kubectl.wait());
    }
}
