//! Events on the pod: what its owner sees in `kubectl describe`.
//!
//! The same line about the same pod is one object, whoever sends it and however often: its name says what it says.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use meta::cluster::{ClusterError, EventRequest};

use crate::{
    errors::{Asked, INVALID, failure, one_line},
    retry::{Patience, Trouble},
};

const COMPONENT: &str = "multus";
/// A runtime tries a failing pod again every few seconds; its owner needs the line once a minute.
const QUIET: Duration = Duration::from_secs(60);
/// Bounds the memory of the limiter; the oldest line is forgotten first.
const REMEMBERED: usize = 1024;
/// The API's own bounds.
const LONGEST_NOTE: usize = 1000;
const LONGEST_REASON: usize = 128;

/// Which line was sent for which pod, and when.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    sent: Mutex<HashMap<Line, Instant>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Line {
    pod: String,
    text: String,
}

impl Limiter {
    fn first(&self, line: &Line, now: Instant) -> bool {
        let mut sent = self.lock();
        sent.retain(|_, at| now.saturating_duration_since(*at) < QUIET);
        if sent.contains_key(line) {
            return false;
        }
        if sent.len() >= REMEMBERED
            && let Some(oldest) = sent.iter().min_by_key(|(_, at)| **at).map(|(line, _)| line.clone())
        {
            sent.remove(&oldest);
        }
        sent.insert(line.clone(), now);
        true
    }

    fn forget(&self, line: &Line) {
        self.lock().remove(line);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Line, Instant>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends the event, unless the same line was sent for the pod within the last minute.
pub(crate) async fn send(
    client: &kube::Client,
    limiter: &Limiter,
    node: &str,
    request: &EventRequest,
    patience: Patience,
) -> Result<(), ClusterError> {
    if !matches!(request.kind.as_str(), "Normal" | "Warning") || request.reason.is_empty() {
        return Err(failure(
            INVALID,
            "INVALID_REQUEST",
            "an event needs the kind Normal or Warning and a reason",
        ));
    }
    let event = build(node, request, Timestamp::now());
    let pod = &request.pod;
    let line = Line {
        pod: format!("{}/{}/{}", pod.namespace, pod.name, pod.uid),
        text: event.message.clone().unwrap_or_default(),
    };
    if !limiter.first(&line, Instant::now()) {
        return Ok(());
    }
    let asked = Asked { verb: "create", resource: "events", namespace: &pod.namespace, name: &pod.name };
    let sent = create(client, &event, patience).await.map_err(|trouble| trouble.told(asked));
    if sent.is_err() {
        limiter.forget(&line);
    }
    sent
}

async fn create(client: &kube::Client, event: &Event, patience: Patience) -> Result<(), Trouble> {
    let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
    let name = event.metadata.name.as_deref().unwrap_or_default();
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let tries = patience.tries();
    match tries.attempt(api.create(&PostParams::default(), event)).await {
        Err(trouble) if trouble.code() == 409 => {
            let seen_again = Patch::Merge(serde_json::json!({ "lastTimestamp": event.last_timestamp }));
            match tries.attempt(api.patch(name, &PatchParams::default(), &seen_again)).await {
                // The line stands there; only its age is wrong.
                Err(trouble) if trouble.code() == 403 => Ok(()),
                outcome => outcome.map(drop),
            }
        }
        outcome => outcome.map(drop),
    }
}

fn build(node: &str, request: &EventRequest, now: Timestamp) -> Event {
    let pod = &request.pod;
    // A name is at most 253 characters.
    let stem = pod.name.get(..230).unwrap_or(&pod.name).trim_end_matches(['-', '.']);
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{stem}.{:016x}", digest([&pod.uid, &request.reason, &request.message]))),
            namespace: Some(pod.namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(pod.namespace.clone()),
            name: Some(pod.name.clone()),
            uid: Some(pod.uid.clone()).filter(|uid| !uid.is_empty()),
            ..ObjectReference::default()
        },
        type_: Some(request.kind.clone()),
        reason: Some(one_line(&request.reason, LONGEST_REASON)),
        message: Some(one_line(&request.message, LONGEST_NOTE)),
        source: Some(EventSource {
            component: Some(COMPONENT.to_owned()),
            host: Some(node.to_owned()).filter(|node| !node.is_empty()),
        }),
        reporting_component: Some(COMPONENT.to_owned()),
        reporting_instance: Some(node.to_owned()).filter(|node| !node.is_empty()),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        count: Some(1),
        ..Event::default()
    }
}

/// FNV-1a over the parts: tells lines apart, guards against nobody.
fn digest(parts: [&str; 3]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(pod: &str, text: &str) -> Line {
        Line { pod: pod.into(), text: text.into() }
    }

    #[test]
    fn the_same_line_waits_a_minute_another_one_does_not() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        assert!(limiter.first(&line("a", "x"), now));
        assert!(!limiter.first(&line("a", "x"), now + QUIET / 2));
        assert!(limiter.first(&line("a", "y"), now));
        assert!(limiter.first(&line("b", "x"), now));
        assert!(limiter.first(&line("a", "x"), now + QUIET));
    }

    #[test]
    fn memory_of_the_limiter_is_bounded() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        for n in 0..3 * REMEMBERED {
            assert!(limiter.first(&line(&n.to_string(), "x"), now));
        }
        assert_eq!(limiter.lock().len(), REMEMBERED);
    }
}
