//! `cargo xtask bench`: how fast pods get their networks, with real components, beside the delegates alone and,
//! where its binaries are given, beside Go Multus.
//!
//! Machines differ and drift, so what counts is a ratio within one run: everybody is called in turn, call by call.
//! Absolute times are context. `xtask` builds the programs and hands over their paths; this program measures.

mod audit;
mod burst;
mod call;
mod limit;
mod machine;
mod memory;
mod page;
mod parts;
mod plot;
mod progress;
mod report;
mod scale;
mod serial;
mod starts;
mod stats;
mod subject;
mod world;

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::Parser;

use crate::{
    machine::Machine,
    progress::Progress,
    report::Report,
    serial::Load,
    starts::Starts,
    subject::{Kind, Programs, Subject},
    world::{FEW, REAL, World},
};

/// The config of the networks that pods ask for here.
const NOOP: &str = r#"{"cniVersion":"1.0.0","name":"noop","type":"noop"}"#;
/// Networks of the clusters that daemons are measured in.
const STEPS: [usize; 3] = [0, 2_000, 10_000];
/// Pods of the largest.
const PODS: usize = 5_000;

/// Measures; `cargo xtask bench` builds the programs and calls this.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Arguments {
    /// The plugin.
    #[arg(long)]
    shim: PathBuf,
    /// The daemon.
    #[arg(long)]
    daemon: PathBuf,
    /// The delegate that does nothing.
    #[arg(long)]
    delegate: PathBuf,
    /// Folder of the reference plugins.
    #[arg(long)]
    reference: PathBuf,
    /// What `pod-start` of the crate e2e printed.
    #[arg(long)]
    starts: Option<PathBuf>,
    /// A program of the image; repeated.
    #[arg(long)]
    image: Vec<PathBuf>,
    /// Folder with multus, multus-shim and multus-daemon of Go Multus.
    #[arg(long)]
    peer: Option<PathBuf>,
    /// Fewer rounds, and no large cluster.
    #[arg(long)]
    quick: bool,
    /// Where to write the figures as JSON.
    #[arg(long)]
    json: PathBuf,
    /// Folder of the documentation to write the page and its plots to.
    #[arg(long)]
    docs: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nbench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let machine = Machine::here();
    world::isolate()?;
    let report = measure(arguments, machine)?;
    println!("{}", report.table());
    if let Some(parent) = arguments.json.parent() {
        fs::create_dir_all(parent)?;
    }
    let json = serde_json::json!({ "report": report, "budgets": report.budgets() });
    fs::write(&arguments.json, serde_json::to_string_pretty(&json)?)?;
    println!("{}", arguments.json.display());
    if let Some(docs) = &arguments.docs {
        page::write(docs, &report)?;
        println!("{}", docs.join("performance.md").display());
    }
    Ok(())
}

fn measure(arguments: &Arguments, machine: Machine) -> Result<Report> {
    let progress = Progress::new();
    let programs = Programs {
        shim: arguments.shim.clone(),
        daemon: arguments.daemon.clone(),
        delegate: arguments.delegate.clone(),
        reference: arguments.reference.clone(),
        peer: arguments.peer.clone(),
    };
    let folder = tempfile::Builder::new().prefix("multus-bench-").tempdir()?;
    progress.begin("starting an API server");
    let world = World::start(&folder.path().join("small"))?;
    furnish(&world, &programs)?;
    let kinds = programs.kinds();
    let start = |kind: &Kind| Subject::start(*kind, &programs, &world);
    let subjects: Vec<Subject> = kinds.iter().map(start).collect::<Result<_>>()?;

    let rounds = if arguments.quick { 20 } else { 100 };
    let (mut serial, mut requests) = (Vec::new(), Vec::new());
    let noop = [0, 1, 2, 8].map(Load::noop);
    let others = [Load { real: true, ..Load::noop(2) }, Load { rest: false, ..Load::noop(2) }];
    for load in noop.into_iter().chain(others) {
        let (scenario, windows) = serial::run(&world, &subjects, load, rounds, &progress)?;
        serial.push(scenario);
        progress.begin("counting requests");
        for (subject, (kind, mut windows)) in subjects.iter().zip(windows) {
            if kind == Kind::Bare {
                continue;
            }
            if load.networks == 0 {
                windows = serial::lasting(&world, subject, load)?;
            }
            audit::settle(&world.audit_log())?;
            requests.push(audit::count(&world.audit_log(), kind, load, &windows)?);
        }
    }
    let mut bursts = vec![burst::run(&world, &subjects, (60, 20), 3, &progress)?];
    if !arguments.quick {
        bursts.push(burst::run(&world, &subjects, (250, 20), 1, &progress)?);
    }
    let ours = subjects.iter().find(|subject| subject.kind == Kind::Ours).context("nothing of ours")?;
    let socket = ours.daemon.as_ref().context("no daemon of ours")?.socket.clone();
    progress.begin("parts of a call");
    let parts = parts::measure(&programs.shim, &programs.delegate, &socket, folder.path())?;

    let (mut memory, mut scale) = (Vec::new(), None);
    if !arguments.quick {
        let large = World::start(&folder.path().join("large"))?;
        furnish(&large, &programs)?;
        memory = memory::run(&large, &programs, &STEPS, &progress)?;
        let beside = Subject::start(Kind::Ours, &programs, &large)?;
        let most = STEPS.into_iter().max().unwrap_or_default();
        scale = Some(scale::run((&world, ours), (&large, &beside), (most, PODS), rounds, &progress)?);
    }
    let size = |file: &PathBuf| -> Result<(String, u64)> {
        let bytes = fs::metadata(file).with_context(|| file.display().to_string())?.len();
        Ok((file.file_name().unwrap_or_default().to_string_lossy().into_owned(), bytes))
    };
    let image = arguments.image.iter().map(size).collect::<Result<_>>()?;
    let of_peer = |folder: &PathBuf| {
        ["multus-shim", "multus-daemon", "multus"].map(|name| folder.join(name)).iter().map(size).collect()
    };
    let peer_sizes = arguments.peer.as_ref().map(of_peer).transpose()?.unwrap_or_default();
    let starts = arguments.starts.as_deref().map(Starts::read).transpose()?;
    Ok(Report { machine, starts, serial, requests, bursts, parts, memory, scale, image, peer_sizes })
}

/// Namespaces and the few networks that pods ask for.
fn furnish(world: &World, programs: &Programs) -> Result<()> {
    world.namespace("many")?;
    for kind in programs.kinds() {
        world.namespace(kind.namespace())?;
        world.networks(kind.namespace(), "net", 0..FEW, |_| NOOP.to_owned())?;
        world.networks(kind.namespace(), REAL, 0..FEW, |number| world.real_config(number).to_string())?;
    }
    Ok(())
}
