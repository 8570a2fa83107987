//! `resolve`, for the daemon with its cache and for the thin plugin without one.

use std::path::Path;

use futures::{StreamExt, TryStreamExt, stream};
use meta::cluster::{ClusterError, Network, NetworkRef, ResolveRequest, ResolveResponse};

use crate::{
    devices,
    errors::{INVALID, failure},
    network, pod,
    retry::Patience,
    validate,
};

/// More networks than a pod can use; the plugin has the same bound.
const MOST_SELECTIONS: usize = 64;
const READS_AT_ONCE: usize = 8;

/// Networks that need no question.
pub(crate) trait Known: Sync {
    /// The network, if it is known.
    fn network(&self, key: &NetworkRef) -> Option<Network>;
}

/// Nothing is known beforehand.
pub(crate) struct Nothing;

impl Known for Nothing {
    fn network(&self, _key: &NetworkRef) -> Option<Network> {
        None
    }
}

/// Refuses what no answer could be given to.
pub(crate) fn check(request: &ResolveRequest) -> Result<(), ClusterError> {
    if request.selections.len() > MOST_SELECTIONS {
        let message = format!(
            "pod {}/{} asks for {} networks, at most {MOST_SELECTIONS} are possible: remove some",
            request.pod.namespace,
            request.pod.name,
            request.selections.len()
        );
        return Err(failure(INVALID, "TOO_MANY_NETWORKS", &message));
    }
    for selection in &request.selections {
        validate::name("namespace of a network", &selection.namespace)?;
        validate::name("network", &selection.name)?;
    }
    if request.want_annotations || request.devices { validate::pod(&request.pod) } else { Ok(()) }
}

/// Looks up what a checked request asks for. `kubelet` is the kubelet's folder.
pub(crate) async fn resolve(
    client: &kube::Client,
    known: &impl Known,
    kubelet: &Path,
    request: &ResolveRequest,
    patience: Patience,
) -> Result<ResolveResponse, ClusterError> {
    // Made before the stream: a closure inside it would keep the whole future from being `Send`.
    let lookups: Vec<_> =
        request.selections.iter().map(|selection| one(client, known, selection, patience)).collect();
    let networks = stream::iter(lookups).buffered(READS_AT_ONCE).try_collect::<Vec<_>>();
    let annotations = async {
        if !request.want_annotations {
            return Ok(None);
        }
        pod::annotations(client, &request.pod, patience).await.map(Some)
    };
    let (networks, annotations) = tokio::try_join!(networks, annotations)?;
    let from_kubelet = networks.iter().any(|network| network.resource().is_some());
    let devices = if request.devices || from_kubelet {
        devices::of(kubelet, &request.pod).await?
    } else {
        Default::default()
    };
    Ok(ResolveResponse { networks, annotations, devices })
}

async fn one(
    client: &kube::Client,
    known: &impl Known,
    selection: &NetworkRef,
    patience: Patience,
) -> Result<Network, ClusterError> {
    match known.network(selection) {
        Some(network) => Ok(network),
        // A cache that does not know a network may only be late.
        None => network::read(client, selection, patience).await,
    }
}
