//! Installing and building the programs of the cluster, once, into the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};

use super::go;
use super::image::BUSYBOX;
use super::layout::{self, Layout};
use crate::debian;

const VERSIONS: &str = include_str!("../../../../ci/cluster/versions.env");
/// What the cluster's programs call or are made of.
const PACKAGES: &[debian::Need] = &[
    ("runc", "runc"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("nsenter", "util-linux"),
    ("mount", "mount"),
    ("openssl", "openssl"),
    ("tar", "tar"),
    (BUSYBOX, "busybox-static"),
];

/// The reference plugins, by their folder in the module.
const CNI_PLUGINS: &[&str] = &include!("../../../../ci/cluster/cni-plugins.rs");

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

/// The folder of the reference CNI plugins for an architecture, as Go names it; built if they are missing.
pub(crate) fn cni_plugins(layout: &Layout, arch: &str) -> Result<PathBuf> {
    let here = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    if arch == here {
        ensure(layout)?;
        return Ok(layout.tool("cni"));
    }
    // Go puts programs for another architecture below the folder of its own choice only.
    let (version, home) = (version("CNI_PLUGINS")?, layout.cache().join(format!("go-{arch}")));
    let mut command = Command::new(go::find(layout)?);
    command.args(["install", "-v", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-modcacherw"]);
    command.env("CGO_ENABLED", "0").env("GOARCH", arch).env("GOPATH", &home).env("GOTOOLCHAIN", "auto");
    command.env_remove("GOFLAGS").env_remove("GOBIN").current_dir(layout.cache());
    let package = |name: &&str| format!("github.com/containernetworking/plugins/plugins/{name}@{version}");
    command.args(CNI_PLUGINS.iter().map(package));
    go::watch(&mut command, "cni_plugins")?;
    Ok(home.join(format!("bin/linux_{arch}")))
}

/// Makes sure that everything is there, and says what is being made.
pub(super) fn ensure(layout: &Layout) -> Result<()> {
    debian::ensure(PACKAGES)?;
    // Debian's other busybox needs libraries that an image from scratch has not.
    if is_dynamic(Path::new(BUSYBOX))? {
        debian::install(&["busybox-static"])?;
    }
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
            None => go.insert(go::find(layout)?),
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

fn is_dynamic(program: &Path) -> Result<bool> {
    let bytes = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    // The name of the loader stands near the beginning of a program that needs one.
    let head = bytes.get(..4096).unwrap_or(&bytes);
    Ok(head.windows(4).any(|window| window == b"/ld-"))
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
    go::watch(&mut command, &name)?;

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
