//! The watched cache of NetworkAttachmentDefinitions.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::StreamExt;
use kube::{
    Api,
    runtime::watcher::{self, Event, watcher},
};
use meta::cluster::{Network, NetworkRef};

use crate::{
    definition::{Definition, Known, RESOURCE},
    errors::{self, one_line},
    lookup,
};

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// All definitions of the cluster, once the first list is complete.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    known: HashMap<NetworkRef, Known>,
    /// A list under way; replaces `known` when complete, so readers never see half of it.
    listing: HashMap<NetworkRef, Known>,
    synced: bool,
    trouble: Option<String>,
}

impl lookup::Known for Cache {
    /// The network, if a complete list or a later event brought it.
    fn network(&self, key: &NetworkRef) -> Option<Network> {
        let state = self.lock();
        if state.synced { state.known.get(key).map(|known| known.network.clone()) } else { None }
    }
}

impl Cache {
    /// Whether a list was completed once. It stays true when the watch breaks: the answers of then serve on.
    pub(crate) fn synced(&self) -> bool {
        self.lock().synced
    }

    /// What keeps the watch from working now.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.lock().trouble.clone()
    }

    /// Lists, watches and starts over, for ever.
    pub(crate) async fn run(&self, client: kube::Client) {
        let config = watcher::Config::default().page_size(250);
        let mut events = std::pin::pin!(watcher(Api::<Definition>::all(client), config));
        let mut pause = FIRST_PAUSE;
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    // A list alone proves nothing: with watch forbidden it succeeds again and again.
                    if matches!(event, Event::Apply(_) | Event::Delete(_) | Event::InitDone) {
                        pause = FIRST_PAUSE;
                    }
                    self.apply(event);
                }
                Err(error) => {
                    self.complain(&describe(&error));
                    // The pause is the back-off between attempts, the only thing to wait for is the API server.
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    fn apply(&self, event: Event<Definition>) {
        let mut state = self.lock();
        match event {
            Event::Init => state.listing = HashMap::new(),
            Event::InitApply(definition) => {
                state.listing.insert(definition.key(), definition.shrink());
            }
            Event::InitDone => {
                let mut listed = std::mem::take(&mut state.listing);
                listed.shrink_to_fit();
                log::info!("knows {} network-attachment-definitions", listed.len());
                state.known = listed;
                state.synced = true;
                state.trouble = None;
            }
            Event::Apply(definition) => {
                state.trouble = None;
                state.known.insert(definition.key(), definition.shrink());
            }
            Event::Delete(definition) => {
                state.trouble = None;
                let key = definition.key();
                let gone = definition.metadata.uid.unwrap_or_default();
                if state.known.get(&key).is_some_and(|known| known.uid == gone) {
                    state.known.remove(&key);
                }
            }
        }
    }

    /// Logs a trouble once, not at every attempt.
    fn complain(&self, trouble: &str) {
        let mut state = self.lock();
        if state.trouble.as_deref() != Some(trouble) {
            log::warn!("{trouble}");
            state.trouble = Some(trouble.to_owned());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can leave the maps half-written.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn describe(error: &watcher::Error) -> String {
    let (verb, cause) = match error {
        watcher::Error::InitialListFailed(error) => ("list", errors::cause(error)),
        watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error) => {
            ("watch", errors::cause(error))
        }
        watcher::Error::WatchError(status) => ("watch", format!("{} {}", status.code, status.message)),
        watcher::Error::NoResourceVersion => ("watch", error.to_string()),
    };
    one_line(&format!("cannot {verb} {RESOURCE} (looked up one by one meanwhile): {cause}"), 299)
}

#[cfg(test)]
mod tests {
    use super::{lookup::Known as _, *};

    fn definition(name: &str, uid: &str) -> Definition {
        serde_json::from_value(serde_json::json!({"metadata": {"namespace": "a", "name": name, "uid": uid}}))
            .unwrap()
    }

    fn key(name: &str) -> NetworkRef {
        NetworkRef { namespace: "a".into(), name: name.into() }
    }

    #[test]
    fn nothing_is_known_before_the_first_list_is_complete() {
        let cache = Cache::default();
        cache.apply(Event::Init);
        cache.apply(Event::InitApply(definition("n", "1")));
        assert!(cache.network(&key("n")).is_none() && !cache.synced());
        cache.apply(Event::InitDone);
        assert!(cache.network(&key("n")).is_some() && cache.synced());
    }

    #[test]
    fn a_new_list_replaces_the_old_one_at_once() {
        let cache = Cache::default();
        cache.apply(Event::InitDone);
        cache.apply(Event::Apply(definition("old", "1")));
        cache.apply(Event::Init);
        cache.apply(Event::InitApply(definition("new", "2")));
        assert!(cache.network(&key("old")).is_some());
        cache.apply(Event::InitDone);
        assert!(cache.network(&key("old")).is_none() && cache.network(&key("new")).is_some());
    }

    #[test]
    fn deleting_the_namesake_of_before_keeps_the_present_one() {
        let cache = Cache::default();
        cache.apply(Event::InitDone);
        cache.apply(Event::Apply(definition("n", "2")));
        cache.apply(Event::Delete(definition("n", "1")));
        assert!(cache.network(&key("n")).is_some());
        cache.apply(Event::Delete(definition("n", "2")));
        assert!(cache.network(&key("n")).is_none());
    }
}
