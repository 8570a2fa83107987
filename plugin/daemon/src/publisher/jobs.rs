//! Which sandboxes still want their status published, and when.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use meta::cluster::PublishRequest;
use tokio::time::Instant;

use super::records::Found;

/// A plugin that publishes by itself has done so, or given up, this long after its last note.
const PLUGINS_OWN: Duration = Duration::from_secs(15);
/// Nobody can have published a plain pod's status so soon but a daemon that was restarted since.
const FRESH: Duration = Duration::from_secs(20);

/// What was published on request: sandbox to text. Requests write it, jobs read it.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<HashMap<String, (String, Instant)>>);

impl Told {
    /// The status of a sandbox has just been published.
    pub(crate) fn note(&self, sandbox: &str, status: &str) {
        self.lock().insert(sandbox.to_owned(), (status.to_owned(), Instant::now()));
    }

    fn says(&self, sandbox: &str, status: &str) -> bool {
        self.lock().get(sandbox).is_some_and(|(text, _)| text == status)
    }

    /// Forgets sandboxes that are gone; a new one's record may not have been looked at yet.
    fn keep(&self, known: impl Fn(&str) -> bool) {
        self.lock().retain(|sandbox, (_, at)| known(sandbox) || at.elapsed() < 4 * PLUGINS_OWN);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (String, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One job a sandbox.
pub(crate) struct Jobs {
    told: Arc<Told>,
    jobs: HashMap<String, Job>,
}

struct Job {
    found: Arc<Found>,
    /// Nothing when it is done.
    due: Option<Instant>,
    pause: Duration,
}

impl Jobs {
    pub(crate) fn new(told: Arc<Told>) -> Self {
        Self { told, jobs: HashMap::new() }
    }

    /// Makes these the sandboxes that there are. What was done for one that has not changed stays done.
    pub(crate) fn set(&mut self, found: Vec<Arc<Found>>) {
        let mut before = std::mem::take(&mut self.jobs);
        for found in newest_of_each_pod(found) {
            let job = match before.remove(&found.request.sandbox) {
                Some(job) if job.found.request.status == found.request.status => job,
                _ => {
                    let wait = if found.plain { Duration::ZERO } else { PLUGINS_OWN };
                    let due = Instant::now() + wait.saturating_sub(found.age());
                    Job { found: Arc::clone(&found), due: Some(due), pause: Duration::ZERO }
                }
            };
            self.jobs.insert(found.request.sandbox.clone(), job);
        }
        self.told.keep(|sandbox| self.jobs.contains_key(sandbox));
    }

    /// The sandboxes whose time has come, the longest due first.
    pub(crate) fn due(&self, now: Instant) -> Vec<String> {
        let mut due: Vec<(Instant, &String)> = self
            .jobs
            .iter()
            .filter_map(|(sandbox, job)| Some((job.due.filter(|due| *due <= now)?, sandbox)))
            .collect();
        due.sort_unstable();
        due.into_iter().map(|(_, sandbox)| sandbox.clone()).collect()
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.jobs.values().filter_map(|job| job.due).min()
    }

    /// What to publish for a sandbox, and whether it is so young that nothing can be there. Nothing where a request
    /// was faster.
    pub(crate) fn request(&mut self, sandbox: &str) -> Option<(PublishRequest, bool)> {
        let job = self.jobs.get_mut(sandbox)?;
        let request = &job.found.request;
        if self.told.says(sandbox, &request.status) {
            job.due = None;
            return None;
        }
        Some((request.clone(), job.found.plain && job.found.age() < FRESH))
    }

    pub(crate) fn done(&mut self, sandbox: &str) {
        if let Some(job) = self.jobs.get_mut(sandbox) {
            job.due = None;
        }
    }

    /// Again after a pause, which doubles each time.
    pub(crate) fn later(&mut self, sandbox: &str, least: Duration, most: Duration) {
        if let Some(job) = self.jobs.get_mut(sandbox) {
            job.pause = (job.pause * 2).clamp(least, most);
            job.due = Some(Instant::now() + job.pause);
        }
    }
}

/// A pod whose sandbox was replaced has two until the old one's DEL succeeds; the new one speaks. Oldest first.
fn newest_of_each_pod(found: Vec<Arc<Found>>) -> Vec<Arc<Found>> {
    let mut newest: HashMap<String, Arc<Found>> = HashMap::new();
    for found in found {
        // A uid is one pod's for ever.
        let uid = found.request.pod.uid.clone();
        match newest.get(&uid) {
            Some(other) if other.written >= found.written => {}
            _ => drop(newest.insert(uid, found)),
        }
    }
    let mut newest: Vec<_> = newest.into_values().collect();
    newest.sort_by_key(|found| found.written);
    newest
}
