//! The thin plugin's way to the cluster, against a real API server, and against a fake one for what a real one
//! cannot be told to do.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers as well")]

mod faults;
mod real;

use std::path::Path;

use kubernetes::{Direct, Options};
use meta::cluster::{ClusterError, EventRequest, NetworkRef, PodRef, PublishRequest, ResolveRequest};

/// A reader with the kubeconfig at a path.
fn reader(kubeconfig: &Path) -> Direct {
    let options = Options {
        kubeconfig: Some(kubeconfig.to_owned()),
        node_name: "node1".to_owned(),
        ..Options::default()
    };
    Direct::new(options, std::time::Duration::from_secs(10))
}

fn pod(name: &str, uid: &str) -> PodRef {
    PodRef { namespace: "default".to_owned(), name: name.to_owned(), uid: uid.to_owned() }
}

fn networks(names: &[&str]) -> ResolveRequest {
    let selections = names
        .iter()
        .map(|name| NetworkRef { namespace: "default".to_owned(), name: (*name).to_owned() })
        .collect();
    ResolveRequest {
        pod: pod("pod1", "uid1"),
        sandbox: "sandbox1".to_owned(),
        selections,
        ..ResolveRequest::default()
    }
}

fn annotations_of(pod: PodRef) -> ResolveRequest {
    ResolveRequest {
        pod,
        sandbox: "sandbox1".to_owned(),
        want_annotations: true,
        ..ResolveRequest::default()
    }
}

fn status_of(pod: PodRef, status: &str) -> PublishRequest {
    PublishRequest { pod, sandbox: "sandbox1".to_owned(), status: status.to_owned(), summary: String::new() }
}

fn event(pod: PodRef, message: &str) -> EventRequest {
    EventRequest {
        pod,
        kind: "Warning".to_owned(),
        reason: "NetworkFailed".to_owned(),
        message: message.to_owned(),
    }
}

/// The failure's slug and code; asserts that its message is one line that fits an event.
#[track_caller]
fn failure<T: std::fmt::Debug>(outcome: Result<T, ClusterError>) -> (String, u32, String) {
    let ClusterError { code, reason, message } = outcome.unwrap_err();
    assert!(!message.contains('\n') && message.chars().count() < 300 && message.len() > 10, "{message}");
    (reason, code, message)
}
