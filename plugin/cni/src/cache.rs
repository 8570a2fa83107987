//! What a runtime remembers of each attachment, in libcni's files: `DIR/results/NETWORK-CONTAINER-IFNAME`.
//!
//! libcni reads what is written here, and this reads what libcni wrote. Unlike libcni, a file is replaced in one
//! step and is on disk when the call returns.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    base64,
    config::valid_network_name,
    env::{valid_container_id, valid_ifname},
    error::{Error, code, io_words, one_line},
    raw::{Keyed, Object},
    result::{self, CniResult, or_default},
    version,
};

/// libcni's own folder.
pub const DEFAULT_DIR: &str = "/var/lib/cni";
/// What the files say of their format.
const KIND: &str = "cniCacheV1";
/// Largest file that is read: a result, and a configuration in base64.
const MAX_SIZE: usize = 2 * result::MAX_SIZE;

/// A folder of remembered attachments.
#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
}

/// Which attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key<'a> {
    /// The network's name.
    pub network: &'a str,
    /// `CNI_CONTAINERID`.
    pub container_id: &'a str,
    /// `CNI_IFNAME`.
    pub ifname: &'a str,
}

/// One remembered attachment.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    /// The network's name.
    pub network: String,
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// `CNI_NETNS`; empty where there was none.
    pub netns: String,
    /// `CNI_ARGS` as pairs.
    pub args: Vec<(String, String)>,
    /// What the runtime offered as `runtimeConfig`.
    pub capability_args: Object,
    /// The network's configuration, as text; empty in a file of before libcni 0.8.
    pub config: String,
    /// The answer of the ADD.
    pub result: Option<CniResult>,
}

impl Entry {
    /// Which attachment this is.
    pub fn key(&self) -> Key<'_> {
        Key { network: &self.network, container_id: &self.container_id, ifname: &self.ifname }
    }
}

/// A file, with the names and the order that libcni gives it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    container_id: String,
    #[serde(default, deserialize_with = "or_default")]
    config: String,
    #[serde(default)]
    if_name: String,
    #[serde(default)]
    network_name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    netns: String,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    cni_args: Vec<(String, String)>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Object::is_empty")]
    capability_args: Object,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
}

impl Cache {
    /// The cache in `dir`, which need not exist yet; [`DEFAULT_DIR`] is libcni's.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Remembers an attachment, in place of what was known of it.
    ///
    /// # Errors
    /// Code 4 or 7 for a name that cannot be part of a file name, code 5 when it cannot be written.
    pub fn write(&self, entry: &Entry) -> Result<(), Error> {
        let path = self.path(entry.key())?;
        let wire = Wire {
            kind: KIND.to_owned(),
            container_id: entry.container_id.clone(),
            config: base64::encode(entry.config.as_bytes()),
            if_name: entry.ifname.clone(),
            network_name: entry.network.clone(),
            netns: entry.netns.clone(),
            cni_args: entry.args.clone(),
            capability_args: entry.capability_args.clone(),
            result: entry.result.as_ref().and_then(|r| RawValue::from_string(r.raw().to_owned()).ok()),
        };
        let text = serde_json::to_string(&wire)
            .map_err(|e| Error::new(code::INTERNAL, format!("an attachment cannot be written: {e}")))?;
        self.replace(&path, text.as_bytes()).map_err(|e| failed(&path, "written", &e))
    }

    /// What is known of an attachment, if anything.
    ///
    /// # Errors
    /// Code 5 when the file cannot be read, code 6 when it is broken.
    pub fn read(&self, key: Key<'_>) -> Result<Option<Entry>, Error> {
        let path = self.path(key)?;
        let Some(text) = read_capped(&path)? else { return Ok(None) };
        let entry = parse(&text).or_else(|broken| legacy(&text, key).ok_or(broken));
        entry.map(Some).map_err(|e| Error { msg: format!("{}: {}", path.display(), e.msg), ..e })
    }

    /// Forgets an attachment; one that is not known is forgotten already.
    ///
    /// # Errors
    /// Code 5 when the file stays.
    pub fn remove(&self, key: Key<'_>) -> Result<(), Error> {
        let path = self.path(key)?;
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed(&path, "removed", &e)),
            _ => Ok(()),
        }
    }

    /// All attachments, in the order of the file names. A file that is broken or of another kind is passed over
    /// with a line in the log.
    ///
    /// # Errors
    /// Code 5 when the folder cannot be read; one that does not exist has no attachment.
    pub fn list(&self) -> Result<Vec<Entry>, Error> {
        self.read_all(|_| true)
    }

    /// The attachments of one container, without reading the files of others; otherwise as [`Cache::list`].
    ///
    /// # Errors
    /// As [`Cache::list`].
    pub fn of_container(&self, container_id: &str) -> Result<Vec<Entry>, Error> {
        let part = format!("-{container_id}-");
        let found = self
            .read_all(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(&part)))?;
        Ok(found.into_iter().filter(|entry| entry.container_id == container_id).collect())
    }

    fn read_all(&self, wanted: impl Fn(&Path) -> bool) -> Result<Vec<Entry>, Error> {
        let dir = self.results();
        let entries = match fs::read_dir(&dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.and_then(|entries| entries.collect::<io::Result<Vec<_>>>()),
        };
        let mut paths: Vec<PathBuf> =
            entries.map_err(|e| failed(&dir, "read", &e))?.iter().map(fs::DirEntry::path).collect();
        paths.retain(|path| wanted(path));
        paths.sort();
        let mut found = Vec::new();
        for path in paths {
            match read_capped(&path).and_then(|text| text.map(|text| parse(&text)).transpose()) {
                Ok(Some(entry)) if !entry.network.is_empty() && !entry.ifname.is_empty() => found.push(entry),
                Ok(_) => {}
                Err(e) => log::info!("{} is no remembered attachment: {}", path.display(), e.msg),
            }
        }
        Ok(found)
    }

    fn results(&self) -> PathBuf {
        self.dir.join("results")
    }

    fn path(&self, key: Key<'_>) -> Result<PathBuf, Error> {
        let Key { network, container_id, ifname } = key;
        let refused = |code, what: &str, text: &str| {
            Err(Error::new(code, format!("{what} {:?} cannot be part of a file name", one_line(text, 60))))
        };
        if !valid_network_name(network) {
            return refused(code::INVALID_CONFIG, "network", network);
        }
        if !valid_container_id(container_id) {
            return refused(code::BAD_ENVIRONMENT, "container id", container_id);
        }
        if !valid_ifname(ifname) {
            return refused(code::BAD_ENVIRONMENT, "interface", ifname);
        }
        Ok(self.results().join(format!("{network}-{container_id}-{ifname}")))
    }

    /// The temp file is beside the folder of results: libcni takes every file in there for an attachment.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(self.results())?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temp = self.dir.join(format!(".{name}.{}", std::process::id()));
        let written = write_synced(&temp, bytes).and_then(|()| fs::rename(&temp, path));
        if written.is_err() {
            // The first error is the one that tells.
            let _ = fs::remove_file(&temp);
        }
        written?;
        File::open(self.results())?.sync_all()
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn parse(text: &str) -> Result<Entry, Error> {
    let broken = |e: String| Error::new(code::DECODE, format!("broken: {e}"));
    let Keyed(wire): Keyed<Wire> = serde_json::from_str(text).map_err(|e| broken(e.to_string()))?;
    if wire.kind != KIND {
        return Err(broken(format!("kind {:?}, expected {KIND:?}", one_line(&wire.kind, 40))));
    }
    let config = base64::decode(&wire.config).and_then(|bytes| String::from_utf8(bytes).ok());
    let config = config.ok_or_else(|| broken("its configuration is no base64 of a text".to_owned()))?;
    let result = wire.result.filter(|raw| raw.get() != "null");
    let result = result.map(|raw| CniResult::parse(raw.get().as_bytes(), version::DEFAULT)).transpose()?;
    Ok(Entry {
        network: wire.network_name,
        container_id: wire.container_id,
        ifname: wire.if_name,
        netns: wire.netns,
        args: wire.cni_args,
        capability_args: wire.capability_args,
        config,
        result,
    })
}

/// Before libcni 0.8 the file was the result alone.
fn legacy(text: &str, key: Key<'_>) -> Option<Entry> {
    let object = Object::parse_capped(text, MAX_SIZE).ok()?;
    if object.get("kind").is_some()
        || ["ips", "ip4", "ip6", "interfaces"].iter().all(|k| object.get(k).is_none())
    {
        return None;
    }
    Some(Entry {
        network: key.network.to_owned(),
        container_id: key.container_id.to_owned(),
        ifname: key.ifname.to_owned(),
        result: Some(CniResult::parse(text.as_bytes(), version::DEFAULT).ok()?),
        ..Entry::default()
    })
}

fn read_capped(path: &Path) -> Result<Option<String>, Error> {
    let read = || -> io::Result<String> {
        let mut text = String::new();
        // A cut text is no JSON, so an excess is found by the parser.
        File::open(path)?.take(MAX_SIZE as u64).read_to_string(&mut text)?;
        Ok(text)
    };
    match read() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some).map_err(|e| failed(path, "read", &e)),
    }
}

fn failed(path: &Path, what: &str, e: &io::Error) -> Error {
    Error::new(code::IO, format!("{} cannot be {what}: {}", path.display(), io_words(e)))
}
