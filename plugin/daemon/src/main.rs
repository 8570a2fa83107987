//! `multus-daemon`: answers the plugin's questions about the cluster over a socket of the host.

mod care;
mod journal;
mod probe;
mod publisher;
mod routes;
mod serve;
mod socket;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

const SOCKET: &str = "/run/multus-rs/daemon/multus.sock";

/// Answers the Multus plugin's questions about the cluster over a unix socket.
#[derive(Debug, Parser)]
#[command(name = "multus-daemon")]
struct Arguments {
    /// Socket to serve on; its folder is made with mode 0700.
    #[arg(long, env = "MULTUS_SOCKET", default_value = SOCKET, global = true)]
    socket: PathBuf,
    /// Folder of the plugin's journal; only read.
    #[arg(long, env = "MULTUS_JOURNAL_DIR", default_value = "/var/lib/cni/multus-rs/journal")]
    journal_dir: PathBuf,
    /// Folder of the plugin's records of pods without networks; only read.
    #[arg(long, env = "MULTUS_PLAIN_DIR", default_value = "/run/multus-rs/plain")]
    plain_dir: PathBuf,
    /// Name of this node, for events.
    #[arg(long, env = "NODE_NAME", default_value = "")]
    node_name: String,
    /// The kubelet's folder; `pod-resources` in it is asked which devices a pod was given.
    #[arg(long, env = "MULTUS_KUBELET_DIR", default_value = "/var/lib/kubelet")]
    kubelet_dir: PathBuf,
    /// error, warn, info, debug or trace.
    #[arg(long, env = "MULTUS_LOG_LEVEL", default_value = "info")]
    log_level: log::LevelFilter,
    /// https://host:port of the API server, where the service address of the cluster cannot be used.
    #[arg(long, env = "MULTUS_API_SERVER")]
    api_server: Option<String>,
    /// Kubeconfig to use instead of the pod's service account.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Key of the taint that new nodes come with; it is taken off once networks can be served.
    #[arg(long, env = "MULTUS_STARTUP_TAINT")]
    startup_taint: Option<String>,
    /// What is done about running pods that lack networks they ask for.
    #[arg(long, env = "MULTUS_REPAIR", default_value = "none")]
    repair: care::Repair,
    /// What the config program of this node tells.
    #[arg(long, env = "MULTUS_CONFIG_STATE", default_value = "/run/multus-config/state.json")]
    config_state: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Asks a running daemon how it is; for exec probes, in an image without a shell.
    Probe {
        /// livez or readyz.
        what: probe::What,
    },
}

/// The C library gives each page back at once and then asks for it again, several times a request.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command {
        Some(Command::Probe { what }) => probe::run(&arguments.socket, what),
        None => start(arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("multus-daemon: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: Arguments) -> anyhow::Result<()> {
    let mut logger = env_logger::Builder::new();
    logger.filter_level(arguments.log_level);
    if arguments.log_level < log::LevelFilter::Debug {
        // Says "failed" at every attempt and not why; the callers here say it once, with the cause.
        logger.filter_module("kube_client", log::LevelFilter::Off);
    }
    logger.init();
    // One thread: a request's work is small, and handing it to another costs more than it does.
    let runtime = tokio::runtime::Builder::new_current_thread()
        // Only name lookups and looks at the records block; each such thread is a stack.
        .max_blocking_threads(4)
        .thread_keep_alive(Duration::from_secs(5))
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let outcome = runtime.block_on(run(arguments));
    // A name lookup that hangs must not hold up the end.
    runtime.shutdown_background();
    outcome
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    // Before anything else: a signal during start must not be lost.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let options = kubernetes::Options {
        api_server: arguments.api_server.filter(|endpoint| !endpoint.is_empty()),
        kubeconfig: arguments.kubeconfig,
        node_name: arguments.node_name,
        kubelet: arguments.kubelet_dir,
    };
    let client = kubernetes::Client::connect(&options).await?;
    let socket = Arc::new(socket::Socket::new(arguments.socket));
    let listener = socket.bind()?;
    log::info!("serves on {}", socket.path().display());
    let mut watch = tokio::spawn({
        let client = client.clone();
        async move { client.watch().await }
    });
    let mut cares = tokio::task::JoinSet::new();
    if let Some(key) = arguments.startup_taint.filter(|key| !key.is_empty()) {
        cares.spawn(care::keep_untainted(client.clone(), key, arguments.config_state));
    }
    if arguments.repair != care::Repair::None {
        let state_dir = arguments.journal_dir.parent().unwrap_or(Path::new("/"));
        let journal = meta::journal::Journal::durable(state_dir);
        cares.spawn(care::repair(client.clone(), journal, arguments.repair));
    }
    let told = Arc::new(publisher::Told::default());
    let (journal_dir, plain_dir) = (arguments.journal_dir, arguments.plain_dir);
    let publisher =
        publisher::Publisher::new(client.clone(), journal_dir.clone(), plain_dir, Arc::clone(&told))?;
    let mut publishing = tokio::spawn(publisher.run());
    let journal = journal::Journal::new(journal_dir);
    let routes = Arc::new(routes::Routes::new(client, journal, Arc::clone(&socket), told));
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
            ended = &mut publishing => Err(anyhow::anyhow!("publishing ended: {ended:?}; a restart begins anew")),
            ended = &mut watch => Err(anyhow::anyhow!("the watch of the cluster ended: {ended:?}; a restart begins anew")),
        }
    };
    let outcome = serve::serve(listener, &socket, routes, stop).await;
    watch.abort();
    publishing.abort();
    outcome
}
