//! What all instances of a run share: folder, API server, namespace of the pods, and the subject.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::{
    api::Api,
    corpus::Instance,
    diff::Difference,
    run,
    stage::{Netns, Stage},
    subject::Subject,
};

/// A folder, an API server and a network namespace.
#[derive(Debug)]
pub struct Session {
    // In the order in which they end.
    netns: Netns,
    /// The cluster.
    pub api: Arc<Api>,
    folder: TempDir,
}

impl Session {
    /// Starts everything.
    pub fn start() -> Result<Self> {
        let folder = TempDir::with_prefix("conformance-")?;
        let api_folder = folder.path().join("api");
        std::fs::create_dir(&api_folder)?;
        let api = Api::start(&api_folder).context("starting an API server")?;
        Self::of(Arc::new(api), folder)
    }

    /// Another one in the same cluster, for another subject at the same time.
    pub fn beside(&self) -> Result<Self> {
        Self::of(Arc::clone(&self.api), TempDir::with_prefix("conformance-")?)
    }

    fn of(api: Arc<Api>, folder: TempDir) -> Result<Self> {
        let netns = Netns::new(&folder.path().join("netns"))?;
        Ok(Self { netns, api, folder })
    }

    /// A folder below the session's.
    pub fn subfolder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Prepares the world of an instance; `number` tells it from all others of this subject.
    pub fn stage(&self, subject: &Subject, instance: &Instance, number: usize) -> Result<Stage<'_>> {
        let namespace = format!("{}{number}", subject.letter);
        let root = self.folder.path().join(&namespace);
        Stage::set(&self.api, instance, &root, &namespace, &self.netns)
    }

    /// Prepares and runs an instance.
    pub fn run(&self, subject: &Subject, instance: &Instance, number: usize) -> Result<Vec<Difference>> {
        let stage = self.stage(subject, instance, number).context("preparing the case")?;
        let found = run::run(subject, &stage);
        subject.forget(&stage)?;
        found
    }
}
