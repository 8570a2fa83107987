//! A delegate that does nothing: it reads its configuration and answers ADD with one address. What a call of it
//! costs is the cost of starting a process, so that what is above it is the meta-plugin's own.

use std::{
    env,
    io::{self, Read, Write},
};

fn main() -> io::Result<()> {
    let mut config = Vec::new();
    io::stdin().read_to_end(&mut config)?;
    if env::var("CNI_COMMAND").as_deref() != Ok("ADD") {
        return Ok(());
    }
    let variable = |name| env::var(name).unwrap_or_default();
    let (ifname, netns) = (variable("CNI_IFNAME"), variable("CNI_NETNS"));
    // The benchmark's configs all have this version.
    let result = format!(
        r#"{{"cniVersion":"1.0.0","interfaces":[{{"name":"{ifname}","mac":"02:00:00:00:00:01","sandbox":"{netns}"}}],"ips":[{{"address":"10.99.0.2/24","interface":0}}],"dns":{{}}}}"#
    );
    io::stdout().write_all(result.as_bytes())
}
