//! The cluster under test, and the doors to it: kubectl, helm, a shell on a node.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// How long a node may take to be Ready again after a test.
const NODES_WITHIN: Duration = Duration::from_secs(60);
/// Where the chart is installed.
pub const NAMESPACE: &str = "multus-system";
/// The DaemonSet, by kubectl's name for it.
pub const DAEMONSET: &str = "daemonset/multus";
/// The node that tests look at.
pub const NODE: &str = "node1";

/// Between two looks at something that is awaited.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// The cluster, ready: image loaded, chart installed, its pods Ready.
#[derive(Debug)]
pub struct Cluster {
    cache: PathBuf,
    repository: PathBuf,
    /// The project's own tool, built: run through cargo each time, it would be slow.
    xtask: PathBuf,
}

impl Cluster {
    /// The one cluster of this run; the first caller installs the chart.
    ///
    /// # Errors
    /// When there is no cluster, or the chart does not become ready on it.
    pub fn ready() -> Result<&'static Self> {
        static READY: OnceLock<Result<Cluster, String>> = OnceLock::new();
        let ready = READY.get_or_init(|| Self::install().map_err(|error| format!("{error:#}")));
        let cluster = ready.as_ref().map_err(|error| anyhow::Error::msg(error.clone()))?;
        // A test before may have left a node that the API server has not heard of for a while.
        eventually(NODES_WITHIN, || cluster.all_nodes_are_ready())?;
        Ok(cluster)
    }

    fn install() -> Result<Self> {
        let cache = match std::env::var_os("MULTUS_CACHE") {
            Some(cache) => PathBuf::from(cache),
            None => PathBuf::from(std::env::var_os("HOME").context("neither MULTUS_CACHE nor HOME is set")?)
                .join(".cache/multus-rs"),
        };
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
        let cluster = Self { xtask: build_xtask(&repository)?, cache, repository };
        let kubeconfig = cluster.cache.join("cluster/kubeconfig");
        ensure!(
            kubeconfig.exists(),
            "no cluster at {}; start one with: cargo xtask cluster up",
            kubeconfig.display()
        );
        let image = cluster.cache.join("images/multus-rs.tar");
        cluster.xtask(&["cluster", "load", &image.to_string_lossy()])?;
        cluster.helm("helm3", &[])?;
        cluster.kubectl(&["wait", "--for=create", "serviceaccount/default", "--timeout=60s"])?;
        Ok(cluster)
    }

    /// Installs or upgrades the chart with one of the Helms in the cache, and waits until it is ready.
    ///
    /// # Errors
    /// Helm's own words.
    pub fn helm(&self, helm: &str, settings: &[&str]) -> Result<()> {
        let mut args = vec![
            "upgrade",
            "--install",
            "multus",
            "chart",
            "--namespace",
            NAMESPACE,
            "--create-namespace",
            "--wait",
            "--timeout=3m",
            "--set=image.tag=dev,image.pullPolicy=Never",
        ];
        args.extend(settings);
        self.run(self.cache.join("bin").join(helm), &args)?;
        self.rolled_out()
    }

    /// Waits until the DaemonSet serves every node; Helm's own wait is content with one node less.
    ///
    /// # Errors
    /// kubectl's own words.
    pub fn rolled_out(&self) -> Result<()> {
        self.kubectl(&["--namespace", NAMESPACE, "rollout", "status", DAEMONSET, "--timeout=120s"]).map(drop)
    }

    /// kubectl's standard output.
    ///
    /// # Errors
    /// kubectl's own words.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        let output = self.kubectl_command(args).output().context("kubectl")?;
        succeeded(&format!("kubectl {}", args.join(" ")), output)
    }

    /// What kubectl prints as JSON.
    ///
    /// # Errors
    /// As [`Cluster::kubectl`].
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let text = self.kubectl(&[args, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("kubectl {args:?} printed no JSON"))
    }

    /// Applies an object, or a `List` of them.
    ///
    /// # Errors
    /// As [`Cluster::kubectl`].
    pub fn apply(&self, object: &Value) -> Result<()> {
        let mut command = self.kubectl_command(&["apply", "-f", "-"]);
        let mut child = command.stdin(Stdio::piped()).spawn()?;
        std::io::Write::write_all(
            &mut child.stdin.take().context("kubectl has no stdin")?,
            object.to_string().as_bytes(),
        )?;
        succeeded("kubectl apply", child.wait_with_output()?).map(drop)
    }

    /// Runs a shell line on [`NODE`], in its namespaces.
    ///
    /// # Errors
    /// When the line fails; with what it printed.
    pub fn on_node(&self, line: &str) -> Result<String> {
        self.on(NODE, line)
    }

    /// Runs a shell line on a node, in its namespaces.
    ///
    /// # Errors
    /// When the line fails, or the node does not run; with what was printed.
    pub fn on(&self, node: &str, line: &str) -> Result<String> {
        self.xtask(&["cluster", "exec", node, "--", "sh", "-c", line])
    }

    /// Names of the nodes.
    ///
    /// # Errors
    /// kubectl's own words.
    pub fn nodes(&self) -> Result<Vec<String>> {
        let text =
            self.kubectl(&["get", "nodes", "-o", "jsonpath={range .items[*]}{.metadata.name}{'\\n'}{end}"])?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    fn all_nodes_are_ready(&self) -> Result<()> {
        let states = "jsonpath={range .items[*]}{.metadata.name} {.status.conditions[?(@.type=='Ready')].status}{'\\n'}{end}";
        let text = self.kubectl(&["get", "nodes", "-o", states])?;
        let unready: Vec<&str> = text.lines().filter(|line| !line.ends_with(" True")).collect();
        ensure!(unready.is_empty(), "nodes that are not Ready: {unready:?}");
        Ok(())
    }

    /// Runs the installed plugin by hand on the node, as the runtime would for a pod with these annotations and
    /// with the config that the runtime has now; `keys` replace keys of our entry.
    ///
    /// # Errors
    /// When the plugin fails, or takes longer than 20 s; with what it printed.
    pub fn plugin(
        &self,
        verb: &str,
        sandbox: &str,
        netns: &str,
        annotations: &Value,
        keys: &Value,
    ) -> Result<String> {
        let conflist: Value = serde_json::from_str(&self.on_node("cat /etc/cni/net.d/00-multus.conflist")?)?;
        let mut config = conflist["plugins"][0].clone();
        for key in ["name", "cniVersion"] {
            config[key] = conflist[key].clone();
        }
        config["runtimeConfig"] = serde_json::json!({ "io.kubernetes.cri.pod-annotations": annotations });
        for (key, value) in keys.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        self.on_node(&format!(
            "echo '{config}' | CNI_COMMAND={verb} CNI_CONTAINERID={sandbox} CNI_NETNS={netns} CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin \
             CNI_ARGS='IgnoreUnknown=1;K8S_POD_NAMESPACE=by-hand;K8S_POD_NAME=by-hand' timeout 20 /opt/cni/bin/multus-shim"
        ))
    }

    /// Runs one of the project's own tasks.
    ///
    /// # Errors
    /// When it fails; with what it printed.
    pub fn xtask(&self, args: &[&str]) -> Result<String> {
        self.run(self.xtask.clone(), args)
    }

    /// kubectl, not yet started, for those who read it while it runs.
    pub fn kubectl_command(&self, args: &[&str]) -> Command {
        self.command(self.cache.join("bin/kubectl"), args)
    }

    fn command(&self, program: PathBuf, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(&self.repository)
            .env("KUBECONFIG", self.cache.join("cluster/kubeconfig"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, program: PathBuf, args: &[&str]) -> Result<String> {
        let shown = format!("{} {}", program.display(), args.join(" "));
        let output = self.command(program, args).output().with_context(|| shown.clone())?;
        succeeded(&shown, output)
    }
}

/// The tool as it is in this checkout, built where that is needed.
fn build_xtask(repository: &Path) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--package", "xtask", "--message-format=json-render-diagnostics"]);
    let messages = succeeded("cargo build --package xtask", build.current_dir(repository).output()?)?;
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut programs = messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
    programs.next_back().context("cargo names no program that it built")
}

fn succeeded(shown: &str, output: Output) -> Result<String> {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{shown}: {}\n{stdout}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(stdout)
}

/// Looks again until `look` succeeds; its last error when `within` is over.
///
/// # Errors
/// The last look's.
pub fn eventually<T>(within: Duration, look: impl Fn() -> Result<T>) -> Result<T> {
    let until = Instant::now() + within;
    loop {
        match look() {
            Err(error) if Instant::now() >= until => {
                return Err(error.context(format!("still so after {} s", within.as_secs())));
            }
            // The looks themselves cost the node something.
            Err(_) => std::thread::sleep(BETWEEN_LOOKS),
            found => return found,
        }
    }
}
