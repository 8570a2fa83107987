//! Reboots in every order: no pod runs without its networks, none stays stuck.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use e2e::{
    Cluster,
    cluster::{NODE, eventually},
    invariants,
    objects::{NETWORKS, Namespace},
};
use serde_json::json;
use testkit::random::{Random, number};

use crate::cilium::{Behaviour, CONTROL, Cilium};

const SPACE: &str = "reboot";
/// Of a DaemonSet, a Deployment of two, and a static pod.
const PODS: usize = 4;
const STATIC: &str = "/etc/kubernetes/manifests/reboot-static.json";

/// How often the node is rebooted; the soak sets more.
fn rounds() -> usize {
    number("E2E_REBOOTS").map_or(5, |given| given as usize)
}

fn pod_template() -> serde_json::Value {
    json!({
        "metadata": {"labels": {"app": "x"}, "annotations": {NETWORKS: format!("{SPACE}/a,{SPACE}/b")}},
        "spec": {
            "terminationGracePeriodSeconds": 0, "tolerations": [{"operator": "Exists"}],
            "nodeSelector": {"kubernetes.io/hostname": NODE},
            "containers": [{
                "name": "main", "image": "localhost/multus-rs-test:dev", "imagePullPolicy": "Never",
                "command": ["sleep", "infinity"],
            }],
        },
    })
}

fn create_workloads(cluster: &Cluster) -> Result<()> {
    for (kind, extra) in [("DaemonSet", json!({})), ("Deployment", json!({"replicas": 2}))] {
        let mut template = pod_template();
        template["metadata"]["labels"]["app"] = kind.into();
        let mut spec = json!({"selector": {"matchLabels": {"app": kind}}, "template": template});
        for (key, value) in extra.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        let name = kind.to_lowercase();
        cluster.apply(&json!({
            "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": SPACE}, "spec": spec,
        }))?;
    }
    let mut fixed = pod_template();
    fixed["apiVersion"] = "v1".into();
    fixed["kind"] = "Pod".into();
    fixed["metadata"]["name"] = "static".into();
    fixed["metadata"]["namespace"] = SPACE.into();
    cluster.on_node(&format!("mkdir -p /etc/kubernetes/manifests; echo '{fixed}' > {STATIC}"))?;
    Ok(())
}

/// Ids of running containers of the workloads, each with how many of the two networks it has; as the node sees it.
fn seen(cluster: &Cluster) -> Result<Vec<(String, usize)>> {
    let look = format!(
        r#"ids=" $(ctr -n k8s.io containers list -q 'labels."io.kubernetes.pod.namespace"=={SPACE},labels."io.cri-containerd.kind"==container' | tr '\n' ' ') "
        ctr -n k8s.io tasks list | while read -r id pid status; do
          case "$ids" in *" $id "*) ;; *) continue ;; esac
          [ "$status" = RUNNING ] || continue
          count=$(nsenter --net="/proc/$pid/ns/net" ip -o link 2>/dev/null | grep -c ': net[12]@')
          kill -0 "$pid" 2>/dev/null && echo "$id $count"
        done; true"#
    );
    let text = cluster.on_node(&look)?;
    let pair =
        |line: &str| line.split_once(' ').map(|(id, count)| (id.to_owned(), count.parse().unwrap_or(0)));
    Ok(text.lines().filter_map(pair).collect())
}

/// Every pod of the workloads runs, with both networks.
fn whole(cluster: &Cluster) -> Result<()> {
    let seen = seen(cluster)?;
    ensure!(seen.len() == PODS, "{} of {PODS} run: {seen:?}", seen.len());
    ensure!(seen.iter().all(|(_, count)| *count == 2), "without its networks: {seen:?}");
    Ok(())
}

/// The node's disk, while it is off.
fn disk() -> Result<PathBuf> {
    let cache = std::env::var_os("MULTUS_CACHE").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/multus-rs"));
    let cache = cache.or_else(home).context("neither MULTUS_CACHE nor HOME is set")?;
    Ok(cache.join("cluster/nodes").join(NODE).join("fs"))
}

struct Round {
    behaviour: Behaviour,
    /// The primary's config is not on the disk when the node boots.
    primary_lost: bool,
    /// Nor is ours: as on a node whose `/etc/cni` is made anew at each boot.
    ours_lost: bool,
    /// Seconds before our pod's first own container starts.
    ours_late: usize,
    /// Killed and started again once the node is up, after so many seconds each.
    killed: Vec<(&'static str, usize)>,
}

impl Round {
    /// Every third has the primary beside us; of the others those with odd numbers are exclusive. The rest is
    /// drawn.
    fn draw(number: usize, random: &mut Random) -> Self {
        let folder = !number.is_multiple_of(3);
        let behaviour = Behaviour {
            late: random.below(8),
            file: if folder { "cilium/05-cilium.conflist" } else { "05-cilium.conflist" },
            // In exclusive mode and beside us it would take our config, which is the test of another place.
            exclusive: folder && !number.is_multiple_of(2),
        };
        let mut killed = Vec::new();
        for component in ["containerd", "kubelet"] {
            if random.chance() {
                killed.push((component, random.below(6)));
            }
        }
        if random.chance() {
            killed.reverse();
        }
        Self {
            behaviour,
            primary_lost: random.chance(),
            // With the primary beside us and ours gone nothing could stop the runtime from using the primary alone.
            ours_lost: folder && random.chance(),
            ours_late: random.below(8),
            killed,
        }
    }

    fn told(&self) -> String {
        let Behaviour { late, file, exclusive } = &self.behaviour;
        format!(
            "primary {file}, {late} s late, exclusive {exclusive}, lost {}; ours {} s late, lost {}; killed {:?}",
            self.primary_lost, self.ours_late, self.ours_lost, self.killed
        )
    }
}

fn install(cluster: &Cluster, file: &str) -> Result<()> {
    let wait = r#"extraInitContainers=[{"name":"late","image":"localhost/multus-rs-test:dev","imagePullPolicy":"Never","command":["sh","-c","sleep $(cat /control/ours-late || echo 0)"],"volumeMounts":[{"name":"control","mountPath":"/control"}]}]"#;
    let volume = format!(r#"extraVolumes=[{{"name":"control","hostPath":{{"path":"{CONTROL}"}}}}]"#);
    let primary = format!("multus.primaryCniConfigFile={file}");
    // The imitated primary is on one node; another would await it for ever.
    let here = format!(r"nodeSelector.kubernetes\.io/hostname={NODE}");
    cluster.helm("helm3", &["--set-json", wait, "--set-json", &volume, "--set", &primary, "--set", &here])
}

fn reboot(cluster: &Cluster, cilium: &Cilium, round: &Round) -> Result<()> {
    cilium.behave(&round.behaviour)?;
    cluster.on_node(&format!("echo {} > {CONTROL}/ours-late", round.ours_late))?;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        cluster.xtask(&["cluster", "node", "stop", NODE])?;
        let folder = disk()?.join("etc/cni/net.d");
        if round.primary_lost {
            std::fs::remove_file(folder.join(round.behaviour.file))?;
        }
        if round.ours_lost {
            std::fs::remove_file(folder.join("00-multus.conflist"))?;
        }
        // From the first moment on, without pause: whatever runs has its networks.
        let watcher = scope.spawn(|| {
            let mut looks = 0;
            while !over.load(Ordering::Relaxed) {
                // Before the node and its runtime are there, there is nothing to see.
                let seen = seen(cluster).unwrap_or_default();
                looks += usize::from(!seen.is_empty());
                if let Some((id, count)) = seen.iter().find(|(_, count)| *count != 2) {
                    bail!("container {id} runs with {count} of its 2 networks");
                }
                std::thread::sleep(Duration::from_millis(200));
            }
            Ok(looks)
        });
        let outcome = start_and_settle(cluster, round);
        over.store(true, Ordering::Relaxed);
        let looks = watcher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        outcome?;
        ensure!(looks > 0, "nobody looked");
        Ok(())
    })
}

fn start_and_settle(cluster: &Cluster, round: &Round) -> Result<()> {
    cluster.xtask(&["cluster", "node", "start", NODE])?;
    for (component, after) in &round.killed {
        std::thread::sleep(Duration::from_secs(*after as u64));
        let component = format!("{NODE}/{component}");
        cluster.xtask(&["cluster", "signal", &component, "KILL"])?;
        eventually(Duration::from_secs(10), || cluster.xtask(&["cluster", "start", &component]).map(drop))?;
    }
    eventually(Duration::from_secs(180), || whole(cluster).inspect_err(|_| start_ended_kubelet(cluster)))?;
    cluster.rolled_out()
}

/// As an init system does: a kubelet that starts while containerd is away ends by itself.
fn start_ended_kubelet(cluster: &Cluster) {
    match cluster.xtask(&["cluster", "start", &format!("{NODE}/kubelet")]) {
        Ok(_) => println!("the kubelet had ended"),
        Err(error) if error.to_string().contains("runs already") => {}
        Err(error) => println!("{error:#}"),
    }
}

// Holds: FB14
#[test]
fn after_every_reboot_each_pod_has_its_networks_and_none_is_stuck() {
    let cluster = Cluster::ready().unwrap();
    let space = Namespace::new(cluster, SPACE).unwrap();
    space.bridge("a", 71).unwrap();
    space.bridge("b", 72).unwrap();
    let mut random = Random::seeded("E2E_SEED");
    let first = Behaviour { late: 0, file: "cilium/05-cilium.conflist", exclusive: false };
    let cilium = Cilium::install(cluster, &first).unwrap();
    let mut file = first.file;
    install(cluster, file).unwrap();
    create_workloads(cluster).unwrap();
    eventually(Duration::from_secs(120), || whole(cluster)).unwrap();
    for number in 1..=rounds() {
        let round = Round::draw(number, &mut random);
        println!("reboot {number}: {}", round.told());
        if round.behaviour.file != file {
            move_primary(cluster, &cilium, &round.behaviour, file).unwrap();
            file = round.behaviour.file;
        }
        let started = Instant::now();
        if let Err(broken) = reboot(cluster, &cilium, &round) {
            let log = cluster.kubectl(&["-n", "multus-system", "logs", "daemonset/multus", "-c", "config"]);
            panic!("reboot {number}: {broken:#}\n{}", log.unwrap_or_default());
        }
        println!("reboot {number}: whole after {:.0} s", started.elapsed().as_secs_f64());
    }
    cluster.on_node(&format!("rm -f {STATIC}")).unwrap();
    drop(space);
    // Addresses of before the reboots are free as well.
    eventually(Duration::from_secs(60), || invariants::nothing_outlives_its_sandbox(cluster)).unwrap();
    drop(cilium);
    cluster.helm("helm3", &[]).unwrap();
}

/// The primary's config moves from one place to the other, and our chart is told.
fn move_primary(cluster: &Cluster, cilium: &Cilium, to: &Behaviour, from: &str) -> Result<()> {
    cilium.behave(to)?;
    cluster.kubectl(&["-n", "kube-system", "delete", "pod", "-l", "app=cilium", "--timeout=60s"])?;
    eventually(Duration::from_secs(60), || {
        cluster.on_node(&format!("test -f /etc/cni/net.d/{}", to.file)).map(drop)
    })?;
    install(cluster, to.file)?;
    cluster.on_node(&format!("rm -f /etc/cni/net.d/{from}")).map(drop)
}
