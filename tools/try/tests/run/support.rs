//! The binary, the plugins, and the state of this machine.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use serde_json::Value;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_multus-try");

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub(crate) fn example(name: &str) -> String {
    root().join("docs/examples").join(name).display().to_string()
}

/// Whether tests that need namespaces can run here; says so when not.
pub(crate) fn unable() -> bool {
    let able = Command::new("unshare").args(["-nmpf", "true"]).status().is_ok_and(|status| status.success());
    let tools = Command::new("ip").arg("-Version").output().is_ok();
    if !able || !tools {
        testkit::skip("namespaces need root and util-linux, links need iproute2");
    }
    !able || !tools
}

/// The folder of the reference plugins, or a visible skip.
pub(crate) fn plugins() -> Option<PathBuf> {
    let found =
        multus_try::run::plugins::folders(&[]).into_iter().find(|folder| folder.join("macvlan").is_file());
    if found.is_none() {
        testkit::skip("the reference plugins are missing: cargo xtask cluster tools");
    }
    found
}

pub(crate) fn run(args: &[&str]) -> Output {
    Command::new(BINARY).args(args).output().unwrap()
}

/// Runs with `--output json`: the exit code and the report.
pub(crate) fn report(args: &[&str]) -> (i32, Value) {
    let output = run(&[args, &["--output", "json"]].concat());
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), report)
}

/// A folder with a definition and a plugin that is a shell script.
pub(crate) struct Own {
    dir: tempfile::TempDir,
}

impl Own {
    /// `cases` is what the script does for each verb; it has the variables of a plugin.
    pub(crate) fn new(cases: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("bin")).unwrap();
        let script = format!("#!/bin/sh\ncat > /dev/null\ncase $CNI_COMMAND in\n{cases}\nesac\n");
        let path = dir.path().join("bin/own");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let manifest = "# multus-try: allow unknown-plugin\n\
            apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\nmetadata: { name: own }\n\
            spec: { config: '{\"cniVersion\":\"1.0.0\",\"type\":\"own\",\"big\":12345678901234567890}' }\n";
        fs::write(dir.path().join("own.yaml"), manifest).unwrap();
        Self { dir }
    }

    pub(crate) fn manifest(&self) -> String {
        self.dir.path().join("own.yaml").display().to_string()
    }

    pub(crate) fn bin(&self) -> String {
        self.dir.path().join("bin").display().to_string()
    }

    pub(crate) fn report(&self, more: &[&str]) -> (i32, Value) {
        let (manifest, bin) = (self.manifest(), self.bin());
        report(&[&[manifest.as_str(), "--plugin-dir", bin.as_str()], more].concat())
    }
}

/// What a run could change on the machine: links, mounts, files, processes of ours.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    links: BTreeSet<String>,
    mounts: String,
    files: BTreeSet<PathBuf>,
}

impl Machine {
    pub(crate) fn now() -> Self {
        let list = nix::net::if_::if_nameindex().unwrap();
        let mut files = BTreeSet::new();
        for folder in ["/run/multus-try", "/run/netns", "/var/lib/cni", "/run/cni", "/run/multus-rs"] {
            walk(Path::new(folder), &mut files);
        }
        // Others of this machine run tests too: what is not ours may change.
        let ours = |line: &&str| line.contains("multus-try");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let name = |link: &nix::net::if_::Interface| link.name().to_string_lossy().into_owned();
        let ours_too = |name: &String| {
            ["try", "wire", "switch", "br-demo", "br-gateway"].iter().any(|ours| name.starts_with(ours))
        };
        Self {
            links: list.iter().map(name).filter(ours_too).collect(),
            mounts: mounts.lines().filter(ours).collect(),
            files: files
                .into_iter()
                .filter(|file| !file.starts_with("/run/netns") || !file.exists())
                .collect(),
        }
    }
}

fn walk(folder: &Path, files: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), files);
        }
        files.insert(entry.path());
    }
}

/// Processes that run our binary as a host, by their environment.
pub(crate) fn hosts() -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let own = fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == Path::new(BINARY));
        own && environment.windows(20).any(|part| part == b"MULTUS_TRY_ROLE=host")
    })
    .collect()
}

/// Waits for a condition, not for long.
pub(crate) fn await_that(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < end, "{what} takes too long");
        std::thread::sleep(Duration::from_millis(20));
    }
}
