//! A CNI plugin for tests: records every call as one JSON line and then behaves as its configuration says.
//!
//! Keys: `record` (file of the lines, else the variable `RECORD_FILE`), `behaviour` (a word, or a map from
//! verb to word), `result`, `code`, `msg`, `milliseconds`.

use std::{
    env,
    fs::OpenOptions,
    io::{Read, Write},
    process::{Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{SigSet, Signal, raise},
    unistd::pause,
};
use serde_json::{Map, Value, json};
use testkit::default_result;

/// Set for a grandchild: what it is to do.
const GRANDCHILD: &str = "RECORDING_DELEGATE_GRANDCHILD";

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("recording-delegate: {error:#}");
            ExitCode::from(99)
        }
    }
}

fn run() -> Result<u8> {
    if env::var_os(GRANDCHILD).is_some() {
        hang()?;
    }
    let command = env::var("CNI_COMMAND").context("CNI_COMMAND is missing")?;
    let mut stdin = String::new();
    std::io::stdin().read_to_string(&mut stdin)?;
    let config: Value = serde_json::from_str(&stdin).unwrap_or(Value::Null);
    let behaviour = match config.get("behaviour") {
        Some(Value::String(word)) => word.clone(),
        Some(Value::Object(map)) => map.get(&command).and_then(Value::as_str).unwrap_or("ok").to_owned(),
        _ => "ok".to_owned(),
    };
    let grandchild = match behaviour.as_str() {
        "hang" | "leave" => Some(start_grandchild()?),
        _ => None,
    };
    if behaviour == "hang" {
        ignore_sigterm()?;
    }
    record(&config, &stdin, grandchild)?;
    behave(&behaviour, &command, &config)
}

/// What the behaviours do; the exit code.
fn behave(behaviour: &str, command: &str, config: &Value) -> Result<u8> {
    let version = config.get("cniVersion").and_then(Value::as_str).unwrap_or("0.1.0");
    match behaviour {
        // "leave" also left a grandchild that holds standard output.
        "ok" | "leave" => answer(command, version, config)?,
        "slow" => {
            let wait = config.get("milliseconds").and_then(Value::as_u64).unwrap_or(500);
            thread::sleep(Duration::from_millis(wait));
            answer(command, version, config)?;
        }
        "fail" | "fail-exit-zero" => {
            let code = config.get("code").and_then(Value::as_u64).unwrap_or(100);
            let msg = config.get("msg").and_then(Value::as_str).unwrap_or("told to fail");
            println!(
                "{}",
                json!({"cniVersion": version, "code": code, "msg": msg, "details": "by behaviour"})
            );
            return Ok(u8::from(behaviour == "fail"));
        }
        "exit" => return Ok(u8::try_from(config.get("code").and_then(Value::as_u64).unwrap_or(3))?),
        "hang" => hang()?,
        "garbage" => println!("{{\"cniVersion\": \"1.0"),
        "empty" => {}
        "big" => {
            let block = vec![b'x'; 1 << 20];
            for _ in 0..8 {
                std::io::stdout().write_all(&block)?;
            }
        }
        "noisy" => {
            let line = format!("{}\n", "n".repeat(1023));
            for _ in 0..2048 {
                std::io::stderr().write_all(line.as_bytes())?;
            }
            answer(command, version, config)?;
        }
        "crash" => {
            raise(Signal::SIGKILL)?;
        }
        other => bail!("behaviour {other:?} is unknown"),
    }
    Ok(0)
}

fn answer(command: &str, version: &str, config: &Value) -> Result<()> {
    let versions = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
    match command {
        "VERSION" => println!("{}", json!({"cniVersion": version, "supportedVersions": versions})),
        "ADD" => {
            let given = config.get("result").or_else(|| config.get("prevResult"));
            println!(
                "{}",
                given.cloned().unwrap_or_else(|| {
                    let of = |name: &str| env::var(name).unwrap_or_default();
                    default_result(version, &of("CNI_IFNAME"), &of("CNI_NETNS"))
                })
            );
        }
        _ => {}
    }
    Ok(())
}

/// One line in one write, so that parallel delegates do not mix theirs.
fn record(config: &Value, stdin: &str, grandchild: Option<u32>) -> Result<()> {
    let named = config.get("record").and_then(Value::as_str).map(str::to_owned);
    let Some(path) = named.or_else(|| env::var("RECORD_FILE").ok()) else { return Ok(()) };
    let cni: Map<String, Value> = env::vars()
        .filter(|(key, _)| key.starts_with("CNI_"))
        .map(|(key, value)| (key, Value::String(value)))
        .collect();
    let program = env::args().next().unwrap_or_default();
    let plugin = program.rsplit('/').next().unwrap_or_default();
    let netns = std::fs::read_link("/proc/self/ns/net").unwrap_or_default();
    let line = json!({"plugin": plugin, "env": cni, "stdin": stdin, "pid": std::process::id(),
        "grandchild": grandchild, "netns": netns.to_string_lossy()});
    let mut file = OpenOptions::new().create(true).append(true).open(&path).with_context(|| path.clone())?;
    file.write_all(format!("{line}\n").as_bytes())?;
    Ok(())
}

/// A child of this process that holds its standard output and ignores SIGTERM.
fn start_grandchild() -> Result<u32> {
    let mut child = Command::new(env::current_exe()?)
        .env(GRANDCHILD, "1")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    // It says when it ignores SIGTERM, by closing its standard error.
    let mut said = String::new();
    if let Some(mut pipe) = child.stderr.take() {
        pipe.read_to_string(&mut said)?;
    }
    Ok(child.id())
}

fn ignore_sigterm() -> Result<()> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.thread_block()?;
    Ok(())
}

/// Never ends by itself.
fn hang() -> Result<()> {
    ignore_sigterm()?;
    if env::var_os(GRANDCHILD).is_some() {
        nix::unistd::close(2)?;
    }
    loop {
        pause();
    }
}
