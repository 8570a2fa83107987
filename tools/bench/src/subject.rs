//! What is compared: the delegates alone, this project's plugin, and Go Multus where its binaries are given.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use conformance::{api::Process, pod::ANNOTATIONS_CAPABILITY};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    call::Call,
    world::{FEW, NETWORKS, NODE, Pod, REAL, World},
};

/// Version of every config.
const VERSION: &str = "1.0.0";
/// How long a daemon may take to serve.
const START: Duration = Duration::from_secs(60);

/// Who attaches a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// The delegates, called by the runtime itself.
    Bare,
    /// `multus-shim` with `multus-daemon`.
    Ours,
    /// Go Multus with its daemon.
    PeerThick,
    /// Go Multus alone.
    PeerThin,
}

impl Kind {
    /// For people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Kind::Bare => "bare delegates",
            Kind::Ours => "this project",
            Kind::PeerThick => "Go Multus thick",
            Kind::PeerThin => "Go Multus thin",
        }
    }

    /// The namespace of its pods and networks.
    pub(crate) fn namespace(self) -> &'static str {
        match self {
            Kind::Bare => "bare",
            Kind::Ours => "ours",
            Kind::PeerThick => "thick",
            Kind::PeerThin => "thin",
        }
    }
}

/// The programs.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) shim: PathBuf,
    pub(crate) daemon: PathBuf,
    pub(crate) delegate: PathBuf,
    /// Folder of the reference plugins.
    pub(crate) reference: PathBuf,
    pub(crate) peer: Option<PathBuf>,
}

impl Programs {
    /// Everybody that can be compared, the delegates alone first.
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        let mut kinds = vec![Kind::Bare, Kind::Ours];
        if self.peer.is_some() {
            kinds.extend([Kind::PeerThick, Kind::PeerThin]);
        }
        kinds
    }

    fn of_peer(&self, name: &str) -> Result<PathBuf> {
        let file = self.peer.as_ref().context("no folder of the peer")?.join(name);
        if !file.is_file() {
            bail!(
                "{} is missing; --peer wants multus, multus-shim and multus-daemon of Go Multus",
                file.display()
            );
        }
        Ok(file)
    }
}

/// Somebody who attaches pods of one world.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) kind: Kind,
    binary: PathBuf,
    /// What its config has beside the version and the name.
    keys: Value,
    bin: PathBuf,
    netns: PathBuf,
    /// Networks with real plugins, which a runtime without us would have to know.
    real: BTreeMap<String, Value>,
    /// Where its processes complain.
    pub(crate) log: PathBuf,
    /// Its daemon, if it has one.
    pub(crate) daemon: Option<Daemon>,
}

/// A running daemon.
#[derive(Debug)]
pub(crate) struct Daemon {
    process: Process,
    pub(crate) socket: PathBuf,
}

impl Subject {
    /// Prepares the folders and starts the daemon. Its namespace must exist.
    pub(crate) fn start(kind: Kind, programs: &Programs, world: &World) -> Result<Self> {
        let folder = world.subfolder(kind.namespace())?;
        let bin = world.subfolder("bin")?;
        place(&programs.delegate, &bin.join("noop"))?;
        for name in ["macvlan", "host-local"] {
            place(&programs.reference.join(name), &bin.join(name))?;
        }
        let cni = folder.join("net.d");
        fs::create_dir_all(&cni)?;
        let primary = cni.join("10-primary.conflist");
        let config = json!({"cniVersion": VERSION, "name": "cluster", "plugins": [{"type": "noop"}]});
        fs::write(&primary, config.to_string())?;
        let mut subject = Self {
            kind,
            binary: programs.delegate.clone(),
            keys: json!({}),
            bin,
            netns: world.netns.path().to_owned(),
            real: (0..FEW).map(|number| (format!("{REAL}-{number}"), world.real_config(number))).collect(),
            log: folder.join("calls.log"),
            daemon: None,
        };
        match kind {
            Kind::Bare => {}
            Kind::Ours => subject.ours(programs, world, &folder, &primary)?,
            Kind::PeerThick => subject.peer_thick(programs, world, &folder, &primary)?,
            Kind::PeerThin => {
                subject.binary = programs.of_peer("multus")?;
                subject.keys = json!({"type": "multus", "kubeconfig": world.api.kubeconfig(),
                    "clusterNetwork": primary, "binDir": subject.bin, "cniDir": folder.join("cache")});
            }
        }
        Ok(subject)
    }

    fn ours(&mut self, programs: &Programs, world: &World, folder: &Path, primary: &Path) -> Result<()> {
        let (state, run) = (folder.join("state"), own_run(world, "multus-rs")?);
        fs::create_dir_all(state.join("journal"))?;
        self.binary.clone_from(&programs.shim);
        self.keys = json!({"type": "multus-shim", "clusterNetwork": primary, "stateDir": state, "runDir": run,
            "capabilities": {ANNOTATIONS_CAPABILITY: true}});
        let socket = run.join("daemon/multus.sock");
        let args = [
            ("--socket", socket.clone()),
            ("--journal-dir", state.join("journal")),
            ("--plain-dir", run.join("plain")),
            ("--kubeconfig", world.api.kubeconfig()),
            ("--node-name", NODE.into()),
        ];
        let args: Vec<String> =
            args.iter().flat_map(|(key, value)| [(*key).to_owned(), value.display().to_string()]).collect();
        self.daemon = Some(Daemon::start(&programs.daemon, &args, &[], socket, &folder.join("daemon.log"))?);
        Ok(())
    }

    /// As its own manifest sets it up, but with little logging and without chroot, which both only cost it time.
    fn peer_thick(
        &mut self,
        programs: &Programs,
        world: &World,
        folder: &Path,
        primary: &Path,
    ) -> Result<()> {
        let run = own_run(world, "multus")?;
        self.binary = programs.of_peer("multus-shim")?;
        self.keys = json!({"type": "multus-shim", "clusterNetwork": primary, "daemonSocketDir": run,
            "binDir": self.bin, "cniDir": folder.join("cache"), "logLevel": "error"});
        // Its daemon knows a service account only.
        let account = Path::new("/run/secrets/kubernetes.io/serviceaccount");
        fs::create_dir_all(account)?;
        fs::write(account.join("token"), world.api.token())?;
        fs::copy(world.api.authority(), account.join("ca.crt"))?;
        let config = json!({"cniVersion": VERSION, "chrootDir": "", "logLevel": "error", "logToStderr": true,
            "cniConfigDir": folder.join("net.d"), "multusAutoconfigDir": folder.join("net.d"),
            "multusConfigFile": "auto", "socketDir": run, "cniDir": folder.join("cache"), "binDir": self.bin});
        let file = folder.join("daemon-config.json");
        fs::write(&file, config.to_string())?;
        let env = [
            ("KUBERNETES_SERVICE_HOST", "127.0.0.1".to_owned()),
            ("KUBERNETES_SERVICE_PORT", world.api.port().to_string()),
            ("MULTUS_NODE_NAME", NODE.to_owned()),
        ];
        let args = ["-config".to_owned(), file.display().to_string()];
        let program = programs.of_peer("multus-daemon")?;
        self.daemon =
            Some(Daemon::start(&program, &args, &env, run.join("multus.sock"), &folder.join("daemon.log"))?);
        Ok(())
    }

    /// The calls that a runtime makes for this verb of a pod.
    pub(crate) fn calls(&self, verb: &str, pod: &Pod) -> Vec<Call> {
        if self.kind != Kind::Bare {
            return vec![self.call(verb, pod, "eth0", self.config(verb, pod))];
        }
        let one = |(position, name): (usize, &str)| {
            let ifname = if position == 0 { "eth0".to_owned() } else { format!("net{position}") };
            let noop = || json!({"cniVersion": VERSION, "name": name, "type": "noop"});
            let mut config = self.real.get(name).cloned().unwrap_or_else(noop);
            if verb == "DEL" {
                config["prevResult"] = self.result(&ifname);
            }
            let binary = self.bin.join(config["type"].as_str().unwrap_or_default());
            Call { binary, ..self.call(verb, pod, &ifname, config) }
        };
        let names = std::iter::once("cluster").chain(pod.networks.iter().map(String::as_str));
        let mut calls: Vec<Call> = names.enumerate().map(one).collect();
        if verb == "DEL" {
            calls.reverse();
        }
        calls
    }

    fn call(&self, verb: &str, pod: &Pod, ifname: &str, config: Value) -> Call {
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
            pod.namespace,
            pod.name,
            sandbox(pod),
            pod.uid
        );
        let env = vec![
            ("CNI_COMMAND", verb.to_owned()),
            ("CNI_CONTAINERID", sandbox(pod)),
            ("CNI_NETNS", self.netns.display().to_string()),
            ("CNI_IFNAME", ifname.to_owned()),
            ("CNI_ARGS", args),
            ("CNI_PATH", self.bin.display().to_string()),
        ];
        Call { binary: self.binary.clone(), env, stdin: config.to_string() }
    }

    fn config(&self, verb: &str, pod: &Pod) -> Value {
        let mut config = self.keys.clone();
        config["cniVersion"] = VERSION.into();
        config["name"] = "cluster".into();
        if self.kind == Kind::Ours {
            let annotations = pod.request().map_or(json!({}), |request| json!({ NETWORKS: request }));
            config["runtimeConfig"] = json!({ ANNOTATIONS_CAPABILITY: annotations });
        }
        if verb == "DEL" {
            config["prevResult"] = self.result("eth0");
        }
        config
    }

    fn result(&self, ifname: &str) -> Value {
        json!({"cniVersion": VERSION, "interfaces": [{"name": ifname, "sandbox": self.netns}],
            "ips": [{"address": "10.99.0.2/24", "interface": 0}], "dns": {}})
    }
}

impl Daemon {
    fn start(
        program: &Path,
        args: &[String],
        env: &[(&str, String)],
        socket: PathBuf,
        log: &Path,
    ) -> Result<Self> {
        let mut process = Process::start(program, args, env, log)?;
        let until = Instant::now() + START;
        while UnixStream::connect(&socket).is_err() {
            process.check(log)?;
            if Instant::now() > until {
                bail!("nothing answers on {} after {} s", socket.display(), START.as_secs());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(Self { process, socket })
    }

    /// Its `VmHWM` begins anew (proc(5), `clear_refs`).
    pub(crate) fn forget_peak(&self) -> Result<()> {
        fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5").map_err(Into::into)
    }

    /// A line of `/proc/PID/status` that is in kB.
    pub(crate) fn memory(&self, key: &str) -> Result<u64> {
        let file = format!("/proc/{}/status", self.process.id());
        let text = fs::read_to_string(&file)?;
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        number.with_context(|| format!("{file} has no {key}"))
    }
}

fn sandbox(pod: &Pod) -> String {
    format!("{}-{}", pod.namespace, pod.name)
}

/// A folder below `/run` of its own, for each world another.
fn own_run(world: &World, name: &str) -> Result<PathBuf> {
    let last = world.folder.file_name().unwrap_or_default();
    let run = Path::new("/run").join(last).join(name);
    fs::create_dir_all(&run)?;
    Ok(run)
}

fn place(from: &Path, to: &Path) -> Result<()> {
    if !to.exists() {
        fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(())
}
