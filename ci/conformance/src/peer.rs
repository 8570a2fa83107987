//! Go Multus, from a folder of binaries that the user gives: thin (`multus`) and thick (`multus-shim`,
//! `multus-daemon`).

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use serde_json::json;

use crate::{
    api::{Api, Process},
    subject::{Subject, object, wait_for},
};

/// Where a pod finds its service account; the daemon looks nowhere else.
const ACCOUNT: &str = "/run/secrets/kubernetes.io/serviceaccount";

/// Gives the daemon that folder in a mount namespace of its own, then becomes the daemon.
const AS_A_POD: &str = r#"set -e
mount -t tmpfs tmpfs /run
mkdir -p "$1"
cp "$2" "$1/ca.crt"
printf %s "$3" > "$1/token"
shift 3
exec "$@""#;

/// The thin plugin.
///
/// # Errors
/// When it is not in the folder.
pub fn thin(api: &Api, binaries: &Path) -> Result<Subject> {
    Ok(Subject {
        name: "Go Multus, thin",
        letter: 'p',
        ours: false,
        binary: found(binaries, "multus")?,
        keys: object(json!({"type": "multus", "kubeconfig": api.kubeconfig(), "logToStderr": true})),
        record: None,
        daemon: None,
    })
}

/// The shim, without its daemon yet: that has to be started when all objects and namespaces exist.
///
/// # Errors
/// When it is not in the folder.
pub fn thick(binaries: &Path, folder: &Path) -> Result<Subject> {
    let socket_dir = folder.join("socket");
    fs::create_dir_all(&socket_dir)?;
    Ok(Subject {
        name: "Go Multus, thick",
        letter: 'q',
        ours: false,
        binary: found(binaries, "multus-shim")?,
        keys: object(json!({"type": "multus-shim", "daemonSocketDir": socket_dir, "logToStderr": true})),
        record: Some(folder.join("records.jsonl")),
        daemon: None,
    })
}

/// Starts the daemon of a thick plugin.
///
/// # Errors
/// When it does not come up; its log has the reason.
pub fn start_daemon(subject: &mut Subject, api: &Api, binaries: &Path, folder: &Path) -> Result<()> {
    let conf = folder.join("net.d");
    fs::create_dir_all(&conf)?;
    let primary = json!({"cniVersion": "1.0.0", "name": "unused", "plugins": [{"type": "unused"}]});
    fs::write(conf.join("10-unused.conflist"), primary.to_string())?;
    // In a spelling that the daemon reads and its overlay over every call does not, or all calls had this version.
    let config = json!({"CNIVERSION": "1.0.0", "socketDir": folder.join("socket"), "multusConfigFile": "auto",
        "cniConfigDir": conf, "multusAutoconfigDir": conf, "logToStderr": true, "logLevel": "debug"});
    let file = folder.join("daemon-config.json");
    fs::write(&file, config.to_string())?;
    let text = |path: PathBuf| path.display().to_string();
    let args = ["--mount", "--propagation", "private", "sh", "-c", AS_A_POD, "sh", ACCOUNT];
    let mut args: Vec<String> = args.into_iter().map(str::to_owned).collect();
    args.extend([text(api.authority()), api.token().to_owned()]);
    args.extend([text(found(binaries, "multus-daemon")?), "-config".to_owned(), text(file)]);
    let record = subject.record.clone().unwrap_or_default();
    let env = [
        ("KUBERNETES_SERVICE_HOST", "127.0.0.1".to_owned()),
        ("KUBERNETES_SERVICE_PORT", api.port().to_string()),
        ("MULTUS_NODE_NAME", "node1".to_owned()),
        ("RECORD_FILE", text(record)),
    ];
    let log = folder.join("daemon.log");
    let mut daemon = Process::start(Path::new("/usr/bin/unshare"), &args, &env, &log)?;
    wait_for(&folder.join("socket/multus.sock"), &mut daemon, &log)?;
    subject.daemon = Some(daemon);
    Ok(())
}

fn found(binaries: &Path, name: &str) -> Result<PathBuf> {
    let path = binaries.join(name);
    if !path.is_file() {
        bail!(
            "there is no {name} in {}; it must hold multus, multus-shim and multus-daemon",
            binaries.display()
        );
    }
    Ok(path)
}
