//! `multus-try`: see what a network definition does before any pod needs it.
//!
//! Exit codes: 0 all is well; 1 a network does not work, leaks, or lint found a mistake; 2 wrong usage or a file
//! that cannot be read; 3 this machine lacks something.

mod args;

use std::{
    collections::BTreeSet,
    fs,
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use args::{Args, Command, Output};
use clap::Parser;
use multus_try::{
    files,
    lint::{self, Finding, Here, World, report, world::Config},
    run::{self, host, machine, plugins, preflight, record, report::Verdict, sandbox, task::Task},
    show::{self, Style},
};

/// A network does not work, leaks, or has a mistake.
const BAD: u8 = 1;
/// Nothing could be tried or read.
const UNUSABLE: u8 = 2;
/// This machine lacks something: a plugin, a kernel module, a right.
const LACKING: u8 = 3;

fn main() -> ExitCode {
    // This binary is also the host of a run, and every plugin of that host.
    let role = std::env::var(sandbox::ROLE).unwrap_or_default();
    let own_name = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&own_name).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let called = std::env::var_os("CNI_COMMAND").is_some();
    if role == sandbox::TYPE || (called && name == sandbox::TYPE && std::env::var_os(record::CALLS).is_none())
    {
        return sandbox::serve();
    }
    if called && std::env::var_os(record::CALLS).is_some() {
        return record::serve(&name);
    }
    if role == host::ROLE {
        return host::serve();
    }
    let args = Args::parse();
    match start(&args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("multus-try: {error:#}");
            ExitCode::from(UNUSABLE)
        }
    }
}

fn start(args: &Args) -> Result<u8> {
    if let Some(Command::Clean) = args.command {
        for line in machine::sweep(Path::new(host::BASE))? {
            println!("{line}");
        }
        return Ok(0);
    }
    let world = World::new(files::read(&args.files)?, here(args)?);
    let findings = lint::lint_world(&world, &allowed(args)?);
    if args.lint {
        return Ok(tell_findings(args, &findings));
    }
    let unreadable = world.files.iter().any(|file| file.broken.is_some())
        || world
            .networks
            .iter()
            .any(|network| network.name.is_none() || matches!(network.config, Config::NotText(_)));
    if unreadable && !findings.is_empty() {
        eprintln!("multus-try: not run: the API server would refuse these files");
        return Ok(tell_findings(args, &findings));
    }
    attach(args, &world, &findings)
}

fn tell_findings(args: &Args, findings: &[Finding]) -> u8 {
    let shown = match args.output {
        Output::Text => report::text(findings),
        Output::Json => format!("{:#}\n", report::json(findings)),
    };
    print(&shown);
    if args.output == Output::Text && !findings.is_empty() {
        eprintln!("{} found; what the rules mean: docs/lint", count(findings.len(), "mistake"));
    }
    if findings.is_empty() { 0 } else { BAD }
}

/// Runs the networks and shows what came of it.
fn attach(args: &Args, world: &World, findings: &[Finding]) -> Result<u8> {
    let mut folders = plugins::folders(&args.plugin_dir);
    if args.install_plugins {
        let own = plugins::own_folder()?;
        if !folders.contains(&own) {
            folders.push(own);
        }
        plugins::install(&preflight::missing(world, &folders), |line| eprintln!("multus-try: {line}"))?;
    }
    let existing: Vec<PathBuf> = folders.iter().filter(|folder| folder.is_dir()).cloned().collect();
    let mut task = Task::new(world, args.annotation.as_deref(), usize::from(args.pods));
    if task.pods.is_empty() {
        bail!("nothing to try: these files define no network, and no pod in them asks for one");
    }
    task.plugin_dirs = if existing.is_empty() { folders } else { existing };
    preflight::obstacles(&mut task, world);
    task.plugin_dirs.retain(|folder| folder.is_dir());
    task.base = PathBuf::from(host::BASE);
    if args.host {
        if !run::is_root() {
            eprintln!("multus-try: --host needs root: it changes this machine's interfaces");
            return Ok(LACKING);
        }
        task.machine = true;
        task.base.push(std::process::id().to_string());
        eprintln!("multus-try: --host: this machine's own interfaces, /var/lib/cni and plugins are used");
    }
    if run::is_root() {
        for line in machine::sweep(Path::new(host::BASE))? {
            eprintln!("multus-try: left by a killed run: {line}");
        }
    }
    let mut progress = Progress::new();
    let outcome = run::run(&task, |text| progress.show(text));
    progress.clear();
    let mut outcome = match outcome {
        Ok(report) => report,
        Err(error) => {
            eprintln!("multus-try: {error:#}");
            return Ok(LACKING);
        }
    };
    outcome.findings = findings.iter().map(|finding| serde_json::json!(finding)).collect();
    match args.output {
        Output::Json => print(&format!("{:#}\n", serde_json::json!(outcome))),
        Output::Text => {
            print(&report::text(findings));
            let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            print(&show::report(&outcome, Style { verbose: args.verbose, colour }));
        }
    }
    Ok(match outcome.verdict {
        Verdict::Works => 0,
        Verdict::Fails => BAD,
        Verdict::NotTried => LACKING,
    })
}

fn allowed(args: &Args) -> Result<BTreeSet<String>> {
    for name in &args.allow {
        let names = || lint::rules::all().map(|rule| rule.name);
        if names().all(|known| known != name) {
            let near = lint::near::nearest(name, names()).map(|near| format!("; did you mean {near}?"));
            bail!("--allow {name}: there is no such rule{}", near.unwrap_or_default());
        }
    }
    Ok(args.allow.iter().cloned().collect())
}

/// What the user said about the node; with --host, what this machine has.
fn here(args: &Args) -> Result<Here> {
    let mut interfaces = args.interfaces.clone();
    if args.host && interfaces.is_none() {
        interfaces =
            Some(names(Path::new("/sys/class/net")).context("cannot list this machine's interfaces")?);
    }
    let mut plugins = Vec::new();
    for folder in &args.plugin_dir {
        plugins.extend(
            names(folder).with_context(|| format!("--plugin-dir {}: cannot be listed", folder.display()))?,
        );
    }
    Ok(Here { interfaces, plugins })
}

fn names(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// A reader that has gone, as `head` does, needs no more.
fn print(text: &str) {
    drop(std::io::stdout().write_all(text.as_bytes()));
}

fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// One line on a terminal that says what is being done, and goes when it is done.
struct Progress {
    shown: bool,
}

impl Progress {
    fn new() -> Self {
        Self { shown: std::io::stderr().is_terminal() }
    }

    fn show(&mut self, text: &str) {
        if self.shown {
            eprint!("\r\x1b[K{text} …");
        }
    }

    fn clear(&mut self) {
        if self.shown {
            eprint!("\r\x1b[K");
        }
    }
}
