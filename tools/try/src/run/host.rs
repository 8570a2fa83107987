//! The host of a run, in a process of its own: throw-away, or the machine itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context, Result};
use nix::sys::{prctl, signal::Signal};

use super::{
    cluster::Files,
    events::{self, Event, send},
    ip::ip,
    leaks::{self, Snapshot},
    machine,
    pods::{Places, Running, remove_netns},
    reach, record,
    report::{FORMAT_VERSION, Report},
    sandbox,
    task::{PodTask, Task},
    veil::{self, Veil},
};

/// Value of [`sandbox::ROLE`] that makes this binary the host.
pub const ROLE: &str = "host";
/// Everything of a throw-away host, in its own view of `/run`.
pub const BASE: &str = "/run/multus-try";
/// The throw-away host's way to the world, by which plugins without a `master` choose one.
const DEFAULT_LINK: &str = "eth0";

/// Reads the task from standard input, does it, and tells what came of it.
pub fn serve() -> ExitCode {
    let event = match run() {
        Ok(report) => Event::Done(Box::new(report)),
        Err(error) => Event::Failed(format!("{error:#}")),
    };
    match send(&event) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn run() -> Result<Report> {
    prctl::set_pdeathsig(Signal::SIGKILL).context("cannot tie this process to its parent")?;
    let mut line = String::new();
    BufReader::new(std::io::stdin()).read_line(&mut line).context("cannot read the task")?;
    let task: Task = serde_json::from_str(&line).context("cannot read the task")?;
    events::keep_log();
    if task.machine {
        let places = machine::places(&task)?;
        let host = Host::new(&task, places, None)?;
        let report = host.try_all();
        machine::finish(&host.places)?;
        report
    } else {
        let veil = veil::enter()?;
        let places = Places { base: task.base.clone(), run_id: "1".to_owned() };
        ip("link set lo up")?;
        masters(&task)?;
        Host::new(&task, places, Some(veil))?.try_all()
    }
}

struct Host<'a> {
    task: &'a Task,
    places: Places,
    veil: Option<Veil>,
    before: Snapshot,
    begin: Instant,
}

impl<'a> Host<'a> {
    fn new(task: &'a Task, places: Places, veil: Option<Veil>) -> Result<Self> {
        for folder in [places.bin(), places.state(), places.run(), places.undo(), places.netns()] {
            fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        fs::write(places.primary(), sandbox::config(&places.run_id))
            .context("cannot write the primary's config")?;
        plugins(&places, &task.plugin_dirs)?;
        let before = Snapshot::take(&places, veil.as_ref(), &task.data_dirs)?;
        if task.machine {
            machine::note(&places, task, Some(&before))?;
        }
        let bridge = sandbox::bridge(&places.run_id);
        ip(&format!("link add name {bridge} type bridge"))?;
        ip(&format!("link set {bridge} up"))?;
        for address in sandbox::GATEWAYS {
            if !address.contains(':') || Path::new("/proc/sys/net/ipv6").exists() {
                ip(&format!("address add {address} dev {bridge}"))?;
            }
        }
        Ok(Self { task, places, veil, before, begin: Instant::now() })
    }

    fn try_all(&self) -> Result<Report> {
        let lacks = lacking(&self.task.link_kinds)?;
        let mut report = Report {
            format_version: FORMAT_VERSION,
            host: if self.task.machine { "machine" } else { "throw-away" }.to_owned(),
            interfaces: self.interfaces(),
            plugin_dirs: self.task.plugin_dirs.iter().map(|folder| folder.display().to_string()).collect(),
            ..Report::default()
        };
        let mut running = Vec::new();
        for (index, pod) in self.task.pods.iter().enumerate() {
            let reasons = self.reasons(pod, &lacks);
            let mut started = Running::new(&self.places, pod, index + 1)?;
            if reasons.is_empty() {
                self.up(&mut started)?;
            } else {
                started.report.not_tried = reasons;
            }
            running.push(started);
        }
        let attached: Vec<usize> = (0..running.len()).filter(|index| running[*index].attached).collect();
        if attached.len() > 1 {
            send(&Event::Progress("connecting pods".to_owned()))?;
            report.reach = reach::all(&running)?;
            report.reach.retain(|reach| !self.task.isolated.contains(&reach.network));
        }
        for pod in &mut running {
            if pod.report.not_tried.is_empty() {
                send(&Event::Progress(format!("DEL {}", pod.shown())))?;
                pod.del()?;
                let left = pod.left()?.into_iter();
                let leak = |link| leaks::in_pod(&pod.shown(), link);
                report.leaks.extend(left.map(leak));
            }
            remove_netns(&pod.netns)?;
        }
        let after = Snapshot::take(&self.places, self.veil.as_ref(), &self.task.data_dirs)?;
        let own = sandbox::bridge(&self.places.run_id);
        let (leaks, stays) = self.before.compare(&after, &self.task.bridges, &own);
        report.leaks.extend(leaks);
        report.leaks.extend(leaks::of_plugin(&self.places)?);
        report.stays = stays;
        report.pods = running.into_iter().map(|pod| pod.report).collect();
        report.milliseconds = self.begin.elapsed().as_secs_f64() * 1000.0;
        report.verdict = report.judge();
        Ok(report)
    }

    fn up(&self, pod: &mut Running<'_>) -> Result<()> {
        let cluster = Files::new(&self.task.networks);
        send(&Event::Progress(format!("ADD {}", pod.shown())))?;
        pod.add(&cluster)?;
        if pod.attached {
            send(&Event::Progress(format!("CHECK {}", pod.shown())))?;
            pod.check()?;
        }
        Ok(())
    }

    /// Interfaces that networks can use; wires and switches behind them are not worth telling.
    fn interfaces(&self) -> Vec<String> {
        let told =
            |link: &&String| self.task.machine || self.task.masters.contains(link) || *link == DEFAULT_LINK;
        self.before.links().iter().filter(|link| *link != "lo").filter(told).cloned().collect()
    }

    /// Why a pod cannot be tried here.
    fn reasons(&self, pod: &PodTask, lacks: &BTreeMap<String, String>) -> Vec<String> {
        let mut reasons: Vec<String> = pod.obstacle.iter().cloned().collect();
        for network in &pod.networks {
            reasons.extend(
                self.task.obstacles.get(network).into_iter().flatten().map(|why| format!("{network}: {why}")),
            );
            let kinds = self.task.link_kinds.get(network).into_iter().flatten();
            for (kind, said) in kinds.filter_map(|kind| lacks.get_key_value(kind)) {
                reasons.push(format!(
                    "{network}: this kernel makes no links of type {kind} ({said}); load its module, as root: modprobe {kind}"
                ));
            }
        }
        let mut seen = BTreeSet::new();
        reasons.retain(|reason| seen.insert(reason.clone()));
        reasons
    }
}

/// Puts the recorder into `bin` under the name of every plugin of `folders`.
fn plugins(places: &Places, folders: &[PathBuf]) -> Result<()> {
    let own = PathBuf::from(format!("/proc/{}/exe", std::process::id()));
    let link = |name: &std::ffi::OsStr| {
        let at = places.bin().join(name);
        match symlink(&own, &at) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(error).with_context(|| format!("cannot create {}", at.display()))
            }
            _ => Ok(()),
        }
    };
    link(sandbox::TYPE.as_ref())?;
    for folder in folders {
        let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            link(&entry.with_context(|| format!("cannot list {}", folder.display()))?.file_name())?;
        }
    }
    Ok(())
}

/// The interfaces that the networks name: each the end of a wire whose other end is on a bridge of its own, as on a
/// switch that sends back what its port may need (VEPA).
fn masters(task: &Task) -> Result<()> {
    let default = DEFAULT_LINK.to_owned();
    let names: BTreeSet<&String> = task.masters.iter().chain([&default]).collect();
    for (index, name) in names.into_iter().enumerate() {
        if task.bridges.contains(name) {
            ip(&format!("link add name {name} type bridge"))?;
        } else {
            let (wire, switch) = (format!("wire{index}"), format!("switch{index}"));
            ip(&format!("link add name {name} type veth peer name {wire}"))?;
            ip(&format!("link add name {switch} type bridge"))?;
            ip(&format!("link set {wire} master {switch} up"))?;
            ip(&format!("link set {wire} type bridge_slave hairpin on"))?;
            ip(&format!("link set {switch} up"))?;
        }
        ip(&format!("link set {name} up"))?;
    }
    ip(&format!("address add 192.0.2.2/24 dev {DEFAULT_LINK}"))?;
    ip(&format!("route add default via 192.0.2.1 dev {DEFAULT_LINK}")).map(drop)
}

/// Link types that this kernel does not make, with its own words.
fn lacking(wanted: &BTreeMap<String, Vec<String>>) -> Result<BTreeMap<String, String>> {
    let kinds: BTreeSet<&String> = wanted.values().flatten().collect();
    let mut lacks = BTreeMap::new();
    for kind in kinds {
        // In a namespace that ends with the thread, so that nothing has to be taken away again.
        let probe = || -> Result<(), String> {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).map_err(|error| error.to_string())?;
            let said = |error: anyhow::Error| error.to_string();
            ip("link add name below type veth peer name other").map_err(said)?;
            let more = match kind.as_str() {
                "vlan" => "id 1",
                "vrf" => "table 10",
                _ => "",
            };
            let on = if ["macvlan", "ipvlan", "vlan"].contains(&kind.as_str()) { "link below" } else { "" };
            ip(&format!("link add {on} name probe type {kind} {more}")).map(drop).map_err(said)
        };
        let outcome = std::thread::scope(|scope| scope.spawn(probe).join());
        if let Ok(Err(said)) = outcome {
            let words = said.rsplit(": ").next().unwrap_or_default().trim_end_matches('.').to_owned();
            lacks.insert(kind.clone(), words);
        }
    }
    Ok(lacks)
}

/// The environment that recorders need.
pub fn environment(base: &Path, plugin_dirs: &[PathBuf]) -> Result<[(&'static str, std::ffi::OsString); 2]> {
    let dirs = std::env::join_paths(plugin_dirs).context("a plugin folder has a colon in its name")?;
    Ok([(record::CALLS, base.join("calls").into_os_string()), (record::PLUGINS, dirs)])
}
