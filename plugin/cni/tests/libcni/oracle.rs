//! The other side: builds the Go program once and talks to it, a line each way.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::OnceLock,
};

use serde::Deserialize;
use serde_json::Value;

/// What libcni said; see `tests/oracle/main.go`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
    pub(crate) error: String,
    pub(crate) text: String,
    pub(crate) ours: String,
    pub(crate) ours_error: String,
    pub(crate) network: Option<Network>,
    pub(crate) plugin: Option<Plugin>,
    pub(crate) config: Option<String>,
    pub(crate) args: Option<Value>,
    pub(crate) attachments: Option<Vec<Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Network {
    pub(crate) name: String,
    pub(crate) cni_version: String,
    pub(crate) disable_check: bool,
    #[serde(rename = "disableGC")]
    pub(crate) disable_gc: bool,
    pub(crate) plugins: Option<Vec<Plugin>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Plugin {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) cni_version: String,
    pub(crate) capabilities: Option<std::collections::BTreeMap<String, bool>>,
    pub(crate) ipam_type: String,
    pub(crate) bytes: String,
}

pub(crate) struct Oracle {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// The program's file; `None` after a visible skip.
pub(crate) fn binary() -> Option<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BUILT.get_or_init(build).as_ref().inspect_err(|reason| testkit::skip(reason)).ok().cloned()
}

impl Oracle {
    /// Starts it; `None` after a visible skip.
    pub(crate) fn start() -> Option<Self> {
        let binary = binary()?;
        let mut child = Command::new(binary).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (questions, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Some(Self { child, questions, answers: BufReader::new(answers) })
    }

    pub(crate) fn ask(&mut self, question: &Value) -> Answer {
        self.ask_all(std::slice::from_ref(question)).remove(0)
    }

    /// Several at once are quicker than one after the other.
    pub(crate) fn ask_all(&mut self, questions: &[Value]) -> Vec<Answer> {
        let text: String = questions.iter().map(|question| format!("{question}\n")).collect();
        self.questions.write_all(text.as_bytes()).unwrap();
        let answer = |question: &Value| {
            let mut line = String::new();
            self.answers.read_line(&mut line).unwrap();
            serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?} for {question}"))
        };
        questions.iter().map(answer).collect()
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The built program, or why this machine cannot have it. A program that does not compile is a failure.
fn build() -> Result<PathBuf, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle");
    let binary = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libcni-oracle");
    let go = ["go", "/usr/local/go/bin/go"]
        .into_iter()
        .find(|go| {
            Command::new(go).arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
        })
        .ok_or("Go is missing, and with it libcni to compare with")?;
    let run = |args: &[&str]| {
        let mut command = Command::new(go);
        command.args(args).current_dir(&source).env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly");
        command.output().unwrap()
    };
    let download = run(&["mod", "download"]);
    if !download.status.success() {
        return Err("libcni cannot be fetched from the Go module proxy".to_owned());
    }
    let built = run(&["build", "-buildvcs=false", "-o", &binary.display().to_string(), "."]);
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Ok(binary)
}
