//! The control plane: etcd, API server, controller manager and scheduler, in one network namespace.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::layout::{CONTROL, CONTROL_ADDRESS, Layout, MAX_NODES, Node, SERVICE_ADDRESS, SERVICE_CIDR};
use super::process::{self, Record, command_in};
use super::{cgroup, net, probe};
use crate::command::run;

const ADMIN: &str = "admin";
const PROXY: &str = "kube-proxy";

/// Secrets of a cluster that listens on this machine only and lives for a test.
fn token(user: &str) -> String {
    format!("token-of-{user}")
}

/// Writes certificates, tokens and kubeconfigs.
pub(super) fn prepare(layout: &Layout) -> Result<()> {
    let pki = layout.pki();
    fs::create_dir_all(&pki).with_context(|| format!("cannot create {}", pki.display()))?;
    fs::set_permissions(&pki, fs::Permissions::from_mode(0o700))?;
    let openssl = |arguments: &str, extra: &[&str]| {
        let mut command = Command::new("openssl");
        run(command.current_dir(&pki).args(arguments.split(' ')).args(extra)).map(drop)
    };
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365";
    openssl(&format!("{new} -keyout ca.key -out ca.crt -subj /CN=multus-rs-test"), &[])?;
    let names = format!(
        "subjectAltName=IP:{CONTROL_ADDRESS},IP:{SERVICE_ADDRESS},IP:127.0.0.1,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
    );
    // `req -x509` marks what it signs as a CA, which rustls does not take for a server.
    let signed = format!("{new} -CA ca.crt -CAkey ca.key -addext basicConstraints=critical,CA:FALSE");
    openssl(
        &format!("{signed} -keyout server.key -out server.crt -subj /CN=kube-apiserver"),
        &["-addext", &names],
    )?;
    // What the API server shows to the kubelets, for exec and logs.
    let subject = "-subj /O=system:masters/CN=kube-apiserver-kubelet-client";
    openssl(&format!("{signed} -keyout kubelet-client.key -out kubelet-client.crt {subject}"), &[])?;
    openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out service-account.key", &[])?;
    openssl("pkey -in service-account.key -pubout -out service-account.pub", &[])?;

    let mut tokens = format!("{},{ADMIN},{ADMIN},\"system:masters\"\n", token(ADMIN));
    tokens.push_str(&format!("{},system:kube-proxy,{PROXY},\"\"\n", token(PROXY)));
    for node in (1..=MAX_NODES).map(Node::new) {
        tokens.push_str(&format!("{},system:node:{1},{1},\"system:nodes\"\n", token(&node.name), node.name));
    }
    fs::write(pki.join("tokens.csv"), tokens)?;
    write_kubeconfig(&layout.kubeconfig(), &pki, ADMIN)?;
    write_kubeconfig(&pki.join("kube-proxy.kubeconfig"), &pki, PROXY)
}

/// A kubeconfig that holds all it needs, for one user of the token file.
pub(super) fn write_kubeconfig(path: &Path, pki: &Path, user: &str) -> Result<()> {
    let encoded = run(Command::new("base64").arg("-w0").arg(pki.join("ca.crt")))?;
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: multus-rs\n\
         clusters: [{{ name: multus-rs, cluster: {{ server: 'https://{CONTROL_ADDRESS}:6443', certificate-authority-data: {encoded} }} }}]\n\
         contexts: [{{ name: multus-rs, context: {{ cluster: multus-rs, user: {user} }} }}]\n\
         users: [{{ name: {user}, user: {{ token: {} }} }}]\n",
        token(user)
    );
    // Helm warns of a kubeconfig that others may read.
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(())
}

fn flags(layout: &Layout, component: &str) -> Vec<String> {
    let pki = layout.pki();
    let file = |name: &str| pki.join(name).display().to_string();
    let admin = layout.kubeconfig().display().to_string();
    match component {
        "etcd" => vec![
            format!("--data-dir={}", layout.cluster.join("etcd").display()),
            "--listen-client-urls=http://127.0.0.1:2379".into(),
            "--advertise-client-urls=http://127.0.0.1:2379".into(),
            "--listen-peer-urls=http://127.0.0.1:2380".into(),
            "--unsafe-no-fsync".into(),
            "--log-level=warn".into(),
        ],
        "kube-apiserver" => vec![
            "--etcd-servers=http://127.0.0.1:2379".into(),
            format!("--advertise-address={CONTROL_ADDRESS}"),
            format!("--service-cluster-ip-range={SERVICE_CIDR}"),
            format!("--tls-cert-file={}", file("server.crt")),
            format!("--tls-private-key-file={}", file("server.key")),
            format!("--client-ca-file={}", file("ca.crt")),
            format!("--token-auth-file={}", file("tokens.csv")),
            format!("--kubelet-client-certificate={}", file("kubelet-client.crt")),
            format!("--kubelet-client-key={}", file("kubelet-client.key")),
            "--kubelet-preferred-address-types=InternalIP".into(),
            "--authorization-mode=Node,RBAC".into(),
            "--enable-admission-plugins=NodeRestriction".into(),
            "--allow-privileged=true".into(),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            format!("--service-account-key-file={}", file("service-account.pub")),
            format!("--service-account-signing-key-file={}", file("service-account.key")),
            "--profiling=false".into(),
        ],
        "kube-controller-manager" => vec![
            format!("--kubeconfig={admin}"),
            format!("--service-account-private-key-file={}", file("service-account.key")),
            format!("--root-ca-file={}", file("ca.crt")),
            "--use-service-account-credentials=true".into(),
            "--leader-elect=false".into(),
            // A node whose power was cut must be noticed within the patience of a test.
            "--node-monitor-grace-period=15s".into(),
            "--node-monitor-period=2s".into(),
        ],
        _ => vec![format!("--kubeconfig={admin}"), "--leader-elect=false".into()],
    }
}

/// Starts one component; also used to start it again.
pub(super) fn start_component(layout: &Layout, component: &str) -> Result<Record> {
    let mut command = command_in(CONTROL, None, layout.tool(component))?;
    command.args(flags(layout, component));
    process::start(layout, CONTROL, component, &command)
}

/// Starts what everything else talks to.
pub(super) fn start_api(layout: &Layout) -> Result<Vec<Record>> {
    net::create(CONTROL, CONTROL_ADDRESS)?;
    cgroup::create(CONTROL)?;
    Ok(vec![start_component(layout, "etcd")?, start_component(layout, "kube-apiserver")?])
}

/// Waits for the API server; fails early if it or etcd ended.
pub(super) fn wait_for_api(layout: &Layout, started: &[Record]) -> Result<()> {
    probe::until("the API server to be ready", Duration::from_secs(60), || {
        started.iter().try_for_each(|record| process::check_alive(layout, record))?;
        Ok(is_ready(layout))
    })
}

/// Whether the API server says that it is ready.
pub(super) fn is_ready(layout: &Layout) -> bool {
    kubectl(layout, &["get", "--raw", "/readyz", "--request-timeout=2s"]).is_ok_and(|answer| answer == "ok")
}

/// Starts what needs the API server to start.
pub(super) fn start_controllers(layout: &Layout) -> Result<Vec<Record>> {
    Ok(vec![start_component(layout, "kube-controller-manager")?, start_component(layout, "kube-scheduler")?])
}

/// Runs kubectl as admin and gives its output.
pub(super) fn kubectl(layout: &Layout, arguments: &[&str]) -> Result<String> {
    run(Command::new(layout.tool("kubectl")).env("KUBECONFIG", layout.kubeconfig()).args(arguments))
}
