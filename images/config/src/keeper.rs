//! One look at the host: what should stand there, and the least that makes it so. The first look and every later
//! one are the same code.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hostfs::{Before, Change, HostDir, Ledger, Primary, Unusable, Wanted, primary};
use serde_json::json;

use crate::conflist::{Conflist, FILE, Settings, is_ours, plugins, same};
use crate::place;
use crate::state::{Chosen, State};

/// What could not be done is tried again after this long.
const RETRY: Duration = Duration::from_secs(5);

/// What a keeper keeps, and where.
pub(crate) struct Task {
    pub(crate) conf: HostDir,
    pub(crate) wanted: Wanted,
    pub(crate) settings: Settings,
    /// As this process sees it.
    pub(crate) state_dir: PathBuf,
    pub(crate) state_file: PathBuf,
    /// A file that has to exist before our config is published: the name on the host, and a mount to look in.
    pub(crate) indicator: Option<HostDir>,
    /// Put our config back after somebody else removed or changed it.
    pub(crate) restore: bool,
    /// No more often than this.
    pub(crate) restore_every: Duration,
}

/// Keeps the host's files as they should be.
pub(crate) struct Keeper {
    task: Task,
    /// Held from the first look that got it, so that no second one of us works on this node.
    ledger: Option<Ledger>,
    /// What was last put in place by this process.
    written: Option<String>,
    /// When we last acted against somebody else.
    acted: Option<Instant>,
    restored: u64,
    /// What was last said, so that it is said once.
    said: String,
}

impl Keeper {
    pub(crate) fn new(task: Task) -> Keeper {
        Keeper { task, ledger: None, written: None, acted: None, restored: 0, said: String::new() }
    }

    /// The folders whose change is a reason to look.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        let conf = &self.task.conf;
        let mut places = vec![conf.place()];
        match &self.task.wanted {
            Wanted::File(file) => places.push(conf.file(file)),
            Wanted::First | Wanted::Network(_) => {}
        }
        places.extend(self.task.indicator.as_ref().map(HostDir::place));
        let mut passed: Vec<PathBuf> = places.into_iter().flatten().flat_map(|place| place.passed).collect();
        if matches!(self.task.wanted, Wanted::Network(_))
            && let Ok(place) = conf.place()
        {
            let entries = fs::read_dir(place.here).into_iter().flatten().flatten();
            passed.extend(entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
        }
        passed
    }

    /// Looks, acts, and says what is new. Never fails: what cannot be done now is tried again, at the latest after
    /// the time that is returned.
    pub(crate) fn look(&mut self) -> Option<Duration> {
        let found = primary::find(&self.task.conf, &self.task.wanted);
        let chosen = found.as_ref().ok().map(|primary| Chosen {
            network: primary.name.clone(),
            file: self.task.conf.host(&primary.file),
        });
        let outcome = self.act(found);
        let (ready, message) = match &outcome {
            Ok(note) => (true, note.clone()),
            Err(e) => (false, format!("{e:#}")),
        };
        // Before the log, so that whoever reads there that something changed finds the probe saying so.
        let state = State::new(ready, message.clone(), chosen, self.restored);
        if let Err(e) = state.write(&self.task.state_file) {
            log::error!("{e:#}");
        }
        let says = if message.is_empty() { "in place".to_owned() } else { message };
        if says != self.said {
            match ready && says == "in place" {
                true => log::info!("{} is in place", self.task.conf.host(Path::new(FILE)).display()),
                false => log::warn!("{says}"),
            }
            self.said = says;
        }
        let resting = self.resting();
        if outcome.is_err() { Some(resting.map_or(RETRY, |r| r.min(RETRY))) } else { resting }
    }

    /// Makes it so. An empty text: all is well; another: it serves, with this to be known.
    fn act(&mut self, found: Result<Primary, Unusable>) -> Result<String> {
        self.take_ledger()?;
        let conf = self.task.conf.clone();
        let primary = match found {
            Ok(primary) => primary,
            // A broken primary takes nothing away: what is in place serves it from the last good snapshot.
            Err(broken @ Unusable::Broken { .. }) if place::is_served(&conf).is_ok() => {
                return Ok(format!("{broken}; its last good version stays in use"));
            }
            Err(unusable) => return Err(unusable.into()),
        };
        self.await_indicator()?;
        self.publish(&primary)?;
        if place::has_go_multus(&conf) {
            self.against_somebody("a Go Multus wrote its config again; remove its DaemonSet")?;
            if let Some(ledger) = &mut self.ledger {
                place::set_go_multus_aside(&conf, ledger)?;
            }
        }
        place::is_served(&conf)?;
        Ok(String::new())
    }

    fn take_ledger(&mut self) -> Result<()> {
        if self.ledger.is_some() {
            return Ok(());
        }
        let state_dir = &self.task.state_dir;
        hostfs::atomic::make_dir(state_dir, 0o755)?;
        match Ledger::try_open(state_dir, "config")? {
            Some(ledger) => self.ledger = Some(ledger),
            None => bail!(
                "waiting: another config program works on this node; if it does not end, look for a second DaemonSet"
            ),
        }
        // What a killed run left.
        for dir in [&self.task.conf.place()?.here, &state_dir.join("primary"), &state_dir.join("ledger")] {
            if dir.is_dir() {
                hostfs::sweep(dir)?;
            }
        }
        Ok(())
    }

    fn await_indicator(&self) -> Result<()> {
        let Some(indicator) = &self.task.indicator else { return Ok(()) };
        let place = indicator.place()?;
        if place.here.exists() {
            return Ok(());
        }
        let shown = indicator.host(Path::new(""));
        bail!(
            "waiting for the readiness indicator {}, which the primary network's own pod writes",
            shown.display().to_string().trim_end_matches('/')
        )
    }

    fn publish(&mut self, primary: &Primary) -> Result<()> {
        self.snapshot(primary).context("the snapshot of the primary's config")?;
        let place = self.task.conf.place()?;
        let (here, host) = (place.here.join(FILE), place.host.join(FILE));
        let existing = place::existing(&here);
        let object = existing.as_ref().map(|(object, _)| object);
        let config = Conflist::build(&self.task.conf, primary, &self.task.settings, object)?;
        let text = config.text()?;
        let kept = existing.as_ref().is_some_and(|(_, old)| same(old, &text));
        // Who added a plugin of theirs chose the mode as well, and is not fought.
        if kept && (config.is_shared() || fs::metadata(&here).is_ok_and(|m| m.mode() & 0o7777 == 0o600)) {
            self.written = Some(text);
            return Ok(());
        }
        let ledger = self.ledger.as_ref().context("the ledger is not open")?;
        let was_ours = existing.as_ref().is_some_and(|(object, _)| plugins(object).iter().any(is_ours));
        let noted = ledger.entry(&host).is_some();
        // Nothing changed on our side, or it was there before this process: somebody else removed or edited it.
        if self.written.as_ref().is_some_and(|w| same(w, &text)) || (noted && existing.is_none()) {
            let who = match place::cilium_took_ours(&here) {
                true => "renamed by Cilium to *.cilium_bak: set cni.exclusive=false in Cilium's values",
                false => "removed or changed by somebody else (Cilium: set cni.exclusive=false)",
            };
            let what = format!("{} was {who}", self.task.conf.host(Path::new(FILE)).display());
            if !self.task.restore {
                bail!("{what}; it is not put back, since multus.restoreConfig is false");
            }
            self.against_somebody(&what)?;
            self.restored += 1;
            log::warn!("{what}; putting it back");
        }
        let before = if was_ours { Before::Ours } else { Before::Judge };
        let ledger = self.ledger.as_mut().context("the ledger is not open")?;
        ledger.record(&here, &host, text.as_bytes(), before)?;
        hostfs::replace(&here, text.as_bytes(), 0o600)?;
        log::info!(
            "wrote {} for the primary network {:?} of {}",
            self.task.conf.host(Path::new(FILE)).display(),
            primary.name,
            self.task.conf.host(&primary.file).display()
        );
        self.written = Some(text);
        Ok(())
    }

    /// Whoever works against us is answered this often, and no more.
    fn against_somebody(&mut self, what: &str) -> Result<()> {
        if let Some(left) = self.resting() {
            bail!(
                "{what}; answered at most every {} s, next in {} s",
                self.task.restore_every.as_secs(),
                left.as_secs()
            );
        }
        self.acted = Some(Instant::now());
        Ok(())
    }

    fn resting(&self) -> Option<Duration> {
        self.acted.and_then(|at| self.task.restore_every.checked_sub(at.elapsed())).filter(|d| !d.is_zero())
    }

    /// Keeps the primary's config, for the plugin to use when the file itself is broken.
    fn snapshot(&self, primary: &Primary) -> Result<()> {
        let dir = self.task.state_dir.join("primary");
        hostfs::atomic::make_dir(&dir, 0o700)?;
        let snapshot = json!({
            "formatVersion": 1,
            "path": self.task.conf.host(&primary.file),
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
