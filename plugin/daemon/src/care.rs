//! What the daemon does for its node besides answering: it takes the startup taint off once networks can be served,
//! and it finds pods that run without networks they ask for.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    time::Duration,
};

use kubernetes::{Client, LocalPod, Readiness};
use meta::{
    cluster::EventRequest,
    journal::Journal,
    pod,
    record::{Phase, Record},
};
use serde::Deserialize;
use tokio::time::{MissedTickBehavior, interval};

/// On a pod that lacks networks, where labels were asked for.
const LABEL: &str = "multus/networks";
const LACKING: &str = "missing";
/// Nobody waits for a taint longer than for a network.
const TAINT_EVERY: Duration = Duration::from_secs(1);
/// A pod counts as lacking only in two looks in a row: the API and the journal are not read in one moment.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// What is done about a pod that lacks networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Repair {
    /// Nothing is looked for.
    None,
    /// An event on the pod.
    Report,
    /// An event, and the label `multus/networks=missing` as long as it is so.
    Label,
    /// The pod is deleted, so that its owner makes a new one; a static pod only gets the event.
    Delete,
}

/// What config told last.
#[derive(Deserialize)]
struct ConfigState {
    ready: bool,
}

/// Takes the taint off as soon as config and daemon are ready, and again whenever it comes back.
pub(crate) async fn keep_untainted(client: Client, key: String, config_state: PathBuf) {
    let mut tick = interval(TAINT_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // A node gets the taint when it registers, which may be again; looking each second for ever is too much.
    let mut rests = 0_u32;
    let mut said = String::new();
    loop {
        tick.tick().await;
        if rests > 0 {
            rests -= 1;
            continue;
        }
        if client.readiness() != Readiness::Ready || !config_ready(&config_state).await {
            continue;
        }
        match client.remove_taint(&key).await {
            Ok(removed) => {
                if removed {
                    log::info!("networks can be served: took the taint {key} off this node");
                }
                rests = 10;
            }
            Err(error) if error.message != said => {
                log::error!("cannot take the taint {key} off: {}", error.message);
                said = error.message;
            }
            Err(_) => {}
        }
    }
}

async fn config_ready(path: &PathBuf) -> bool {
    let text = tokio::fs::read(path).await.unwrap_or_default();
    serde_json::from_slice::<ConfigState>(&text).is_ok_and(|state| state.ready)
}

/// Looks for pods that lack networks, and does about them what was asked for.
pub(crate) async fn repair(client: Client, journal: Journal, repair: Repair) {
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut suspects = BTreeSet::new();
    let mut told = BTreeSet::new();
    let mut said = String::new();
    loop {
        tick.tick().await;
        if client.readiness() != Readiness::Ready {
            continue;
        }
        match look(&client, &journal, repair, &mut suspects, &mut told).await {
            Ok(()) => said.clear(),
            Err(error) if error != said => {
                log::warn!("cannot look for pods without their networks: {error}");
                said = error;
            }
            Err(_) => {}
        }
    }
}

async fn look(
    client: &Client,
    journal: &Journal,
    repair: Repair,
    suspects: &mut BTreeSet<String>,
    told: &mut BTreeSet<String>,
) -> Result<(), String> {
    let boot = client.boot_id().await.map_err(|error| error.message)?;
    let pods = client.local_pods().await.map_err(|error| error.message)?;
    let reader = journal.clone();
    let records =
        tokio::task::spawn_blocking(move || read(&reader)).await.map_err(|error| error.to_string())??;
    let mut lacking = BTreeSet::new();
    let mut failure = None;
    for pod in pods {
        let lacks = pod::wish(&pod.annotations).networks.is_some() && !is_attached(&pod, &records, &boot);
        let labelled = pod.labels.get(LABEL).is_some_and(|value| value == LACKING);
        let done = match lacks {
            false if labelled && repair == Repair::Label => client.label(&pod, LABEL, None).await,
            true if suspects.contains(&pod.object_uid) => {
                act(client, &pod, repair, labelled, told.insert(pod.object_uid.clone())).await
            }
            _ => Ok(()),
        };
        if lacks {
            lacking.insert(pod.object_uid);
        }
        failure = done.err().map(|error| error.message).or(failure);
    }
    told.retain(|uid| lacking.contains(uid));
    *suspects = lacking;
    failure.map_or(Ok(()), Err)
}

async fn act(
    client: &Client,
    pod: &LocalPod,
    repair: Repair,
    labelled: bool,
    first: bool,
) -> Result<(), meta::cluster::ClusterError> {
    if first {
        let (namespace, name) = (&pod.pod.namespace, &pod.pod.name);
        log::warn!("pod {namespace}/{name} runs without the networks it asks for");
        let event = EventRequest {
            pod: pod.pod.clone(),
            kind: "Warning".to_owned(),
            reason: "NetworksMissing".to_owned(),
            message: "runs without the networks it asks for: it was started while Multus was not in charge of this \
                      node; delete the pod to get them"
                .to_owned(),
        };
        client.event(&event).await?;
    }
    match repair {
        Repair::None | Repair::Report => Ok(()),
        Repair::Label if labelled => Ok(()),
        Repair::Label => client.label(pod, LABEL, Some(LACKING)).await,
        // The kubelet would start it again just as it is.
        Repair::Delete if pod.fixed => Ok(()),
        Repair::Delete => client.delete(pod).await,
    }
}

/// All records, by the pod's uid.
fn read(journal: &Journal) -> Result<BTreeMap<String, Vec<Record>>, String> {
    let mut records: BTreeMap<String, Vec<Record>> = BTreeMap::new();
    for sandbox in journal.sandboxes().map_err(|error| error.to_string())? {
        // One that is torn says nothing about its pod: whoever lacks a record is named, and that is one.
        match journal.read(&sandbox) {
            Ok(Some(record)) => {
                let uid = record.pod.as_ref().map(|pod| pod.uid.clone()).unwrap_or_default();
                records.entry(uid).or_default().push(record);
            }
            Ok(None) => {}
            Err(error) => log::debug!("{error}"),
        }
    }
    Ok(records)
}

/// Whether a sandbox of this boot that carries the pod's address got all its networks from us.
fn is_attached(pod: &LocalPod, records: &BTreeMap<String, Vec<Record>>, boot: &str) -> bool {
    let of_pod = records.get(&pod.pod.uid).into_iter().flatten();
    of_pod.filter(|record| record.boot_id == boot).any(|record| {
        record.attachments.iter().all(|one| one.phase == Phase::Attached) && has_address(pod, record)
    })
}

/// A sandbox that somebody else started later has another address. Without addresses nothing can be told.
fn has_address(pod: &LocalPod, record: &Record) -> bool {
    let primary = record.attachments.iter().find(|one| one.primary);
    let result = primary.and_then(|one| {
        let version = one.config().ok()?.cni_version;
        one.result(&version).ok()??.typed().ok()
    });
    let parse = |text: &str| text.split('/').next().and_then(|ip| ip.parse::<IpAddr>().ok());
    let ours = result.map(|result| result.ips).unwrap_or_default();
    let ours: Vec<IpAddr> = ours.iter().filter_map(|ip| parse(&ip.address)).collect();
    ours.is_empty()
        || pod.ips.is_empty()
        || pod.ips.iter().filter_map(|ip| parse(ip)).any(|ip| ours.contains(&ip))
}
