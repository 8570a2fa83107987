//! The verbs a runtime calls, each readable top-down. GC is in [`crate::gc`].

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use cni::{
    chain::{Attachment, Runner, Watcher},
    env::Request,
    error::{Error, code},
    result::CniResult,
    version,
};

use crate::{
    attach,
    cluster::{Cluster, EventRequest, PodRef, PublishRequest},
    detach,
    error::{self, Fault, Result},
    journal::{Journal, boot_id},
    lock::{GcLock, SandboxLock},
    netconf::{NetConf, StatusPolicy},
    netns, network_status,
    plan::{self, Plan},
    pod::{self, Asks},
    primary,
    record::{self, Phase, Record},
    summary, takeover,
};

/// STATUS is part of kubelet's own status call; it has to be quick even when a delegate is not.
const STATUS_DEADLINE: Duration = Duration::from_millis(800);
/// How long a delegate may take to end after SIGTERM.
const GRACE: Duration = cni::process::TERM_GRACE;

/// ADD: attaches the primary and every network that the pod asks for, or nothing.
///
/// # Errors
/// One line that says what to do; a delegate's failure keeps the delegate's code.
pub fn add(request: &Request, conf: &NetConf, cluster: &dyn Cluster) -> Result<CniResult> {
    let deadline = Instant::now() + conf.add_deadline;
    primary::await_ready(conf)?;
    let outcome = plan::plan(request, conf, cluster)
        .and_then(|plan| attach_all(request, conf, cluster, &plan, deadline));
    // A plain pod's failure is the runtime's to tell: it must not depend on us in any way.
    let plain = pod::asks(request).is_ok_and(|asks| matches!(asks, Asks::For(wish) if wish.is_plain()));
    if let (Err(fault), Some(pod), false) = (&outcome, pod::of(request), plain) {
        tell(cluster, &pod, fault.line());
    }
    outcome
}

/// Attaches under the sandbox's lock; a failure of any step undoes all.
fn attach_all(
    request: &Request,
    conf: &NetConf,
    cluster: &dyn Cluster,
    plan: &Plan,
    deadline: Instant,
) -> Result<CniResult> {
    let lock = SandboxLock::acquire(&conf.run_dir, &request.container_id, deadline)?;
    // A plain pod's only network is collected by the runtime's own list.
    let _no_gc = if plan.beyond_primary { Some(GcLock::shared(&conf.run_dir, deadline)?) } else { None };
    if journals(conf).iter().any(|journal| journal.knows(&request.container_id)) {
        return Err(Fault::new(
            error::ALREADY_ATTACHED,
            "ALREADY_ATTACHED",
            "this sandbox has been attached before; call DEL first",
        ));
    }
    let journal =
        if plan.beyond_primary { Journal::durable(&conf.state_dir) } else { Journal::plain(&conf.run_dir) };
    let mut record = Record {
        sandbox: request.container_id.clone(),
        pod: pod::of(request),
        netns: request.netns.clone().unwrap_or_default(),
        args: args_text(request),
        boot_id: boot_id()
            .map_err(|error| Fault::io("JOURNAL_FAILED", format!("reading the boot id: {error}")))?,
        failing_since: None,
        attachments: Vec::new(),
    };
    let path = plugin_path(request, conf);
    let runner = Runner { path: &path, deadline, grace: GRACE, watcher: &lock };
    attach::attach(&runner, &journal, &mut record, &plan.delegates, &conf.cluster_cidrs)?;
    let outcome =
        publish_and_sync(conf, cluster, plan, &record, &journal).and_then(|()| answer(request, &record));
    outcome.inspect_err(|_| attach::undo(&runner, &journal, &mut record))
}

/// The status of a pod with more than its primary is published before the pod starts; meanwhile its record is synced.
fn publish_and_sync(
    conf: &NetConf,
    cluster: &dyn Cluster,
    plan: &Plan,
    record: &Record,
    journal: &Journal,
) -> Result<()> {
    let sync = || journal.sync(&record.sandbox).map_err(attach::unrecorded);
    let Some(pod) = record.pod.as_ref().filter(|_| plan.beyond_primary) else { return sync() };
    let status = network_status::of(record).map_err(|error| {
        Fault::new(error.code, "RESULT_UNUSABLE", format!("a network's result: {}", error.msg))
    })?;
    let sandbox = record.sandbox.clone();
    let request = PublishRequest { pod: pod.clone(), sandbox, status, summary: summary::of(record) };
    let published = cluster.publish(&request);
    let synced = sync();
    // Awaited in any case: what is still being published must not outlive its undoing.
    let published = published();
    synced?;
    match published {
        // A static pod starts without the API: its mirror comes later, and it may be the API server itself.
        Err(error)
            if conf.status_policy == StatusPolicy::BestEffort
                || plan.is_static && error.code == code::TRY_AGAIN_LATER =>
        {
            log::warn!("the network status of {}/{} comes later: {error}", pod.namespace, pod.name);
            Ok(())
        }
        published => published.map_err(Into::into),
    }
}

/// The primary's result, in the version that the runtime speaks.
fn answer(request: &Request, record: &Record) -> Result<CniResult> {
    let first = record.attachments.first();
    let unusable = |error: Error| {
        Fault::new(error.code, "RESULT_UNUSABLE", format!("the primary's result: {}", error.msg))
    };
    let result = first.map(|first| first.result(&request.cni_version)).transpose().map_err(unusable)?;
    let result =
        result.flatten().ok_or_else(|| Fault::io("NO_RESULT", "the primary network gave no result"))?;
    result.convert(&request.cni_version).map_err(unusable)
}

/// The pod's owner reads events, not logs; a daemon that is away cannot write one, the runtime then does.
fn tell(cluster: &dyn Cluster, pod: &PodRef, message: String) {
    let (kind, reason) = ("Warning".to_owned(), "NetworkFailed".to_owned());
    if let Err(error) = cluster.event(&EventRequest { pod: pod.clone(), kind, reason, message }) {
        log::warn!("event not handed over: {error}");
    }
}

/// DEL: detaches what the journal lists; needs neither API nor daemon.
///
/// # Errors
/// Only what is worth another try; a sandbox nobody knows is detached already.
pub fn del(request: &Request, conf: &NetConf) -> Result<()> {
    detach_all(request, conf).map_err(Fault::without_success_words)
}

fn detach_all(request: &Request, conf: &NetConf) -> Result<()> {
    let deadline = Instant::now() + conf.del_deadline;
    let lock = SandboxLock::acquire(&conf.run_dir, &request.container_id, deadline)?;
    let path = plugin_path(request, conf);
    let runner = Runner { path: &path, deadline, grace: GRACE, watcher: &lock };
    for journal in journals(conf) {
        let Some(mut record) = detach::record_of(&journal, &request.container_id)? else { continue };
        let outcome = detach::detach(&runner, &journal, &mut record);
        // A record that is gone after a failure has been given up.
        return outcome
            .or_else(|fault| if journal.knows(&request.container_id) { Err(fault) } else { Ok(()) });
    }
    for journal in journals(conf) {
        // Nothing was attached by a plugin that was killed while it wrote its first record.
        if let Err(error) = journal.remove(&request.container_id) {
            log::warn!("sandbox {}: {error}", request.container_id);
        }
    }
    let journal = Journal::durable(&conf.state_dir);
    match takeover::adopt(conf, &request.container_id, &request.ifname, &journal)? {
        Some(mut record) => detach::detach(&runner, &journal, &mut record),
        None => del_unrecorded(request, conf, &runner),
    }
}

/// Nothing is known of the sandbox: the primary of now, with the result the runtime kept, is all there is to undo.
fn del_unrecorded(request: &Request, conf: &NetConf, runner: &Runner<'_>) -> Result<()> {
    let config = match primary::load_local(conf) {
        Ok(source) => source.config,
        Err(fault) => {
            log::warn!(
                "sandbox {} is unknown and the primary cannot be asked: {}",
                request.container_id,
                fault.line()
            );
            return Ok(());
        }
    };
    let previous = request.prev_result().unwrap_or_else(|error| {
        log::warn!("DEL without the runtime's {}", error.msg);
        None
    });
    with_attachment(request, |attachment| runner.del(&config, attachment, previous.as_ref()))
}

/// CHECK: asks every delegate that the record lists.
///
/// # Errors
/// The first delegate's error.
pub fn check(request: &Request, conf: &NetConf) -> Result<()> {
    let deadline = Instant::now() + conf.del_deadline;
    let lock = SandboxLock::acquire(&conf.run_dir, &request.container_id, deadline)?;
    let path = plugin_path(request, conf);
    let runner = Runner { path: &path, deadline, grace: GRACE, watcher: &lock };
    for journal in journals(conf) {
        let Some(record) = journal.read(&request.container_id)? else { continue };
        return record.attachments.iter().try_for_each(|attachment| check_one(&runner, &record, attachment));
    }
    let config = primary::load_local(conf)?.config;
    let previous = request
        .prev_result()
        .map_err(|error| Fault::new(error.code, "PREV_RESULT", format!("the runtime's {}", error.msg)))?;
    with_attachment(request, |attachment| runner.check(&config, attachment, previous.as_ref()))
}

fn check_one(runner: &Runner<'_>, record: &Record, attachment: &record::Attachment) -> Result<()> {
    let failed = |error: Error| {
        Fault::new(
            error.code,
            "CHECK_FAILED",
            format!("network {} ({}): {}", attachment.network, attachment.ifname, error.msg),
        )
    };
    if attachment.phase != Phase::Attached {
        return Err(failed(Error::new(code::INTERNAL, "it is not attached; the pod has to be made anew")));
    }
    let config = attachment.config().map_err(failed)?;
    let previous = attachment.result(&config.cni_version).map_err(failed)?;
    if version::at_least(&config.cni_version, "0.4.0") {
        return runner.check(&config, &record.call(attachment), previous.as_ref()).map_err(failed);
    }
    // CHECK came with 0.4.0; of an older network it can be said whether its interface is there.
    let names_it = previous.map(|result| result.typed()).transpose().map_err(failed)?.unwrap_or_default();
    let expected =
        names_it.interfaces.iter().any(|one| one.name == attachment.ifname && !one.sandbox.is_empty());
    let there = netns::has_interface(Path::new(&record.netns), &attachment.ifname).map_err(|error| {
        failed(Error::new(code::UNKNOWN_CONTAINER, format!("entering {}: {error}", record.netns)))
    })?;
    if expected && !there {
        return Err(failed(Error::new(code::INTERNAL, "the pod has lost this interface")));
    }
    Ok(())
}

/// STATUS: the primary's own answer, and its readiness indicator; never the daemon's.
///
/// # Errors
/// Code 50 when the primary's config or indicator is missing, else the primary's own code.
pub fn status(request: &Request, conf: &NetConf) -> Result<()> {
    let unavailable = |fault| Fault { code: code::NOT_AVAILABLE, ..fault };
    primary::ready(conf).map_err(unavailable)?;
    let config = primary::load_local(conf).map_err(unavailable)?.config;
    let path = plugin_path(request, conf);
    let deadline = Instant::now() + STATUS_DEADLINE;
    let runner = Runner { path: &path, deadline, grace: Duration::ZERO, watcher: &Unwatched };
    runner.status(&config).map_err(|error| {
        // A primary that does not answer in time is not available; its own word keeps its code.
        let code = if error.code == code::TRY_AGAIN_LATER { code::NOT_AVAILABLE } else { error.code };
        Fault::new(code, "PRIMARY_STATUS", format!("primary network {}: {}", config.name, error.msg))
    })
}

/// Runs beside no sandbox of its own, so there is nothing to note.
pub(crate) struct Unwatched;

impl Watcher for Unwatched {
    fn started(&self, _pid: i32, _start_time: u64) -> std::result::Result<(), Error> {
        Ok(())
    }

    fn ended(&self, _pid: i32) {}
}

/// Where the record of a sandbox may be.
pub(crate) fn journals(conf: &NetConf) -> [Journal; 2] {
    [Journal::durable(&conf.state_dir), Journal::plain(&conf.run_dir)]
}

/// `binDir` goes before the folders of the runtime.
pub(crate) fn plugin_path(request: &Request, conf: &NetConf) -> Vec<PathBuf> {
    conf.bin_dir.iter().chain(&request.path).cloned().collect()
}

fn with_attachment(
    request: &Request,
    call: impl FnOnce(&Attachment<'_>) -> std::result::Result<(), Error>,
) -> Result<()> {
    let (args, capability_args) = (args_text(request), plan::runtime_config(request)?);
    let attachment = Attachment {
        container_id: &request.container_id,
        netns: request.netns.as_deref(),
        ifname: &request.ifname,
        args: &args,
        capability_args: &capability_args,
    };
    call(&attachment).map_err(|error| Fault::new(error.code, "PRIMARY_FAILED", error.msg))
}

fn args_text(request: &Request) -> String {
    request.args.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(";")
}
