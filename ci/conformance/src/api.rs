//! A real API server for one run: etcd and kube-apiserver on loopback, with ports and a folder of its own.
//!
//! `kubectl proxy` answers plain HTTP on a unix socket, so that nothing here needs TLS.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(50);
/// Secret of a server that listens on loopback and lives for a test.
const TOKEN: &str = "token-of-admin";
const MERGE_PATCH: &str = "application/merge-patch+json";

/// A running API server; it ends with this value.
#[derive(Debug)]
pub struct Api {
    folder: PathBuf,
    port: u16,
    // In the order in which they end.
    _processes: Vec<Process>,
}

/// A child process that ends with this value.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts a program whose output goes to `log`, and which ends when this process does.
    pub fn start(program: &Path, args: &[String], env: &[(&str, String)], log: &Path) -> Result<Self> {
        let file = fs::File::create(log).with_context(|| log.display().to_string())?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(args);
        command.envs(env.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        Ok(Self(command.spawn().with_context(|| format!("cannot start {}", program.display()))?))
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Fails with the end of its log when it has ended.
    pub fn check(&mut self, log: &Path) -> Result<()> {
        let Some(status) = self.0.try_wait()? else { return Ok(()) };
        let text = fs::read_to_string(log).unwrap_or_default();
        let last: Vec<&str> = text.lines().rev().take(3).collect();
        bail!("{} ended ({status}): {}", log.display(), last.join(" | "))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; then both fail, and nothing is left to do.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Folder of the programs that `cargo xtask cluster tools` builds.
pub fn tools() -> PathBuf {
    let cache = std::env::var_os("MULTUS_CACHE").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/multus-rs"));
    cache.or_else(home).unwrap_or_default().join("bin")
}

/// What of the machine is missing for [`Api::start`].
pub fn missing() -> Option<String> {
    let absent = ["etcd", "kube-apiserver", "kubectl"].into_iter().find(|tool| !tools().join(tool).is_file());
    absent.map(|tool| format!("there is no {tool} in the cache; `cargo xtask cluster tools` builds it"))
}

impl Api {
    /// Starts the server in `folder` and waits until it is ready and knows network definitions.
    pub fn start(folder: &Path) -> Result<Self> {
        Self::start_with(folder, &[])
    }

    /// Like [`Api::start`], with further flags for the API server.
    pub fn start_with(folder: &Path, flags: &[String]) -> Result<Self> {
        let bin = tools();
        let folder = folder.to_owned();
        let [etcd_port, peer_port, port] = free_ports()?;
        prepare_keys(&folder)?;
        let file = |name: &str| folder.join(name).display().to_string();
        let etcd = format!("http://127.0.0.1:{etcd_port}");
        let peer = format!("http://127.0.0.1:{peer_port}");
        let etcd_args = vec![
            format!("--data-dir={}", file("etcd")),
            format!("--listen-client-urls={etcd}"),
            format!("--advertise-client-urls={etcd}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            "--unsafe-no-fsync".into(),
            "--log-level=warn".into(),
        ];
        let mut server_args = vec![
            format!("--etcd-servers={etcd}"),
            "--bind-address=127.0.0.1".into(),
            format!("--secure-port={port}"),
            "--service-cluster-ip-range=10.96.0.0/16".into(),
            format!("--tls-cert-file={}", file("server.crt")),
            format!("--tls-private-key-file={}", file("server.key")),
            format!("--token-auth-file={}", file("tokens.csv")),
            "--authorization-mode=RBAC".into(),
            // Pods of these tests have no service account.
            "--disable-admission-plugins=ServiceAccount".into(),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            format!("--service-account-key-file={}", file("account.pub")),
            format!("--service-account-signing-key-file={}", file("account.key")),
            "--profiling=false".into(),
        ];
        server_args.extend_from_slice(flags);
        let mut processes = vec![
            Process::start(&bin.join("kube-apiserver"), &server_args, &[], &folder.join("apiserver.log"))?,
            Process::start(&bin.join("etcd"), &etcd_args, &[], &folder.join("etcd.log"))?,
        ];
        let kubeconfig = folder.join("kubeconfig");
        write_kubeconfig(&folder, port)?;
        let proxy_args = vec![
            format!("--kubeconfig={}", kubeconfig.display()),
            "proxy".into(),
            format!("--unix-socket={}", file("proxy.sock")),
        ];
        let proxy = Process::start(&bin.join("kubectl"), &proxy_args, &[], &folder.join("proxy.log"))?;
        processes.insert(0, proxy);
        let mut api = Self { folder, port, _processes: processes };
        api.wait_until_ready()?;
        api.define_networks()?;
        Ok(api)
    }

    /// A kubeconfig of the administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// The port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate to trust.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// The administrator's token.
    pub fn token(&self) -> &'static str {
        TOKEN
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(90);
        while !matches!(self.send("GET", "/readyz", None), Ok((200, _))) {
            for (process, log) in self._processes.iter_mut().zip(["proxy.log", "apiserver.log", "etcd.log"]) {
                process.check(&self.folder.join(log))?;
            }
            if Instant::now() > until {
                bail!("the API server is not ready after 90 s; its log: {}", self.folder.display());
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn define_networks(&self) -> Result<()> {
        let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../chart/crds");
        for entry in fs::read_dir(&crds).with_context(|| crds.display().to_string())? {
            let definition: Value = serde_saphyr::from_str(&fs::read_to_string(entry?.path())?)?;
            self.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition)?;
        }
        let list = "/apis/k8s.cni.cncf.io/v1/network-attachment-definitions";
        let until = Instant::now() + Duration::from_secs(30);
        while !matches!(self.send("GET", list, None), Ok((200, _))) {
            if Instant::now() > until {
                bail!("network definitions are not served after 30 s");
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Creates an object and returns it as stored.
    pub fn create(&self, collection: &str, object: &Value) -> Result<Value> {
        self.expect("POST", collection, Some(object))
    }

    /// Reads an object.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.expect("GET", path, None)
    }

    /// Changes an object by a merge patch.
    pub fn patch(&self, path: &str, patch: &Value) -> Result<Value> {
        self.expect("PATCH", path, Some(patch))
    }

    /// Deletes an object at once.
    pub fn delete(&self, path: &str) -> Result<()> {
        self.expect("DELETE", path, Some(&json!({"gracePeriodSeconds": 0}))).map(drop)
    }

    fn expect(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let (status, answer) = self.send(method, path, body)?;
        if !(200..300).contains(&status) {
            bail!("{method} {path}: {status} {}", answer["message"].as_str().unwrap_or_default());
        }
        Ok(answer)
    }

    fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value)> {
        let mut stream = UnixStream::connect(self.folder.join("proxy.sock")).context("kubectl proxy")?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let kind = if method == "PATCH" { MERGE_PATCH } else { "application/json" };
        // The older protocol, whose answers end with the connection.
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).context("no HTTP status")?;
        Ok((status, serde_json::from_str(body).unwrap_or(Value::String(body.to_owned()))))
    }
}

fn free_ports<const N: usize>() -> Result<[u16; N]> {
    // Held together, so that they differ.
    let held: Vec<TcpListener> =
        (0..N).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<std::io::Result<_>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

fn prepare_keys(folder: &Path) -> Result<()> {
    let openssl = |arguments: &str, extra: &[&str]| -> Result<()> {
        let mut command = Command::new("openssl");
        command.current_dir(folder).args(arguments.split(' ')).args(extra).stdin(Stdio::null());
        let done = command.output().context("cannot run openssl")?;
        if !done.status.success() {
            bail!("openssl failed: {}", String::from_utf8_lossy(&done.stderr));
        }
        Ok(())
    };
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365";
    openssl(&format!("{new} -keyout ca.key -out ca.crt -subj /CN=conformance"), &[])?;
    let names = "subjectAltName=IP:127.0.0.1,DNS:localhost";
    openssl(
        &format!("{new} -CA ca.crt -CAkey ca.key -keyout server.key -out server.crt -subj /CN=server"),
        // `req -x509` marks what it signs as a CA, which rustls does not take for a server.
        &["-addext", "basicConstraints=critical,CA:FALSE", "-addext", names],
    )?;
    openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out account.key", &[])?;
    openssl("pkey -in account.key -pubout -out account.pub", &[])?;
    fs::write(folder.join("tokens.csv"), format!("{TOKEN},admin,admin,\"system:masters\"\n"))?;
    Ok(())
}

fn write_kubeconfig(folder: &Path, port: u16) -> Result<()> {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "conformance",
        "clusters": [{"name": "conformance", "cluster": {
            "server": format!("https://127.0.0.1:{port}"), "certificate-authority": folder.join("ca.crt")}}],
        "contexts": [{"name": "conformance", "context": {"cluster": "conformance", "user": "admin"}}],
        "users": [{"name": "admin", "user": {"token": TOKEN}}],
    });
    fs::write(folder.join("kubeconfig"), config.to_string()).context("kubeconfig")
}
