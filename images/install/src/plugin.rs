//! One plugin: whether it is there, whose it is, and how it gets there.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use hostfs::{Before, HostDir, Ledger, Staged, atomic};

use crate::{known, self_test};

/// Executable by all, and nothing of SUID, SGID or sticky.
const MODE: u32 = 0o755;
/// Does nothing, and does it the same whoever wrote it.
const INTERCHANGEABLE: &str = "passthru";
/// Names this project in each binary of it that has a path, and Go Multus in its (its module's path).
const MARKS: [(&[u8], Whose); 2] = [(b"/multus-rs", Whose::Ours), (b"multus-cni", Whose::GoMultus)];

/// Whose plugins are installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This project's own.
    Own,
    /// The reference plugins of the CNI project: what is on the host is as good.
    Reference,
}

/// What was done for one plugin.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// The same file was there.
    Current,
    /// It was put there.
    Installed { bytes: usize },
    /// Another file of that name is there.
    Kept { why: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Nobodys,
    Ours,
    GoMultus,
    Foreign,
}

/// Where plugins come from and go to.
pub(crate) struct Host {
    pub(crate) source_dir: PathBuf,
    pub(crate) bin: HostDir,
    pub(crate) state_dir: PathBuf,
    pub(crate) origin: Origin,
    pub(crate) overwrite: bool,
}

impl Host {
    /// Puts one plugin on the host, unless the same bytes are there: then nothing is written, so that folders may
    /// be read-only.
    pub(crate) fn install(&self, name: &str) -> Result<Done> {
        let bytes = self.source(name)?;
        let place = self.bin.place()?;
        // The folder's links are followed, one of the plugin's own name never.
        let (here, host) = (place.here.join(name), place.host.join(name));
        if is_current(&here, &bytes) {
            return Ok(Done::Current);
        }
        atomic::make_dir(&place.here, 0o755)?;
        // From here on this is the only one of its kind; another may just have ended.
        let mut ledger = Ledger::open(&self.state_dir, "install")?;
        if is_current(&here, &bytes) {
            return Ok(Done::Current);
        }
        match hostfs::sweep(&place.here) {
            Ok(0) => {}
            Ok(n) => log::info!("removed {n} temporary files of an interrupted run"),
            Err(e) => log::warn!("{e}"),
        }
        let before = match (whose(&here, ledger.entry(&host).and_then(|e| e.sha256.as_deref()))?, self.origin)
        {
            (Whose::Nobodys, _) => Before::Judge,
            (Whose::Ours, _) => Before::Ours,
            (Whose::GoMultus, Origin::Own) => {
                log::info!("{} is Go Multus's: taking over, a copy is kept", host.display());
                Before::Judge
            }
            (_, _) if self.overwrite => Before::Judge,
            (_, Origin::Own) if name != INTERCHANGEABLE => bail!(
                "{} is somebody else's: remove it, or set install.overwrite=true (a copy is kept)",
                host.display()
            ),
            (_, Origin::Own | Origin::Reference) => {
                return Ok(Done::Kept { why: "it is not from this chart".into() });
            }
        };
        let staged = Staged::write(&here, &bytes, MODE)?;
        // Before it has its name: a file that does not run here must not take the place of one that does.
        self_test::run(staged.path()).with_context(|| self.does_not_run(name))?;
        ledger.record(&here, &host, &bytes, before)?;
        staged.publish()?;
        Ok(Done::Installed { bytes: bytes.len() })
    }

    /// Runs what stands at the plugin's place.
    pub(crate) fn self_test(&self, name: &str) -> Result<()> {
        self_test::run(&self.bin.place()?.here.join(name)).with_context(|| self.does_not_run(name))
    }

    fn source(&self, name: &str) -> Result<Vec<u8>> {
        if name.is_empty() || name.starts_with('.') || name.contains('/') {
            bail!("{name:?} is no name of a plugin: give the file name alone");
        }
        let path = self.source_dir.join(name);
        match fs::read(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                bail!("this image has no plugin {name}; it has: {}", known(&self.source_dir)?)
            }
            read => read.with_context(|| format!("cannot read {}", path.display())),
        }
    }

    fn does_not_run(&self, name: &str) -> String {
        let shown = self.bin.host(Path::new(name));
        format!(
            "{} does not run on this node (image of another architecture? noexec mount?)",
            shown.display()
        )
    }
}

/// Whether these bytes are there and can be run. Any such mode will do: what is baked in is often 0555.
fn is_current(here: &Path, bytes: &[u8]) -> bool {
    atomic::has_bytes(here, bytes).is_some_and(|mode| mode & 0o111 == 0o111 && mode & 0o7000 == 0)
}

/// Whose file stands at `here`; `recorded` is the digest that the ledger has for it.
fn whose(here: &Path, recorded: Option<&str>) -> Result<Whose> {
    let meta = match fs::symlink_metadata(here) {
        Ok(meta) => meta,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Whose::Nobodys),
        Err(e) => return Err(e).with_context(|| format!("cannot look at {}", here.display())),
    };
    let kind = meta.file_type();
    if kind.is_dir() || kind.is_fifo() || kind.is_socket() || kind.is_char_device() || kind.is_block_device()
    {
        bail!("{} is neither a file nor a link: remove it", here.display());
    }
    if kind.is_symlink() {
        return Ok(Whose::Foreign);
    }
    let bytes = fs::read(here).with_context(|| format!("cannot read {}", here.display()))?;
    if recorded == Some(hostfs::ledger::digest(&bytes).as_str()) {
        return Ok(Whose::Ours);
    }
    let marked = MARKS.iter().find(|(mark, _)| bytes.windows(mark.len()).any(|part| part == *mark));
    Ok(marked.map_or(Whose::Foreign, |(_, whose)| *whose))
}
