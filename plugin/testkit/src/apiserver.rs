//! A real Kubernetes API server with its etcd, on loopback, for one test process.
//!
//! The programs are those of the test cluster (`cargo xtask cluster tools`), in `$MULTUS_CACHE/bin`, else
//! `~/.cache/multus-rs/bin`. [`ApiServer::missing`] says why a machine has none.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

/// Both programs compile large schemas at start, on machines with little to spare.
const START: Duration = Duration::from_secs(90);

/// Token of a user that may do everything.
pub const ADMIN: &str = "token-of-admin";
/// Token of a user that has the rights that [`ApiServer::allow`] gives.
pub const USER: &str = "token-of-user";

/// The rules that the chart gives to the daemon.
pub fn chart_rights() -> Value {
    json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods/status"], "verbs": ["patch"]},
        {"apiGroups": ["k8s.cni.cncf.io"], "resources": ["network-attachment-definitions"],
            "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
    ])
}

/// The running server; it ends with the test's process.
#[derive(Debug)]
pub struct ApiServer {
    folder: PathBuf,
    port: u16,
    pid: i32,
    kubectl: PathBuf,
    _janitor: Child,
}

impl ApiServer {
    /// What is missing on this machine, for a visible skip.
    pub fn missing() -> Option<String> {
        programs().err().map(|error| format!("{error:#}"))
    }

    /// The server of this test process, started on first use.
    ///
    /// # Errors
    /// When it does not start, with its own last lines.
    pub fn shared() -> Result<&'static Self> {
        static SERVER: OnceLock<Result<ApiServer, String>> = OnceLock::new();
        let started = SERVER.get_or_init(|| Self::start().map_err(|error| format!("{error:#}")));
        started.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
    }

    /// The server for one test at a time, since some make it hang and others change rights. Its [`USER`] has
    /// [`chart_rights`]. `None` where the machine has none; the test is then skipped visibly.
    ///
    /// # Errors
    /// When it does not start or take the rights.
    pub fn alone() -> Result<Option<(&'static Self, MutexGuard<'static, ()>)>> {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = Self::missing() {
            crate::skip(&why);
            return Ok(None);
        }
        let server = Self::shared()?;
        server.allow(&chart_rights())?;
        Ok(Some((server, alone)))
    }

    fn start() -> Result<Self> {
        let bin = programs()?;
        // What is kept for the life of a process is never dropped: the janitor removes it.
        let root = tempfile::tempdir()?.keep();
        certificates(&root)?;
        fs::write(
            root.join("tokens.csv"),
            format!("{ADMIN},admin,admin,system:masters\n{USER},user,user,\n"),
        )?;
        let (client, peer, port) = (free_port()?, free_port()?, free_port()?);
        let mut etcd = Command::new(bin.join("etcd"));
        etcd.arg(format!("--data-dir={}", root.join("etcd").display()))
            .arg(format!("--listen-client-urls=http://127.0.0.1:{client}"))
            .arg(format!("--advertise-client-urls=http://127.0.0.1:{client}"))
            .arg(format!("--listen-peer-urls=http://127.0.0.1:{peer}"))
            .args(["--unsafe-no-fsync", "--log-level=error"]);
        let etcd = spawn(etcd, &root.join("etcd.log"))?;
        let file = |name: &str| root.join(name).display().to_string();
        let mut server = Command::new(bin.join("kube-apiserver"));
        server
            .arg(format!("--etcd-servers=http://127.0.0.1:{client}"))
            .arg(format!("--secure-port={port}"))
            .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--authorization-mode=RBAC"])
            .args([
                "--service-cluster-ip-range=10.96.0.0/24",
                "--service-account-issuer=https://test",
                "--profiling=false",
            ])
            .args(["--disable-admission-plugins=ServiceAccount", "--endpoint-reconciler-type=none"])
            .arg(format!("--tls-cert-file={}", file("server.crt")))
            .arg(format!("--tls-private-key-file={}", file("server.key")))
            .arg(format!("--client-ca-file={}", file("ca.crt")))
            .arg(format!("--token-auth-file={}", file("tokens.csv")))
            .arg(format!("--service-account-key-file={}", file("sa.pub")))
            .arg(format!("--service-account-signing-key-file={}", file("sa.key")));
        let server = spawn(server, &root.join("kube-apiserver.log"))?;
        let janitor = clean_up_afterwards(&root, [&etcd, &server])?;
        let pid = i32::try_from(server.id())?;
        let mut kubectl = bin;
        kubectl.push("kubectl");
        let running = Self { folder: root, port, pid, kubectl, _janitor: janitor };
        running.await_ready(server)?;
        running.install_definitions()?;
        Ok(running)
    }

    fn await_ready(&self, mut server: Child) -> Result<()> {
        fs::write(self.file("admin"), self.kubeconfig(&json!({ "token": ADMIN })))?;
        let end = Instant::now() + START;
        while !self.kubectl(&["get", "--raw", "/readyz"]).is_ok_and(|answer| answer == "ok") {
            let ended = server.try_wait()?.is_some();
            if ended || Instant::now() > end {
                let log = fs::read_to_string(self.file("kube-apiserver.log")).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(5).collect();
                bail!("kube-apiserver ended or is not ready after {} s: {tail:?}", START.as_secs());
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn install_definitions(&self) -> Result<()> {
        let names = json!({"plural": "network-attachment-definitions", "singular": "network-attachment-definition",
            "kind": "NetworkAttachmentDefinition", "shortNames": ["nad"]});
        let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec":
            {"type": "object", "properties": {"config": {"type": "string"}}}}}});
        self.apply(&json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "network-attachment-definitions.k8s.cni.cncf.io"},
            "spec": {"group": "k8s.cni.cncf.io", "scope": "Namespaced", "names": names,
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]}}))?;
        self.kubectl(&[
            "wait",
            "--for=condition=Established",
            "--timeout=30s",
            "crd/network-attachment-definitions.k8s.cni.cncf.io",
        ])?;
        Ok(())
    }

    /// `host:port`, with TLS.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A file of the server's: `ca.crt`, `client.crt` and `client.key` of the user `user`, `other-ca.crt` that signed
    /// nothing here.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A kubeconfig with the CA as a file and these keys as its user.
    pub fn kubeconfig(&self, user: &Value) -> String {
        self.kubeconfig_with(&json!({ "certificate-authority": self.file("ca.crt") }), user)
    }

    /// A kubeconfig with these keys, next to the address, as its cluster, and these as its user.
    pub fn kubeconfig_with(&self, cluster: &Value, user: &Value) -> String {
        let mut cluster = cluster.clone();
        cluster["server"] = json!(format!("https://{}", self.address()));
        json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": cluster}], "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]})
        .to_string()
    }

    /// Runs kubectl as admin and gives what it prints.
    ///
    /// # Errors
    /// When it fails, with what it says.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        answer(Command::new(&self.kubectl).env("KUBECONFIG", self.file("admin")).args(arguments).output()?)
    }

    /// Creates or changes an object.
    ///
    /// # Errors
    /// When the server refuses it.
    pub fn apply(&self, object: &Value) -> Result<()> {
        let file = tempfile::NamedTempFile::new_in(&self.folder)?;
        fs::write(file.path(), object.to_string())?;
        let path = file.path().display().to_string();
        self.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &path]).map(drop)
    }

    /// Gives the user `user` the rights of these RBAC rules, and no others.
    ///
    /// # Errors
    /// When the server refuses them.
    pub fn allow(&self, rules: &Value) -> Result<()> {
        let group = "rbac.authorization.k8s.io";
        self.apply(
            &json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRole", "metadata": {"name": "user"},
            "rules": rules}),
        )?;
        self.apply(&json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding",
            "metadata": {"name": "user"}, "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "user"},
            "subjects": [{"apiGroup": group, "kind": "User", "name": "user"}]}))
    }

    /// Creates or changes a definition.
    ///
    /// # Errors
    /// When the server refuses it.
    pub fn create_network(&self, namespace: &str, name: &str, config: &str) -> Result<()> {
        self.apply(&json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
            "metadata": {"namespace": namespace, "name": name}, "spec": {"config": config}}))
    }

    /// Creates a pod that nothing runs, and gives its uid.
    ///
    /// # Errors
    /// When the server refuses it.
    pub fn create_pod(&self, namespace: &str, name: &str, annotations: &Value) -> Result<String> {
        self.apply(&json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": namespace, "name": name, "annotations": annotations},
            "spec": {"nodeName": "node1", "containers": [{"name": "c", "image": "none"}]}}))?;
        self.kubectl(&["-n", namespace, "get", "pod", name, "-o", "jsonpath={.metadata.uid}"])
    }

    /// Stops the server where it stands, as one that hangs: connections are taken and nothing is answered.
    #[must_use]
    pub fn hang(&self) -> Hanging<'_> {
        signal(self.pid, Signal::SIGSTOP);
        Hanging(self)
    }
}

/// The server goes on when this is dropped.
#[derive(Debug)]
pub struct Hanging<'a>(&'a ApiServer);

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        signal(self.0.pid, Signal::SIGCONT);
    }
}

fn signal(pid: i32, signal: Signal) {
    if let Err(error) = kill(Pid::from_raw(pid), signal) {
        eprintln!("kube-apiserver ({pid}): {signal}: {error}");
    }
}

fn programs() -> Result<PathBuf> {
    let cache = match (std::env::var_os("MULTUS_CACHE"), std::env::var_os("HOME")) {
        (Some(cache), _) if !cache.is_empty() => PathBuf::from(cache),
        (_, Some(home)) => PathBuf::from(home).join(".cache/multus-rs"),
        _ => bail!("neither MULTUS_CACHE nor HOME is set"),
    };
    let bin = cache.join("bin");
    for name in ["etcd", "kube-apiserver", "kubectl"] {
        if !bin.join(name).is_file() {
            bail!("no {name} in {}: cargo xtask cluster up builds it", bin.display());
        }
    }
    Ok(bin)
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn spawn(mut command: Command, log: &Path) -> Result<Child> {
    let log = fs::File::create(log)?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().with_context(|| format!("cannot run {}", command.get_program().display()))
}

/// Waits until this process is gone, however it ended, then ends the programs and removes their folder.
fn clean_up_afterwards(folder: &Path, programs: [&Child; 2]) -> Result<Child> {
    let mut janitor = Command::new("sh");
    janitor.args(["-c", "cat; kill -9 $2 $3; sleep 0.2; rm -rf \"$1\"", "janitor"]).arg(folder);
    janitor.args(programs.map(|program| program.id().to_string()));
    // Its standard input ends when nobody holds the other end any more.
    janitor.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    janitor.spawn().context("cannot run sh")
}

/// A CA, the server's certificate, one for a client, and a CA that signed nothing.
fn certificates(root: &Path) -> Result<()> {
    let openssl = |arguments: &str, more: &[&str]| -> Result<()> {
        let mut command = Command::new("openssl");
        command.args(arguments.split_whitespace()).args(more).current_dir(root);
        answer(command.output().context("no openssl here")?).map(drop)
    };
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
    openssl(&format!("{new} -keyout ca.key -out ca.crt -subj /CN=ca"), &[])?;
    openssl(&format!("{new} -keyout other-ca.key -out other-ca.crt -subj /CN=other"), &[])?;
    // `req -x509` marks what it signs as a CA, which rustls does not take for a server.
    let signed = format!("{new} -CA ca.crt -CAkey ca.key -addext basicConstraints=critical,CA:FALSE");
    let names = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:kubernetes"];
    openssl(&format!("{signed} -keyout server.key -out server.crt -subj /CN=kube-apiserver"), &names)?;
    openssl(&format!("{signed} -keyout client.key -out client.crt -subj /CN=user"), &[])?;
    openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out sa.key", &[])?;
    openssl("pkey -in sa.key -pubout -out sa.pub", &[])
}

fn answer(output: Output) -> Result<String> {
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
