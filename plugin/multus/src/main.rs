//! `multus`: the plugin a runtime executes for every pod, in thin mode. What it does is in `meta`; here is its way to
//! the cluster, the API itself.
//!
//! A config written for the thin plugin of Multus runs as it is, from a runtime or a shell. The API is asked with the
//! `kubeconfig` of the config, else with the service account of the pod that this runs in; without either there is no
//! cluster, and a pod gets what the config says.

use std::process::ExitCode;

fn main() -> ExitCode {
    meta::plugin::serve("multus", env!("CARGO_PKG_VERSION"), |conf| {
        Ok(kubernetes::direct(conf.kubeconfig.as_deref(), &node_name()))
    })
}

/// What events say about where they come from: the kubelet names a node after its host, unless told otherwise.
fn node_name() -> String {
    match std::fs::read_to_string("/proc/sys/kernel/hostname") {
        Ok(name) => name.trim().to_lowercase(),
        Err(error) => {
            log::debug!("events name no node: {error}");
            String::new()
        }
    }
}
