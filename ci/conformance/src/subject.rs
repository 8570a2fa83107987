//! Plugins that can be called: ours, with their daemon where they have one, and somebody else's.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use crate::{
    api::{Api, Process},
    pod::ANNOTATIONS_CAPABILITY,
    stage::Stage,
};

/// No call takes longer; one that hangs is a failure and not a wait.
const CALL_SECONDS: &str = "60";

/// A plugin, and how it is called.
#[derive(Debug)]
pub struct Subject {
    /// For people.
    pub name: &'static str,
    /// For names of namespaces.
    pub letter: char,
    /// It promises what this project promises, slugs and all.
    pub ours: bool,
    pub(crate) binary: PathBuf,
    /// What the config has for this subject, before the case's own keys.
    pub(crate) keys: Map<String, Value>,
    /// Where delegates record, if the subject's own processes start them.
    pub(crate) record: Option<PathBuf>,
    /// Ends with this value.
    pub(crate) daemon: Option<Process>,
}

/// What a call came to.
#[derive(Debug)]
pub struct Outcome {
    /// Exit code; 128 and more for a signal.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it logged.
    pub stderr: String,
}

impl Subject {
    /// `multus-shim` with a `multus-daemon` of its own in `folder`.
    pub fn shim(api: &Api, folder: &Path) -> Result<Self> {
        let bin = build(&["multus-shim", "multus-daemon"])?;
        let (state, run) = (folder.join("state"), folder.join("run"));
        fs::create_dir_all(state.join("journal"))?;
        fs::create_dir_all(&run)?;
        let socket = run.join("daemon/multus.sock");
        let shown = |path: &Path| path.display().to_string();
        let args = vec![
            "--socket".to_owned(),
            shown(&socket),
            "--journal-dir".to_owned(),
            shown(&state.join("journal")),
            "--plain-dir".to_owned(),
            shown(&run.join("plain")),
            "--kubeconfig".to_owned(),
            shown(&api.kubeconfig()),
            "--node-name".to_owned(),
            "node1".to_owned(),
        ];
        let log = folder.join("daemon.log");
        let mut daemon = Process::start(&bin.join("multus-daemon"), &args, &[], &log)?;
        wait_for(&socket, &mut daemon, &log)?;
        Ok(Self {
            name: "multus-shim",
            letter: 's',
            ours: true,
            binary: bin.join("multus-shim"),
            keys: object(
                json!({"type": "multus-shim", "stateDir": state, "runDir": run, "daemonWaitSeconds": 5}),
            ),
            record: None,
            daemon: Some(daemon),
        })
    }

    /// The thin binary `multus`.
    pub fn thin(api: &Api, folder: &Path) -> Result<Self> {
        let bin = build(&["multus"])?;
        let (state, run) = (folder.join("state"), folder.join("run"));
        fs::create_dir_all(&state)?;
        Ok(Self {
            name: "multus",
            letter: 't',
            ours: true,
            binary: bin.join("multus"),
            keys: object(
                json!({"type": "multus", "stateDir": state, "runDir": run, "kubeconfig": api.kubeconfig()}),
            ),
            record: None,
            daemon: None,
        })
    }

    /// The config on standard input, with the step's own keys.
    pub fn config(&self, stage: &Stage<'_>, step: &Map<String, Value>) -> Value {
        let case = &stage.case;
        let mut config = self.keys.clone();
        config.insert("cniVersion".to_owned(), stage.word("v").into());
        config.insert("name".to_owned(), stage.network_name().into());
        if let Some(primary) = stage.primary_file() {
            config.insert("clusterNetwork".to_owned(), json!(primary));
        }
        if case.config.contains_key("delegates") {
            config.remove("clusterNetwork");
        }
        if !self.ours {
            let root = stage.word("root");
            config.insert("cniDir".to_owned(), format!("{root}/cni").into());
            config.insert("binDir".to_owned(), stage.word("bin").into());
        }
        let mut runtime_config = case.runtime.config.clone();
        if case.runtime.annotations {
            runtime_config.insert(ANNOTATIONS_CAPABILITY.to_owned(), json!(stage.annotations()));
        }
        let capabilities: BTreeMap<&String, bool> = runtime_config.keys().map(|key| (key, true)).collect();
        config.insert("capabilities".to_owned(), json!(capabilities));
        if !runtime_config.is_empty() {
            config.insert("runtimeConfig".to_owned(), Value::Object(runtime_config));
        }
        for (key, value) in case.config.iter().chain(step) {
            if value.is_null() {
                config.remove(key);
            } else {
                config.insert(key.clone(), value.clone());
            }
        }
        Value::Object(config)
    }

    /// Where delegates of this stage record.
    pub fn record_file(&self, stage: &Stage<'_>) -> PathBuf {
        self.record.clone().unwrap_or_else(|| PathBuf::from(stage.word("root")).join("records.jsonl"))
    }

    /// Files that the plugin keeps of the stage's sandbox.
    fn kept(&self, stage: &Stage<'_>) -> Vec<PathBuf> {
        let folder =
            |key: &str| PathBuf::from(self.keys.get(key).and_then(Value::as_str).unwrap_or_default());
        let file = format!("{}.json", stage.word("id"));
        let (state, run) = (folder("stateDir"), folder("runDir"));
        [state.join("journal"), state.join("given-up"), run.join("plain")].map(|f| f.join(&file)).into()
    }

    /// Dates those files two hours back.
    pub fn age(&self, stage: &Stage<'_>) -> Result<()> {
        let then = SystemTime::now() - Duration::from_secs(7200);
        for file in self.kept(stage).iter().filter(|file| file.exists()) {
            fs::File::options().append(true).open(file)?.set_modified(then)?;
        }
        Ok(())
    }

    /// Removes them, so that what a case left is no matter of another's.
    pub fn forget(&self, stage: &Stage<'_>) -> Result<()> {
        self.kept(stage).iter().filter(|file| file.exists()).try_for_each(|file| Ok(fs::remove_file(file)?))
    }

    /// Runs the plugin.
    pub fn call(&self, stage: &Stage<'_>, env: &BTreeMap<String, String>, stdin: &str) -> Result<Outcome> {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", CALL_SECONDS]).arg(&self.binary);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").envs(env);
        command.env("RECORD_FILE", self.record_file(stage));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| self.binary.display().to_string())?;
        if let Some(mut pipe) = child.stdin.take() {
            // A plugin that has seen enough need not read the rest.
            drop(pipe.write_all(stdin.as_bytes()));
        }
        let done = child.wait_with_output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = done.status.code().unwrap_or(128);
        Ok(Outcome { code, stdout: text(&done.stdout), stderr: text(&done.stderr) })
    }
}

pub(crate) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

pub(crate) fn wait_for(socket: &Path, daemon: &mut Process, log: &Path) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(20);
    while std::os::unix::net::UnixStream::connect(socket).is_err() {
        daemon.check(log)?;
        if Instant::now() > until {
            bail!("nothing answers on {} after 20 s", socket.display());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Builds binaries of this workspace beside the running program, and says where they are.
fn build(programs: &[&str]) -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let folder = exe.parent().context("the program has no folder")?;
    let profile = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    let target = profile.parent().context("the program is in no target folder")?;
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Of the whole workspace, which the tests have just been built of: alone, their dependencies would be other ones.
    command.args(["build", "--quiet", "--workspace"]).arg("--target-dir").arg(target);
    command.args(programs.iter().flat_map(|program| ["--bin", program])).current_dir(workspace());
    if profile.ends_with("release") {
        command.arg("--release");
    }
    let done = command.output().context("cannot run cargo")?;
    if !done.status.success() {
        bail!("{} do not build: {}", programs.join(", "), String::from_utf8_lossy(&done.stderr));
    }
    Ok(profile.to_owned())
}
