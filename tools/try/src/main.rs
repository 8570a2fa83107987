//! `multus-try`: see what a network definition does before any pod needs it.
//!
//! Exit codes: 0 all is well; 1 a network does not work, leaks, or lint found a mistake; 2 wrong usage or a file
//! that cannot be read.

mod args;

use std::{collections::BTreeSet, fs, io::Write, path::Path, process::ExitCode};

use anyhow::{Context, Result, bail};
use args::{Args, Output};
use clap::Parser;
use multus_try::{
    files,
    lint::{self, Finding, Here, report},
};

/// A network does not work, leaks, or has a mistake.
const BAD: u8 = 1;
/// Nothing could be tried or read.
const UNUSABLE: u8 = 2;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("multus-try: {error:#}");
            ExitCode::from(UNUSABLE)
        }
    }
}

fn run(args: &Args) -> Result<ExitCode> {
    let findings = find(args)?;
    let shown = match args.output {
        Output::Text => report::text(&findings),
        Output::Json => format!("{:#}\n", report::json(&findings)),
    };
    // A reader that has gone, as `head` does, needs no more.
    drop(std::io::stdout().write_all(shown.as_bytes()));
    if args.output == Output::Text && !findings.is_empty() {
        eprintln!("{} found; what the rules mean: docs/lint", count(findings.len(), "mistake"));
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(BAD) })
}

fn find(args: &Args) -> Result<Vec<Finding>> {
    let allowed: BTreeSet<String> = args.allow.iter().cloned().collect();
    for name in &allowed {
        let names = || lint::rules::all().map(|rule| rule.name);
        if names().all(|known| known != name) {
            let near = lint::near::nearest(name, names()).map(|near| format!("; did you mean {near}?"));
            bail!("--allow {name}: there is no such rule{}", near.unwrap_or_default());
        }
    }
    Ok(lint::lint(files::read(&args.files)?, here(args)?, &allowed))
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

fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}
