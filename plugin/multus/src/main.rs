//! `multus`: the plugin a runtime executes for every pod, in thin mode. What it does is in `meta`; here is its way to
//! the cluster, the API itself.
//!
//! A config written for the thin plugin of Multus runs as it is, from a runtime or a shell. The API is asked with the
//! `kubeconfig` of the config, else with the service account of the pod that this runs in; without either there is no
//! cluster, and a pod gets what the config says.

use std::process::ExitCode;

use kubernetes::Options;

/// The C library gives each page back at once and then asks for it again: a third of the time before the first delegate.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    meta::plugin::serve("multus", env!("CARGO_PKG_VERSION"), |conf| {
        Ok(kubernetes::direct(Options {
            kubeconfig: conf.kubeconfig.clone(),
            node_name: node_name(),
            kubelet: conf.kubelet_dir.clone(),
            ..Options::default()
        }))
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
