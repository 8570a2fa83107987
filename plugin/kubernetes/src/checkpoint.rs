//! The file in which the kubelet's device manager notes what it gave to whom.

use std::{collections::HashMap, fs, path::Path};

use meta::cluster::PodRef;
use serde::Deserialize;

use crate::devices::Devices;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Checkpoint {
    data: Data,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Data {
    /// `null` where no device was ever given.
    pod_device_entries: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "PodUID")]
    uid: String,
    #[serde(rename = "ResourceName")]
    resource: String,
    /// By NUMA node.
    #[serde(rename = "DeviceIDs")]
    ids: HashMap<String, Vec<String>>,
}

/// The devices of the pod, which is known there by its uid alone.
pub(crate) fn devices(kubelet: &Path, pod: &PodRef) -> Result<Devices, String> {
    let path = kubelet.join("device-plugins/kubelet_internal_checkpoint");
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    if pod.uid.is_empty() {
        return Err(told(&"it knows pods by uid, and the runtime gave none"));
    }
    let text = fs::read(&path).map_err(|error| told(&error))?;
    let checkpoint: Checkpoint = serde_json::from_slice(&text).map_err(|error| told(&error))?;
    let mut devices = Devices::new();
    for entry in checkpoint.data.pod_device_entries.unwrap_or_default() {
        if entry.uid == pod.uid {
            devices.entry(entry.resource).or_default().extend(entry.ids.into_values().flatten());
        }
    }
    Ok(devices)
}
