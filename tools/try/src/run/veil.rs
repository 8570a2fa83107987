//! A view of the machine that may be written to and forgets it: namespaces of its own, every file system overlaid.
//!
//! Nothing of it has a name outside, so it ends with the process, however that ends.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    unistd::{chdir, pivot_root},
};

/// Where the layers lie: its own content is mounted anew anyway.
const LAYERS: &str = "/sys";
/// What must be as the kernel has it.
const KERNEL: [&str; 4] = ["/proc", "/sys", "/dev", "/run/netns"];

/// Mounts of other workloads, of which a node has hundreds and a plugin needs none.
const FOREIGN: [&str; 7] = [
    "/var/lib/kubelet",
    "/var/lib/docker",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/run/containerd",
    "/run/k3s",
    "/run/user",
];
/// Where what is written can be looked at.
const SIGHT: &str = "/run/multus-try/written";

/// What was made.
#[derive(Debug)]
pub struct Veil {
    /// For each overlay, where what is written can be looked at, and what it lies over; none where file systems
    /// could not be overlaid.
    pub written: Vec<(PathBuf, PathBuf)>,
}

/// Enters namespaces of its own for networks and mounts, and lays the veil over all file systems.
///
/// # Errors
/// When the kernel does not allow it, with what to do.
pub fn enter() -> Result<Veil> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
        .context("cannot make namespaces: run as root, or in a container with CAP_SYS_ADMIN")?;
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).context("cannot make mounts private")?;
    match overlaid() {
        Ok(veil) => Ok(veil),
        // Kernels and user namespaces without overlays: cover what plugins write, and keep the rest unchanged.
        Err(_) => covered(),
    }
}

fn tmpfs(target: &Path) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("multus-try"), target, Some("tmpfs"), flags, Some("mode=0755"))
        .with_context(|| format!("cannot mount a tmpfs on {}", target.display()))
}

fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))
}

/// `/` and everything mounted below it as overlays, so that plugins may write anywhere.
fn overlaid() -> Result<Veil> {
    let layers = Path::new(LAYERS);
    let mounts = mounts()?;
    tmpfs(layers)?;
    let root = layers.join("root");
    make(&root)?;
    let mut veil = Veil { written: Vec::new() };
    let begun = overlay(Path::new("/"), &root, &mut veil);
    if begun.is_err() {
        // As if nothing had been tried.
        umount2(layers, MntFlags::MNT_DETACH).context("cannot take the layers away again")?;
        begun?;
    }
    for mounted in mounts.iter().filter(|mounted| mounted.as_path() != Path::new("/")) {
        below(mounted, &root, &mut veil)?;
    }
    mount(Some("proc"), &root.join("proc"), Some("proc"), MsFlags::empty(), None::<&str>)
        .context("cannot mount /proc")?;
    let own_sys = mount(Some("sysfs"), &root.join("sys"), Some("sysfs"), MsFlags::empty(), None::<&str>);
    own_sys.context("cannot mount /sys")?;
    // Kept in sight, to see what was written.
    let sight = root.join(SIGHT.trim_start_matches('/'));
    make(&sight)?;
    bind(&layers.join("up"), &sight)?;
    chdir(&root).context("cannot enter the new root")?;
    pivot_root(".", ".").context("cannot change the root")?;
    umount2(".", MntFlags::MNT_DETACH).context("cannot leave the old root")?;
    chdir("/").context("cannot enter the new root")?;
    for (number, (seen, _)) in veil.written.iter_mut().enumerate() {
        *seen = Path::new(SIGHT).join(number.to_string());
    }
    Ok(veil)
}

/// One overlay of `from`, seen at `at`.
fn overlay(from: &Path, at: &Path, veil: &mut Veil) -> Result<()> {
    let number = veil.written.len().to_string();
    let (up, work) =
        (Path::new(LAYERS).join("up").join(&number), Path::new(LAYERS).join("work").join(&number));
    make(&up)?;
    make(&work)?;
    // A colon or comma in a path would need escapes that differ between kernels.
    let options = format!("lowerdir={},upperdir={},workdir={}", from.display(), up.display(), work.display());
    mount(Some("overlay"), at, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .with_context(|| format!("cannot overlay {}", from.display()))?;
    veil.written.push((up, from.to_owned()));
    Ok(())
}

/// A mount below the root: overlaid where that works, else bound read-only, else left out.
fn below(mounted: &Path, root: &Path, veil: &mut Veil) -> Result<()> {
    let Ok(inner) = mounted.strip_prefix("/") else { return Ok(()) };
    let target = root.join(inner);
    let of_kernel = KERNEL.iter().any(|folder| mounted.starts_with(folder));
    if mounted.starts_with("/dev") {
        // Devices are no files of the disk.
        return if target.exists() { bind(mounted, &target) } else { Ok(()) };
    }
    let foreign = FOREIGN.iter().any(|folder| mounted.starts_with(folder) && mounted != Path::new(folder));
    if of_kernel || foreign || !target.exists() {
        return Ok(());
    }
    if mounted.is_dir() && overlay(mounted, &target, veil).is_ok() {
        return Ok(());
    }
    if bind(mounted, &target).is_ok() && read_only(&target).is_err() {
        umount2(&target, MntFlags::MNT_DETACH)
            .with_context(|| format!("cannot hide {}", mounted.display()))?;
    }
    Ok(())
}

fn bind(from: &Path, at: &Path) -> Result<()> {
    mount(Some(from), at, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("cannot bind {} to {}", from.display(), at.display()))
}

fn read_only(at: &Path) -> Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, at, None::<&str>, flags, None::<&str>)
        .with_context(|| format!("cannot make {} read-only", at.display()))
}

/// Empty folders over those that plugins write, and everything else read-only where the kernel lets us.
fn covered() -> Result<Veil> {
    tmpfs(Path::new("/run"))?;
    tmpfs(Path::new("/var/lib"))?;
    // A user namespace may not change mounts that it inherited; its owner may not write there either.
    drop(read_only(Path::new("/")));
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None::<&str>)
        .context("cannot mount /proc")?;
    let _ = mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>);
    Ok(Veil { written: Vec::new() })
}

/// Where something is mounted, parents first, each place once.
fn mounts() -> Result<Vec<PathBuf>> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("cannot read /proc/self/mountinfo")?;
    let mut mounts: Vec<PathBuf> = text
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|place| PathBuf::from(unescape(place)))
        .collect();
    mounts.sort();
    mounts.dedup();
    Ok(mounts)
}

/// Blanks and the like stand as a backslash and three octal digits.
fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| *first == b'\\') {
            Some(byte) => {
                out.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_with_blanks_are_read() {
        assert_eq!(unescape("/a\\040b\\134c\\01"), "/a b\\c\\01");
    }
}
