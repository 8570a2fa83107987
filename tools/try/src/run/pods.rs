//! Throw-away pods: a network namespace each, and the calls that a runtime would make for it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use anyhow::{Context, Result, anyhow};
use cni::{env::Request, error::Error};
use meta::{journal::Journal, netconf::NetConf, verbs};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};
use serde::{Deserialize, Serialize};

use super::{
    cluster::Files,
    ip::{self, ip_in},
    record,
    report::{Attachment, Failure, Pod, Step},
    task::PodTask,
};

/// Where everything of a run lies on its host.
#[derive(Debug, Clone)]
pub struct Places {
    /// The folder of all of it.
    pub base: PathBuf,
    /// What tells the sandboxes of this run from those of another.
    pub run_id: String,
}

impl Places {
    /// Folder of the plugins that note calls.
    pub fn bin(&self) -> PathBuf {
        self.base.join("bin")
    }

    /// File of the noted calls.
    pub fn calls(&self) -> PathBuf {
        self.base.join("calls")
    }

    /// The primary's config.
    pub fn primary(&self) -> PathBuf {
        self.base.join("primary.conflist")
    }

    /// `stateDir` of the plugin.
    pub fn state(&self) -> PathBuf {
        self.base.join("state")
    }

    /// `runDir` of the plugin.
    pub fn run(&self) -> PathBuf {
        self.base.join("run")
    }

    /// Calls that are to be undone if nobody does.
    pub fn undo(&self) -> PathBuf {
        self.base.join("undo")
    }

    /// Network namespaces of pods.
    pub fn netns(&self) -> PathBuf {
        self.base.join("netns")
    }
}

/// A runtime's call: what the plugin finds in its environment and on standard input.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RuntimeCall {
    env: BTreeMap<String, String>,
    stdin: String,
}

impl RuntimeCall {
    /// The call that attaches a pod.
    pub fn new(places: &Places, pod: &PodTask, sandbox: &str, netns: &Path) -> Self {
        let text = |path: PathBuf| path.display().to_string();
        let (namespace, name) = (&pod.namespace, &pod.name);
        let env = [
            ("CNI_COMMAND", "ADD".to_owned()),
            ("CNI_CONTAINERID", sandbox.to_owned()),
            ("CNI_NETNS", netns.display().to_string()),
            ("CNI_IFNAME", "eth0".to_owned()),
            ("CNI_PATH", text(places.bin())),
            (
                "CNI_ARGS",
                format!(
                    "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_INFRA_CONTAINER_ID={sandbox};K8S_POD_UID={sandbox}"
                ),
            ),
        ];
        let config = serde_json::json!({
            "cniVersion": "1.0.0",
            "name": "multus-try",
            "type": "multus-shim",
            "clusterNetwork": text(places.primary()),
            "stateDir": text(places.state()),
            "runDir": text(places.run()),
            "cniDir": text(places.base.join("go")),
            "deviceInfoDir": text(places.base.join("devinfo")),
            "addDeadlineSeconds": 60,
            "delDeadlineSeconds": 60,
            "runtimeConfig": { meta::pod::ANNOTATIONS_CAPABILITY: pod.annotations },
        });
        let env = env.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Self { env, stdin: config.to_string() }
    }

    /// The same call with another verb, as the plugin reads it.
    pub fn request(&self, verb: &str) -> Result<(Request, NetConf), Error> {
        let mut env = self.env.clone();
        env.insert("CNI_COMMAND".to_owned(), verb.to_owned());
        let request = Request::from_env(&env, self.stdin.as_bytes())?;
        let conf = NetConf::parse(&request.config)?;
        Ok((request, conf))
    }
}

/// A pod on its way.
#[derive(Debug)]
pub struct Running<'a> {
    /// What it asks for.
    pub task: &'a PodTask,
    /// Its network namespace.
    pub netns: PathBuf,
    /// Whether ADD succeeded.
    pub attached: bool,
    /// What came of it so far.
    pub report: Pod,
    call: RuntimeCall,
    sandbox: String,
    places: &'a Places,
}

impl<'a> Running<'a> {
    /// Makes the namespace of pod number `number`.
    ///
    /// # Errors
    /// When the kernel does not make one.
    pub fn new(places: &'a Places, task: &'a PodTask, number: usize) -> Result<Self> {
        let netns = places.netns().join(number.to_string());
        new_netns(&netns)?;
        let sandbox = format!("multus-try-{}-{number}", places.run_id);
        let call = RuntimeCall::new(places, task, &sandbox, &netns);
        let (namespace, name, networks) = (task.namespace.clone(), task.name.clone(), task.networks.clone());
        let report = Pod { namespace, name, networks, ..Pod::default() };
        Ok(Self { task, netns, attached: false, report, call, sandbox, places })
    }

    /// `NAMESPACE/NAME`.
    pub fn shown(&self) -> String {
        format!("{}/{}", self.task.namespace, self.task.name)
    }

    /// ADD, and a look at what it made.
    ///
    /// # Errors
    /// When the host itself fails; a network that fails is in the report.
    pub fn add(&mut self, cluster: &Files<'_>) -> Result<()> {
        // Whoever finds this file later knows what to undo.
        fs::write(self.undo_file(), serde_json::to_string(&self.call)?).context("noting what is done")?;
        self.step("ADD", |request, conf| verbs::add(request, conf, cluster).map(drop).map_err(Error::from))?;
        self.attached = self.report.steps.iter().all(|step| step.error.is_none());
        if !self.attached {
            return Ok(());
        }
        self.report.attachments = self.attachments()?;
        self.report.interfaces = ip::interfaces(&self.netns)?;
        self.report.routes = ip::routes(&self.netns)?;
        self.report.status = cluster.status().and_then(|text| serde_json::from_str(&text).ok());
        Ok(())
    }

    /// CHECK.
    ///
    /// # Errors
    /// As [`Running::add`].
    pub fn check(&mut self) -> Result<()> {
        self.step("CHECK", |request, conf| verbs::check(request, conf).map_err(Error::from))
    }

    /// DEL. A runtime calls it after a failed ADD too.
    ///
    /// # Errors
    /// As [`Running::add`].
    pub fn del(&mut self) -> Result<()> {
        self.step("DEL", |request, conf| verbs::del(request, conf).map_err(Error::from))?;
        if self.report.steps.last().is_some_and(|step| step.error.is_none()) {
            fs::remove_file(self.undo_file()).context("noting what is undone")?;
        }
        Ok(())
    }

    /// Interfaces that are in the namespace now, without `lo`.
    ///
    /// # Errors
    /// When it cannot be entered.
    pub fn left(&self) -> Result<Vec<String>> {
        let names = meta::netns::interfaces(&self.netns).context("listing a pod's interfaces")?;
        Ok(names.into_iter().filter(|name| name != "lo").collect())
    }

    fn undo_file(&self) -> PathBuf {
        self.places.undo().join(&self.sandbox)
    }

    fn step(&mut self, verb: &str, run: impl FnOnce(&Request, &NetConf) -> Result<(), Error>) -> Result<()> {
        let (_, skip) = record::calls(&self.places.calls(), usize::MAX)?;
        super::events::take_log();
        let begin = Instant::now();
        let outcome = self.call.request(verb).and_then(|(request, conf)| run(&request, &conf));
        let milliseconds = begin.elapsed().as_secs_f64() * 1000.0;
        let error = outcome.err().map(|error| Failure { code: error.code, message: error.msg });
        let (calls, _) = record::calls(&self.places.calls(), skip)?;
        let log = super::events::take_log();
        self.report.steps.push(Step { verb: verb.to_owned(), milliseconds, error, calls, log });
        Ok(())
    }

    /// What the plugin wrote down of this sandbox.
    fn attachments(&self) -> Result<Vec<Attachment>> {
        for journal in [Journal::durable(&self.places.state()), Journal::plain(&self.places.run())] {
            let Some(record) = journal.read(&self.sandbox).context("reading the journal")? else { continue };
            let plugins = |attachment: &meta::record::Attachment| {
                let config = attachment.config().map_err(|error| anyhow!("reading the journal: {error}"))?;
                config
                    .plugins
                    .iter()
                    .map(|plugin| Ok(cni::config::plugin_type(plugin)?))
                    .collect::<Result<_>>()
            };
            return record
                .attachments
                .iter()
                .map(|attachment| {
                    Ok(Attachment {
                        network: attachment.network.clone(),
                        interface: attachment.ifname.clone(),
                        plugins: plugins(attachment)?,
                    })
                })
                .collect();
        }
        Ok(Vec::new())
    }
}

/// A network namespace with a name, `lo` up.
fn new_netns(path: &Path) -> Result<()> {
    File::create(path).with_context(|| format!("creating {}", path.display()))?;
    let make = || -> Result<()> {
        unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace")?;
        mount(Some("/proc/thread-self/ns/net"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .context("naming a network namespace")
    };
    // A thread that entered a namespace ends there, so the others never see it.
    let made = thread::scope(|scope| scope.spawn(make).join());
    made.unwrap_or_else(|_| Err(anyhow!("the thread that makes a namespace ended early")))?;
    ip_in(path, "link set lo up").map(drop)
}

/// Takes a namespace's name away; with its last name and process it ends.
///
/// # Errors
/// When the file stays.
pub fn remove_netns(path: &Path) -> Result<()> {
    // Not mounted is fine: a kill may have come between file and mount.
    let _ = umount2(path, MntFlags::MNT_DETACH);
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}
