//! A real Kubernetes on this machine, for demo and tests: every node in namespaces of its own.

mod cgroup;
mod control;
mod go;
mod image;
mod layout;
mod life;
mod net;
mod node;
mod probe;
mod process;
mod tools;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use nix::sys::signal::Signal;

use layout::{CONTROL, Node};
pub(crate) use layout::{Layout, cache, workspace};
pub(crate) use life::{down, up};
pub(crate) use tools::cni_plugins;

/// What can be done with the cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Start the cluster, or check the one that runs.
    Up {
        /// How many nodes.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=i64::from(layout::MAX_NODES)))]
        nodes: u8,
    },
    /// End it and remove everything of it but its logs and the caches. Also cleans up after a crash.
    Down,
    /// Show processes and nodes; fails if something is not well.
    Status,
    /// Print what a shell evaluates to use the cluster: `eval "$(cargo xtask cluster env)"`.
    Env,
    /// Load a docker-archive into every node.
    Load {
        /// The archive.
        archive: PathBuf,
    },
    /// Run a command in the network and mount namespaces of a node.
    Exec {
        /// The node, as node1.
        node: String,
        /// The command.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Stop, start or reboot a node.
    Node {
        /// What to do.
        #[command(subcommand)]
        action: NodeAction,
    },
    /// Send a signal to a component: `kube-apiserver`, or `node1/kubelet`.
    Signal {
        /// The component; without a node, of the control plane, else of every node.
        component: String,
        /// The signal, as STOP, CONT or KILL.
        signal: String,
    },
    /// Start a component that was killed, as `node1/containerd`.
    Start {
        /// The component.
        component: String,
    },
    /// Install and build what the cluster needs, without starting it.
    Tools,
}

/// What can be done with one node.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeAction {
    /// Cut its power.
    Stop {
        /// The node.
        node: String,
    },
    /// Boot it again, with an empty `/run` and a new boot id.
    Start {
        /// The node.
        node: String,
    },
    /// Cut its power and boot it again.
    Reboot {
        /// The node.
        node: String,
    },
}

/// Runs one action.
pub(crate) fn main(action: Action) -> Result<ExitCode> {
    let layout = Layout::new()?;
    match action {
        Action::Up { nodes } => up(&layout, nodes)?,
        Action::Down => down(&layout)?,
        Action::Status => {
            if !life::status(&layout)? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Action::Env => print_env(&layout)?,
        Action::Load { archive } => load(&layout, &archive)?,
        Action::Exec { node, command } => {
            let status = exec(&layout, &node, &command)?.status().context("cannot run nsenter")?;
            return Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)));
        }
        Action::Node { action } => match action {
            NodeAction::Stop { node } => life::node_stop(&layout, &node)?,
            NodeAction::Start { node } => life::node_start(&layout, &node)?,
            NodeAction::Reboot { node } => {
                life::node_stop(&layout, &node)?;
                life::node_start(&layout, &node)?;
            }
        },
        Action::Signal { component, signal } => send(&layout, &component, &signal)?,
        Action::Start { component } => start(&layout, &component)?,
        Action::Tools => tools::ensure(&layout)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Loads a docker-archive into every node that runs.
pub(crate) fn load(layout: &Layout, archive: &std::path::Path) -> Result<()> {
    let archive = archive.canonicalize().with_context(|| format!("no archive at {}", archive.display()))?;
    let nodes = layout.nodes()?;
    if nodes.is_empty() {
        bail!("there is no cluster to load into; start it with `cargo xtask cluster up`");
    }
    nodes.iter().try_for_each(|name| node::load(layout, &Node::parse(name)?, &archive))
}

/// A command that will run in the network and mount namespaces of a node.
pub(crate) fn exec(layout: &Layout, node: &str, command: &[String]) -> Result<std::process::Command> {
    node::exec(layout, &Node::parse(node)?, command)
}

fn print_env(layout: &Layout) -> Result<()> {
    println!("export KUBECONFIG='{}'", layout.kubeconfig().display());
    println!("export PATH='{}':\"$PATH\"", layout.bin.display());
    Ok(())
}

fn send(layout: &Layout, component: &str, signal: &str) -> Result<()> {
    let name = signal.to_uppercase();
    let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    let signal: Signal =
        name.parse().with_context(|| format!("no signal is called {signal:?}; try STOP or KILL"))?;
    let (group, component) = match component.split_once('/') {
        Some((group, component)) => (Some(group), component),
        None => (None, component),
    };
    let records = process::records(layout)?;
    let mut hit =
        records.iter().filter(|r| r.component == component && group.is_none_or(|g| g == r.group)).peekable();
    if hit.peek().is_none() {
        bail!("nothing called {component:?} was started; see `cargo xtask cluster status`");
    }
    hit.try_for_each(|record| record.signal(signal))
}

fn start(layout: &Layout, component: &str) -> Result<()> {
    let (group, component) = component.split_once('/').unwrap_or((CONTROL, component));
    if process::record(layout, group, component)?.is_alive() {
        bail!("{group}/{component} runs already");
    }
    if group == CONTROL {
        control::start_component(layout, component).map(drop)
    } else {
        node::start_component(layout, &Node::parse(group)?, component).map(drop)
    }
}
