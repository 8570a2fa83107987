//! Waiting for conditions, each with a deadline.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(50);

/// Looks until the condition holds. An error of the condition ends the wait.
pub(super) fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    while !holds()? {
        if begin.elapsed() > limit {
            bail!("waited {} s in vain for {what}", limit.as_secs());
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Whether a plain HTTP GET is answered with 200.
pub(super) fn http_ok(address: Ipv4Addr, port: u16, path: &str) -> bool {
    let get = || -> std::io::Result<bool> {
        let address = SocketAddr::from((address, port));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(head.ends_with(b" 200"))
    };
    // Refused, reset and silent all mean: not yet.
    get().unwrap_or(false)
}

/// Prints what each step took.
#[derive(Debug)]
pub(super) struct Steps {
    begin: Instant,
    last: Instant,
}

impl Steps {
    pub(super) fn new() -> Self {
        Self { begin: Instant::now(), last: Instant::now() }
    }
    pub(super) fn done(&mut self, what: &str) {
        println!("{:6.1} s  {what}", self.last.elapsed().as_secs_f64());
        self.last = Instant::now();
    }
    pub(super) fn total(&self) -> f64 {
        self.begin.elapsed().as_secs_f64()
    }
}
