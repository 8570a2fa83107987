//! The verbs a runtime calls, each readable top-down.

use std::time::{Duration, Instant};

use cni::{
    chain::{Attachment, Runner, Watcher},
    config::NetworkConfig,
    env::Request,
    error::{Error, code},
    process::TERM_GRACE,
    raw,
    result::CniResult,
    version,
};

use serde::Deserialize;

use crate::{
    attach,
    cluster::{Cluster, EventRequest, NetworkRef, PodRef, PublishRequest, ResolveRequest},
    detach,
    error::{self, Fault, Result},
    journal::{Journal, JournalError, Record, boot_id},
    lock::SandboxLock,
    netconf::NetConf,
    network_status,
    pod::{self, Asks},
    primary,
    resolve::{self, Delegate},
    selection,
};

/// STATUS is part of kubelet's own status call; it has to be quick even when a delegate is not.
const STATUS_DEADLINE: Duration = Duration::from_millis(800);

/// ADD: attaches the primary and every network that the pod asks for, or nothing.
///
/// # Errors
/// One line that says what to do; a delegate's failure keeps the delegate's code.
pub fn add(request: &Request, cluster: &dyn Cluster) -> Result<CniResult> {
    let conf = NetConf::parse(&request.config)?;
    let deadline = Instant::now() + conf.add_deadline;
    let pod = pod::of(request);
    let config = primary::load(&conf)?;
    let primary = Delegate {
        network: config.name.clone(),
        config,
        ifname: request.ifname.clone(),
        capability_args: runtime_config(request)?,
        primary: true,
    };
    let asks = pod::asks(request);
    let Some(pod) = pod.filter(|_| asks != Ok(Asks::Nothing)) else {
        return add_plain(request, &conf, primary, deadline);
    };
    let outcome = asks.and_then(|asks| with_networks(request, &conf, cluster, &pod, asks, primary, deadline));
    if let Err(fault) = &outcome {
        tell(cluster, &pod, fault);
    }
    outcome
}

fn add_plain(request: &Request, conf: &NetConf, primary: Delegate, deadline: Instant) -> Result<CniResult> {
    let journal = Journal::plain(&conf.run_dir);
    attach_all(request, conf, &journal, vec![primary], deadline, |_, _| Ok(()))
}

fn with_networks(
    request: &Request,
    conf: &NetConf,
    cluster: &dyn Cluster,
    pod: &PodRef,
    asks: Asks,
    primary: Delegate,
    deadline: Instant,
) -> Result<CniResult> {
    let text = match asks {
        Asks::Networks(text) => text,
        Asks::Nothing => return add_plain(request, conf, primary, deadline),
        Asks::Unknown => match ask_for_annotations(request, cluster, pod)? {
            Asks::Networks(text) => text,
            _ => return add_plain(request, conf, primary, deadline),
        },
    };
    let selections = selection::parse(&text, &pod.namespace)?;
    let wanted: Vec<NetworkRef> = selections.iter().map(|selection| selection.network.clone()).collect();
    let answer = cluster.resolve(&ask(request, pod, wanted, false))?;
    let mut delegates = resolve::secondary(conf, pod, &request.ifname, &selections, &answer.networks)?;
    delegates.insert(0, primary);
    let journal = Journal::durable(&conf.state_dir);
    attach_all(request, conf, &journal, delegates, deadline, |delegates, results| {
        let status = status_text(delegates, results)?;
        cluster.publish(&PublishRequest {
            pod: pod.clone(),
            sandbox: request.container_id.clone(),
            status,
        })?;
        Ok(())
    })
}

fn ask_for_annotations(request: &Request, cluster: &dyn Cluster, pod: &PodRef) -> Result<Asks> {
    let answer = cluster.resolve(&ask(request, pod, Vec::new(), true))?;
    let annotations = answer.annotations.ok_or_else(|| {
        Fault::retry(
            "DAEMON_MISMATCH",
            "the multus daemon did not say the pod's annotations; nothing was attached",
        )
    })?;
    pod::from_annotations(&annotations)
}

fn ask(
    request: &Request,
    pod: &PodRef,
    selections: Vec<NetworkRef>,
    want_annotations: bool,
) -> ResolveRequest {
    ResolveRequest {
        pod: pod.clone(),
        sandbox: request.container_id.clone(),
        selections,
        want_annotations,
        ..ResolveRequest::default()
    }
}

/// Attaches under the sandbox's lock; `finish` is the last step, and its failure undoes everything.
fn attach_all(
    request: &Request,
    conf: &NetConf,
    journal: &Journal,
    delegates: Vec<Delegate>,
    deadline: Instant,
    finish: impl FnOnce(&[Delegate], &[CniResult]) -> Result<()>,
) -> Result<CniResult> {
    let lock = SandboxLock::acquire(&conf.run_dir, &request.container_id, deadline)?;
    for known in [Journal::durable(&conf.state_dir), Journal::plain(&conf.run_dir)] {
        if known.knows(&request.container_id) {
            return Err(Fault::new(
                error::ALREADY_ATTACHED,
                "ALREADY_ATTACHED",
                "this sandbox has been attached before; call DEL first",
            ));
        }
    }
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
    let runner = Runner { path: &request.path, deadline, grace: TERM_GRACE, watcher: &lock };
    let results = attach::attach(&runner, journal, &mut record, &delegates)?;
    let outcome = finish(&delegates, &results).and_then(|()| {
        let first =
            results.first().ok_or_else(|| Fault::io("NO_RESULT", "the primary network gave no result"))?;
        first.convert(&request.cni_version).map_err(|error| {
            Fault::new(error.code, "RESULT_UNUSABLE", format!("the primary's result: {}", error.msg))
        })
    });
    outcome.inspect_err(|_| attach::undo(&runner, journal, &mut record))
}

fn status_text(delegates: &[Delegate], results: &[CniResult]) -> Result<String> {
    let mut entries = Vec::new();
    for (delegate, result) in delegates.iter().zip(results) {
        let unusable = |error: Error| {
            Fault::new(
                error.code,
                "RESULT_UNUSABLE",
                format!("network {}: its result: {}", delegate.network, error.msg),
            )
        };
        let typed = result.typed().map_err(unusable)?;
        entries.extend(network_status::entries(&delegate.network, delegate.primary, &typed));
    }
    network_status::text(&entries).map_err(|error| Fault::io("STATUS_TEXT", error.to_string()))
}

/// The pod's owner reads events, not logs; a daemon that is away cannot write one, the runtime then does.
fn tell(cluster: &dyn Cluster, pod: &PodRef, fault: &Fault) {
    let event = EventRequest {
        pod: pod.clone(),
        kind: "Warning".to_owned(),
        reason: "NetworkFailed".to_owned(),
        message: fault.line(),
    };
    if let Err(error) = cluster.event(&event) {
        log::warn!("event not handed over: {error}");
    }
}

/// DEL: detaches what the journal lists; needs neither API nor daemon.
///
/// # Errors
/// Only what is worth another try; a sandbox nobody knows is detached already.
pub fn del(request: &Request) -> Result<()> {
    let conf = NetConf::parse(&request.config)?;
    let deadline = Instant::now() + conf.del_deadline;
    let lock = SandboxLock::acquire(&conf.run_dir, &request.container_id, deadline)?;
    let runner = Runner { path: &request.path, deadline, grace: TERM_GRACE, watcher: &lock };
    for journal in [Journal::durable(&conf.state_dir), Journal::plain(&conf.run_dir)] {
        match journal.read(&request.container_id) {
            Ok(None) => {}
            Ok(Some(mut record)) => {
                let outcome = detach::detach(&runner, &journal, &mut record);
                // A record that is gone after a failure has been given up.
                return outcome
                    .or_else(|fault| if journal.knows(&request.container_id) { Err(fault) } else { Ok(()) });
            }
            Err(JournalError::Corrupt { path, why }) => {
                log::error!(
                    "{} cannot be read ({why}); it is set aside, and the primary alone is detached",
                    path.display()
                );
                journal
                    .give_up(&request.container_id)
                    .map_err(|error| Fault::io("JOURNAL_FAILED", error.to_string()))?;
            }
            Err(error) => return Err(Fault::io("JOURNAL_FAILED", error.to_string())),
        }
    }
    del_unrecorded(request, &conf, &runner)
}

/// Nothing is known of the sandbox: the primary of now, with the result the runtime kept, is all there is to undo.
fn del_unrecorded(request: &Request, conf: &NetConf, runner: &Runner<'_>) -> Result<()> {
    let config = match primary::load(conf) {
        Ok(config) => config,
        Err(fault) => {
            log::warn!(
                "sandbox {} is unknown and the primary cannot be asked: {}",
                request.container_id,
                fault.line()
            );
            return Ok(());
        }
    };
    let previous = previous_result(request, &config)?;
    with_attachment(request, |attachment| runner.del(&config, attachment, previous.as_ref()))
}

/// CHECK: asks every delegate that the record lists.
///
/// # Errors
/// The first delegate's error.
pub fn check(request: &Request) -> Result<()> {
    let conf = NetConf::parse(&request.config)?;
    let deadline = Instant::now() + conf.del_deadline;
    let lock = SandboxLock::acquire(&conf.run_dir, &request.container_id, deadline)?;
    let runner = Runner { path: &request.path, deadline, grace: TERM_GRACE, watcher: &lock };
    for journal in [Journal::durable(&conf.state_dir), Journal::plain(&conf.run_dir)] {
        let Some(record) = journal
            .read(&request.container_id)
            .map_err(|error| Fault::io("JOURNAL_FAILED", error.to_string()))?
        else {
            continue;
        };
        for attachment in &record.attachments {
            let call = record.call(attachment);
            let checked = attachment.config().and_then(|config| {
                let previous = attachment.result(&config.cni_version)?;
                // CHECK came with 0.4.0; an older network of the pod has nothing to say.
                if version::at_least(&config.cni_version, "0.4.0") {
                    runner.check(&config, &call, previous.as_ref())
                } else {
                    Ok(())
                }
            });
            checked.map_err(|error| {
                Fault::new(
                    error.code,
                    "CHECK_FAILED",
                    format!("network {} ({}): {}", attachment.network, attachment.ifname, error.msg),
                )
            })?;
        }
        return Ok(());
    }
    let config = primary::load(&conf)?;
    let previous = previous_result(request, &config)?;
    with_attachment(request, |attachment| runner.check(&config, attachment, previous.as_ref()))
}

/// STATUS: the primary's own answer, and its readiness indicator; never the daemon's.
///
/// # Errors
/// Code 50 when the primary's config or indicator is missing, else the primary's own code.
pub fn status(request: &Request) -> Result<()> {
    let conf = NetConf::parse(&request.config)?;
    let config = primary::load(&conf).map_err(|fault| Fault { code: code::NOT_AVAILABLE, ..fault })?;
    let deadline = Instant::now() + STATUS_DEADLINE;
    // Nothing is undone by waiting for a plugin that hangs.
    let runner = Runner { path: &request.path, deadline, grace: Duration::ZERO, watcher: &Unwatched };
    runner.status(&config).map_err(|error| {
        Fault::new(error.code, "PRIMARY_STATUS", format!("primary network {}: {}", config.name, error.msg))
    })
}

/// GC: hands the runtime's list of valid attachments to the primary.
///
/// # Errors
/// The primary's own.
pub fn gc(request: &Request) -> Result<()> {
    let conf = NetConf::parse(&request.config)?;
    let config = primary::load(&conf)?;
    let valid = valid_attachments(request)?;
    let deadline = Instant::now() + conf.del_deadline;
    let runner = Runner { path: &request.path, deadline, grace: TERM_GRACE, watcher: &Unwatched };
    runner.gc(&config, &valid).map_err(|error| {
        Fault::new(error.code, "PRIMARY_GC", format!("primary network {}: {}", config.name, error.msg))
    })
}

/// The runtime's list of what lives (CNI 1.1.0, "GC"): container id and interface name.
fn valid_attachments(request: &Request) -> Result<Vec<(String, String)>> {
    #[derive(Deserialize)]
    struct Valid {
        #[serde(rename = "containerID")]
        container_id: String,
        ifname: String,
    }
    let key = "cni.dev/valid-attachments";
    let listed = request
        .config
        .get_as::<Vec<Valid>>(key)
        .map_err(|error| Fault::invalid("GC_LIST", format!("{key}: {}", error.msg)))?;
    let listed = listed.ok_or_else(|| {
        Fault::invalid("GC_LIST", format!("the runtime gave no {key}; nothing was removed"))
    })?;
    Ok(listed.into_iter().map(|valid| (valid.container_id, valid.ifname)).collect())
}

struct Unwatched;

impl Watcher for Unwatched {
    fn started(&self, _pid: i32, _start_time: u64) -> std::result::Result<(), Error> {
        Ok(())
    }

    fn ended(&self, _pid: i32) {}
}

fn with_attachment(
    request: &Request,
    call: impl FnOnce(&Attachment<'_>) -> std::result::Result<(), Error>,
) -> Result<()> {
    let (args, capability_args) = (args_text(request), runtime_config(request)?);
    let attachment = Attachment {
        container_id: &request.container_id,
        netns: request.netns.as_deref(),
        ifname: &request.ifname,
        args: &args,
        capability_args: &capability_args,
    };
    call(&attachment).map_err(|error| Fault::new(error.code, "PRIMARY_FAILED", error.msg))
}

fn previous_result(request: &Request, config: &NetworkConfig) -> Result<Option<CniResult>> {
    let Some(raw) = request.config.get("prevResult").filter(|raw| raw.get() != "null") else {
        return Ok(None);
    };
    let result = CniResult::parse(raw.get().as_bytes(), &request.cni_version)
        .and_then(|result| result.convert(&config.cni_version));
    result.map(Some).map_err(|error| {
        Fault::new(error.code, "PREV_RESULT", format!("the runtime's prevResult: {}", error.msg))
    })
}

fn runtime_config(request: &Request) -> Result<raw::Object> {
    request
        .config
        .get_as::<raw::Object>("runtimeConfig")
        .map(Option::unwrap_or_default)
        .map_err(|error| Fault::invalid("NETCONF_INVALID", format!("runtimeConfig: {}", error.msg)))
}

fn args_text(request: &Request) -> String {
    request.args.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(";")
}
