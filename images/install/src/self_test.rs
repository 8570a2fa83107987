//! Running a plugin with the one CNI command that changes nothing.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// How long the plugin may take to say which CNI versions it knows. It needs a millisecond.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Fails unless the program answers as a CNI plugin does.
pub(crate) fn run(plugin: &Path) -> Result<()> {
    let mut child = Command::new(plugin)
        .env_clear()
        .env("CNI_COMMAND", "VERSION")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start it")?;
    let mut stdin = child.stdin.take().context("it has no stdin")?;
    let mut stdout = child.stdout.take().context("it has no stdout")?;
    // Read aside, so that neither a full pipe nor silence holds this process up.
    let reader = std::thread::spawn(move || {
        let mut answer = Vec::new();
        stdout.by_ref().take(64 << 10).read_to_end(&mut answer).map(|_| answer)
    });
    // It may answer without reading, which closes the pipe.
    if let Err(e) = stdin.write_all(br#"{"cniVersion":"1.0.0","name":"self-test","type":"self-test"}"#) {
        log::debug!("the plugin did not read its stdin: {e}");
    }
    drop(stdin);
    let status = wait(&mut child)?;
    ensure!(status.success(), "CNI_COMMAND=VERSION ended with {status}");
    let answer = match reader.join() {
        Ok(answer) => answer.context("cannot read its answer")?,
        Err(_) => bail!("reading its answer failed"),
    };
    let answer: serde_json::Value =
        serde_json::from_slice(&answer).context("its answer to CNI_COMMAND=VERSION is not JSON")?;
    let versions = answer.get("supportedVersions").and_then(|v| v.as_array());
    ensure!(
        versions.is_some_and(|v| !v.is_empty()),
        "its answer to CNI_COMMAND=VERSION names no supportedVersions"
    );
    Ok(())
}

fn wait(child: &mut Child) -> Result<ExitStatus> {
    let end = Instant::now() + ANSWER_WITHIN;
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for it")? {
            return Ok(status);
        }
        if Instant::now() >= end {
            child.kill().context("cannot end it")?;
            child.wait().context("cannot wait for it")?;
            bail!("no answer to CNI_COMMAND=VERSION within {} s", ANSWER_WITHIN.as_secs());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
