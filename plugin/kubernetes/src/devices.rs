//! Which devices the kubelet gave a pod: asked at its PodResources socket, else read from its checkpoint.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use meta::cluster::{ClusterError, PodRef};
use tokio::time::timeout;

use crate::{
    checkpoint,
    errors::{RETRY, failure, one_line},
    podresources,
};

/// All questions to the kubelet together.
const DEADLINE: Duration = Duration::from_secs(10);

/// Resource name to the ids of the pod's devices, of all its containers.
pub(crate) type Devices = BTreeMap<String, BTreeSet<String>>;

/// The devices of a pod, sorted by id. `kubelet` is the kubelet's folder.
pub(crate) async fn of(kubelet: &Path, pod: &PodRef) -> Result<BTreeMap<String, Vec<String>>, ClusterError> {
    let socket = kubelet.join("pod-resources/kubelet.sock");
    let asked = timeout(DEADLINE, podresources::devices(&socket, pod)).await;
    let devices = match asked.unwrap_or_else(|_| Err(format!("no answer within {} s", DEADLINE.as_secs()))) {
        Ok(devices) => devices,
        Err(why) => {
            log::debug!("the kubelet's checkpoint stands in for {}: {why}", socket.display());
            checkpoint::devices(kubelet, pod).map_err(|also| unknown(pod, &socket, &why, &also))?
        }
    };
    Ok(devices.into_iter().map(|(resource, ids)| (resource, ids.into_iter().collect())).collect())
}

fn unknown(pod: &PodRef, socket: &Path, why: &str, also: &str) -> ClusterError {
    let message = format!(
        "the devices of pod {}/{} cannot be told: {}: {}; {}; this is retried",
        one_line(&pod.namespace, 40),
        one_line(&pod.name, 40),
        one_line(&socket.display().to_string(), 70),
        one_line(why, 60),
        one_line(also, 60)
    );
    failure(RETRY, "DEVICES_UNKNOWN", &message)
}
