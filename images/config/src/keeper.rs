//! One look at the host: what should stand there, and the least that makes it so. The first look and every later
//! one are the same code.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hostfs::{Before, Change, HostDir, Ledger, Primary, Unusable, Wanted, primary};
use serde_json::{Map, Value, json};

use crate::conflist::{FILE, Settings, build, is_ours, plugins};
use crate::probe::{READY, in_place};

/// Somebody who keeps removing our config is answered this often, and no more.
const RESTORE_EVERY: Duration = Duration::from_secs(60);

/// Keeps the host's files as they should be.
pub(crate) struct Keeper {
    conf: HostDir,
    wanted: Wanted,
    settings: Settings,
    state_dir: PathBuf,
    readiness: PathBuf,
    ledger: Ledger,
    /// What was last put in place by this process.
    written: Option<Map<String, Value>>,
    /// When it last was put back after somebody else changed it.
    restored: Option<Instant>,
    /// What was last said, so that it is said once.
    said: String,
}

impl Keeper {
    /// Cleans up after a killed run and opens the ledger.
    pub(crate) fn new(
        conf: HostDir,
        wanted: Wanted,
        settings: Settings,
        state_dir: PathBuf,
        readiness: PathBuf,
    ) -> Result<Keeper> {
        let ledger = Ledger::open(&state_dir, "config")?;
        for dir in [&conf.here, &state_dir.join("primary"), &state_dir.join("ledger")] {
            if dir.is_dir() {
                hostfs::sweep(dir)?;
            }
        }
        Ok(Keeper {
            conf,
            wanted,
            settings,
            state_dir,
            readiness,
            ledger,
            written: None,
            restored: None,
            said: String::new(),
        })
    }

    /// Looks, acts, and says what is new. Never fails: what cannot be done now is tried at the next look.
    pub(crate) fn look(&mut self) {
        let state = match primary::find(&self.conf, &self.wanted) {
            Ok(primary) => match self.publish(&primary) {
                Ok(()) => in_place(&self.conf).map(|()| READY.to_owned()),
                Err(e) => Err(e),
            },
            Err(unusable) => self.without_primary(unusable),
        };
        let (state, ready) = match state {
            Ok(state) => (state, true),
            Err(e) => (format!("{e:#}"), false),
        };
        // Before the log, so that whoever reads there that something changed finds the probe saying so.
        let says = if ready { READY } else { state.as_str() };
        if let Err(e) = hostfs::replace(&self.readiness, says.as_bytes(), 0o644) {
            log::error!("{e}");
        }
        if state != self.said {
            match (ready, state == READY) {
                (true, true) => log::info!("{} is in place", self.conf.host(Path::new(FILE)).display()),
                _ => log::warn!("{state}"),
            }
            self.said = state.clone();
        }
    }

    /// A broken primary takes nothing away: what is in place serves it from the last good snapshot.
    fn without_primary(&self, unusable: Unusable) -> Result<String> {
        if matches!(unusable, Unusable::Broken { .. }) && in_place(&self.conf).is_ok() {
            return Ok(format!("{unusable}; its last good version stays in use"));
        }
        Err(unusable.into())
    }

    fn publish(&mut self, primary: &Primary) -> Result<()> {
        self.snapshot(primary).context("the snapshot of the primary's config")?;
        let here = self.conf.here(Path::new(FILE));
        let host = self.conf.host(Path::new(FILE));
        let existing = read(&here);
        let config = build(&self.conf, primary, &self.settings, existing.as_ref());
        if existing.as_ref() == Some(&config) && is_private(&here, &config) {
            self.written = Some(config);
            return Ok(());
        }
        if self.written.as_ref() == Some(&config) {
            // Nothing changed on our side: somebody else removed or edited it.
            if self.restored.is_some_and(|at| at.elapsed() < RESTORE_EVERY) {
                anyhow::bail!(
                    "{} was removed or changed again within {} s: find what does it (Cilium: set cni.exclusive=false)",
                    host.display(),
                    RESTORE_EVERY.as_secs()
                );
            }
            self.restored = Some(Instant::now());
            log::warn!("{} was removed or changed by somebody else: putting it back", host.display());
        }
        let mut text = serde_json::to_vec_pretty(&config).context("cannot write our config as JSON")?;
        text.push(b'\n');
        let ours = existing.is_some_and(|e| plugins(&e).iter().any(is_ours));
        self.ledger.record(&here, &host, &text, if ours { Before::Ours } else { Before::Judge })?;
        hostfs::replace(&here, &text, 0o600)?;
        log::info!(
            "wrote {} for the primary network {:?} of {}",
            host.display(),
            primary.name,
            self.conf.host(&primary.file).display()
        );
        self.written = Some(config);
        Ok(())
    }

    /// Keeps the primary's config, for the plugin to use when the file itself is broken.
    fn snapshot(&self, primary: &Primary) -> Result<()> {
        let dir = self.state_dir.join("primary");
        hostfs::atomic::make_dir(&dir, 0o700)?;
        let snapshot = json!({
            "formatVersion": 1,
            "path": self.conf.host(&primary.file),
            "config": primary.text,
        });
        let mut text = serde_json::to_vec(&snapshot).context("cannot write it as JSON")?;
        text.push(b'\n');
        if hostfs::replace(&dir.join("file.json"), &text, 0o600)? == Change::Written {
            log::debug!("kept the primary's config");
        }
        Ok(())
    }
}

/// The config that is in place, if it is a regular file and valid.
fn read(path: &Path) -> Option<Map<String, Value>> {
    let regular = fs::symlink_metadata(path).is_ok_and(|m| m.is_file());
    if !regular {
        return None;
    }
    fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok())
}

/// Whether only root may read it. Who added a plugin of theirs chose its mode as well, and is not fought.
fn is_private(path: &Path, config: &Map<String, Value>) -> bool {
    plugins(config).len() > 1 || fs::metadata(path).is_ok_and(|m| m.mode() & 0o7777 == 0o600)
}
