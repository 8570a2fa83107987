//! Whether two pods of one network reach each other: a TCP connection from one namespace into the other.

use std::{
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{pods::Running, report::Reach};

/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long an address may be checked for duplicates before it can be used.
const TENTATIVE: Duration = Duration::from_secs(3);

/// Tries every pair of pods that share a network.
///
/// # Errors
/// When a namespace cannot be entered.
pub fn all(pods: &[Running<'_>]) -> Result<Vec<Reach>> {
    let mut tried = Vec::new();
    for (index, from) in pods.iter().enumerate() {
        for to in pods.iter().skip(index + 1) {
            let networks = to.report.attachments.iter().skip(1).map(|attachment| &attachment.network);
            for network in networks {
                let here = from.report.attachments.iter().skip(1);
                if let Some(own) = here.clone().find(|attachment| attachment.network == *network) {
                    tried.extend(one(from, &own.interface, to, network)?);
                }
            }
        }
    }
    Ok(tried)
}

/// Addresses of a pod on a network.
fn addresses(pod: &Running<'_>, network: &str) -> Vec<IpAddr> {
    let mine = pod.report.attachments.iter().filter(|attachment| attachment.network == network);
    let names: Vec<&str> = mine.map(|attachment| attachment.interface.as_str()).collect();
    let interfaces =
        pod.report.interfaces.iter().filter(|interface| names.contains(&interface.name.as_str()));
    let texts = interfaces.flat_map(|interface| &interface.addresses);
    texts.filter_map(|text| text.split('/').next()?.parse().ok()).collect()
}

fn one(from: &Running<'_>, interface: &str, to: &Running<'_>, network: &str) -> Result<Vec<Reach>> {
    let sources = addresses(from, network);
    let mut tried = Vec::new();
    for address in addresses(to, network) {
        let Some(source) = sources.iter().find(|source| source.is_ipv4() == address.is_ipv4()) else {
            continue;
        };
        let begin = Instant::now();
        let outcome = connect(&from.netns, *source, &to.netns, address)?;
        tried.push(Reach {
            network: network.to_owned(),
            from: from.shown(),
            to: to.shown(),
            address: address.to_string(),
            ok: outcome.is_ok(),
            milliseconds: outcome.as_ref().map_or(begin.elapsed(), |time| *time).as_secs_f64() * 1000.0,
            why: outcome.err().map(|why| format!("{why} (from {source} on {interface})")).unwrap_or_default(),
        });
    }
    Ok(tried)
}

/// How long a connection took, or why there was none.
fn connect(from: &Path, source: IpAddr, to: &Path, address: IpAddr) -> Result<Result<Duration, String>> {
    let enter = |netns: &Path| format!("entering {}", netns.display());
    let listen = || {
        let end = Instant::now() + TENTATIVE;
        loop {
            match TcpListener::bind(SocketAddr::new(address, 0)) {
                Ok(listener) => {
                    break listener.local_addr().map(|at| (listener, at.port())).map_err(|e| e.to_string());
                }
                Err(error) if Instant::now() >= end => {
                    break Err(format!("{address} cannot be used: {error}"));
                }
                // Nothing tells when an address stops being tentative.
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    };
    let (listener, port) = match meta::netns::inside(to, listen).with_context(|| enter(to))? {
        Ok(listening) => listening,
        Err(why) => return Ok(Err(why)),
    };
    let dial = || {
        let begin = Instant::now();
        let stream = TcpStream::connect_timeout(&SocketAddr::new(address, port), PATIENCE);
        let local = stream.as_ref().ok().and_then(|stream| stream.local_addr().ok());
        match stream {
            Ok(_) if local.is_some_and(|local| local.ip() != source) => Err(format!(
                "it answered over another network, from {}",
                local.map_or(source, |local| local.ip())
            )),
            Ok(_) => Ok(begin.elapsed()),
            Err(error) => Err(error.to_string()),
        }
    };
    let outcome = meta::netns::inside(from, dial).with_context(|| enter(from))?;
    drop(listener);
    Ok(outcome)
}
