//! What tests share: visible skips and a delegate that records its calls.
//!
//! A dev-dependency of any crate, a dependency of none. [`skip`] makes a test that cannot run here count as skipped.
//! [`Plugins`] is a folder of CNI plugins that are all the recording delegate: an oracle for what was called, in
//! which order, with which environment and configuration. [`api`] is an API server that fails as told, [`apiserver`] a
//! real one. [`fuzz`] runs parsers on mutations of a corpus. [`netns`] makes network namespaces that end with the test.

pub mod answer;
pub mod api;
pub mod apiserver;
pub mod fuzz;
pub mod netns;
pub mod random;
pub mod strace;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::SystemTime,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Says on standard error that the running test is skipped, and why; `cargo xtask test` counts these lines.
pub fn skip(reason: &str) {
    let name = std::thread::current().name().unwrap_or("test").to_owned();
    let line = format!("SKIPPED {name}: {reason}\n");
    // In one write, so that parallel tests do not split the line; a closed stderr has no reader to miss it.
    drop(std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()));
}

/// What the recording delegate answers to ADD where its configuration says nothing: one interface, one address.
pub fn default_result(version: &str, ifname: &str, netns: &str) -> Value {
    let interface = json!({"name": ifname, "mac": "02:00:00:00:00:01", "sandbox": netns});
    match version {
        "0.1.0" | "0.2.0" => json!({"cniVersion": version, "ip4": {"ip": "192.0.2.10/24"}}),
        "0.3.0" | "0.3.1" | "0.4.0" => json!({"cniVersion": version, "interfaces": [interface],
            "ips": [{"version": "4", "interface": 0, "address": "192.0.2.10/24"}]}),
        _ => json!({"cniVersion": version, "interfaces": [interface],
            "ips": [{"interface": 0, "address": "192.0.2.10/24"}]}),
    }
}

/// One call of a recording delegate.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Record {
    /// The name that it was run by.
    pub plugin: String,
    /// Its `CNI_*` variables.
    pub env: BTreeMap<String, String>,
    /// Its configuration, byte for byte.
    pub stdin: String,
    /// Its process.
    pub pid: i32,
    /// The process that it started, for the behaviours that start one.
    #[serde(default)]
    pub grandchild: Option<i32>,
    /// The network namespace that it ran in, as `/proc/self/ns/net` names it.
    #[serde(default)]
    pub netns: String,
}

impl Record {
    /// `CNI_COMMAND`.
    pub fn command(&self) -> &str {
        self.var("CNI_COMMAND")
    }

    /// One of its variables; empty where it is not set.
    pub fn var(&self, name: &str) -> &str {
        self.env.get(name).map(String::as_str).unwrap_or_default()
    }

    /// Its configuration, decoded; `null` where it is no JSON.
    pub fn config(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdin).unwrap_or_default()
    }
}

/// The calls recorded in a file, oldest first; none where there is no file yet.
pub fn records(path: &Path) -> Result<Vec<Record>> {
    let text = match fs::read_to_string(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(|| path.display().to_string())?,
    };
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

/// A throw-away folder of plugins that are all the recording delegate, and a place for their records.
#[derive(Debug)]
pub struct Plugins {
    dir: TempDir,
}

impl Plugins {
    /// A folder with a recording delegate under each of `names`.
    pub fn new(names: &[&str]) -> Result<Self> {
        let plugins = Self { dir: TempDir::new()? };
        fs::create_dir(plugins.bin())?;
        for name in names {
            plugins.add(name)?;
        }
        Ok(plugins)
    }

    /// Puts one more recording delegate into the folder.
    pub fn add(&self, name: &str) -> Result<()> {
        // A link where it can be one: a copied binary may still count as being written when it is run.
        let (from, to) = (recording_delegate()?, self.bin().join(name));
        if fs::hard_link(&from, &to).is_err() {
            fs::copy(&from, &to).with_context(|| to.display().to_string())?;
        }
        Ok(())
    }

    /// The folder of the binaries: what goes into `CNI_PATH`.
    pub fn bin(&self) -> PathBuf {
        self.dir.path().join("bin")
    }

    /// The whole throw-away folder, for a test's own files.
    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// The file for the configuration key `record`.
    pub fn record_file(&self) -> PathBuf {
        self.dir.path().join("records.jsonl")
    }

    /// What was recorded there.
    pub fn records(&self) -> Result<Vec<Record>> {
        records(&self.record_file())
    }

    /// `VERB network ifname` of every call recorded there, in order; `network` is a key of the configuration.
    pub fn calls(&self) -> Result<Vec<String>> {
        let shown = |call: &Record| {
            let config = call.config();
            let network = config["network"].as_str().unwrap_or("?");
            format!("{} {network} {}", call.command(), call.var("CNI_IFNAME"))
        };
        Ok(self.records()?.iter().map(shown).collect())
    }

    /// Names of the files in a folder below the root, sorted; none where there is no folder.
    pub fn files(&self, below: &str) -> Result<Vec<String>> {
        let entries = match fs::read_dir(self.root().join(below)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.with_context(|| below.to_owned())?,
        };
        let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
        let mut names = entries.map(name).collect::<Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    /// Files of sandboxes that a plugin left, where its state is in `state` and `run` below the root.
    pub fn left(&self) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for folder in ["state/journal", "state/given-up", "run/plain", "run/lock"] {
            left.extend(self.files(folder)?.into_iter().map(|name| format!("{folder}/{name}")));
        }
        Ok(left)
    }
}

/// The recording delegate's binary, built where it is missing or older than its source.
pub fn recording_delegate() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| find_or_build().map_err(|e| format!("{e:#}")));
    built.clone().map_err(anyhow::Error::msg)
}

fn find_or_build() -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let deps = exe.parent().context("the test has no folder")?;
    let profile = if deps.ends_with("deps") { deps.parent().unwrap_or(deps) } else { deps };
    let binary = profile.join("recording-delegate");
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = ["src/bin/recording-delegate.rs", "src/lib.rs"].map(|source| package.join(source));
    if sources.iter().all(|source| is_current(&binary, source)) {
        return Ok(binary);
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--package", "testkit", "--bin", "recording-delegate"]);
    if profile.ends_with("release") {
        build.arg("--release");
    }
    build.arg("--target-dir").arg(profile.parent().context("the test has no target folder")?);
    let output = build.current_dir(package).output().context("cargo does not start")?;
    if !output.status.success() {
        bail!("recording-delegate does not build: {}", String::from_utf8_lossy(&output.stderr));
    }
    // Cargo leaves a binary alone that it finds unchanged, whatever its age.
    fs::File::open(&binary)?.set_modified(SystemTime::now())?;
    Ok(binary)
}

fn is_current(binary: &Path, source: &Path) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|m| m.modified());
    match (modified(binary), modified(source)) {
        (Ok(binary), Ok(source)) => binary >= source,
        (Ok(_), Err(_)) => true,
        _ => false,
    }
}
