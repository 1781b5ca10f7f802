//! Finding a compiler for the BPF target.
//!
//! `bpfel-unknown-none` has no prebuilt `core`, so a compiler is of use only together with
//! the source of its own library. Distributions ship one (Debian: `rustc-web` with
//! `rust-web-src`), rustup another (the component `rust-src`). `RUSTC_BOOTSTRAP=1` lets a
//! stable compiler build `core` just as a nightly does, so any of them will do.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, anyhow};

use crate::{
    machine::on_path,
    process,
    record::Record,
    rustc_version::{Release, RustcVersion},
};

/// A compiler on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Compiler {
    /// What people call it: `/usr/bin/rustc` or `rustup toolchain nightly-…`.
    pub(crate) name: String,
    pub(crate) rustc: PathBuf,
    /// The cargo that knows how to build this compiler's library.
    pub(crate) cargo: PathBuf,
    pub(crate) sysroot: PathBuf,
    /// The library's source, if it is there.
    pub(crate) source: Option<PathBuf>,
    pub(crate) version: RustcVersion,
}

impl Compiler {
    /// The distribution's compiler and every rustup toolchain, in no order.
    pub(crate) fn find_all() -> Vec<Self> {
        let distribution = [("/usr/bin/rustc".to_owned(), PathBuf::from("/usr"))];
        let mut found: Vec<Self> = Vec::new();
        for (name, sysroot) in distribution.into_iter().chain(rustup_toolchains()) {
            let Some(compiler) = Self::inspect(name, &sysroot.join("bin")) else {
                continue;
            };
            // rustup keeps one toolchain under several names.
            if !found.iter().any(|other| other.sysroot == compiler.sysroot) {
                found.push(compiler);
            }
        }
        found
    }

    fn inspect(name: String, bin: &Path) -> Option<Self> {
        let rustc = bin.join("rustc");
        let ask = |arguments: &[&str]| {
            process::output(
                Command::new(&rustc)
                    .env_remove("RUSTUP_TOOLCHAIN")
                    .args(arguments),
            )
        };
        let version = RustcVersion::parse(&ask(&["-vV"]).ok()?).ok()?;
        let sysroot = fs::canonicalize(ask(&["--print", "sysroot"]).ok()?.trim()).ok()?;
        let library = sysroot.join("lib/rustlib/src/rust/library");
        // A distribution's compiler goes with whichever cargo is in use; rustup pairs them.
        let own_cargo = sysroot.join("bin/cargo");
        let cargo = if sysroot != Path::new("/usr") && own_cargo.is_file() {
            own_cargo
        } else {
            process::cargo_path()
        };
        Some(Self {
            name,
            rustc,
            cargo,
            source: library.join("core/Cargo.toml").is_file().then_some(library),
            sysroot,
            version,
        })
    }

    /// What keeps this compiler from building the XDP program, if anything.
    pub(crate) fn flaw(&self, oldest: Release) -> Option<String> {
        if self.version.release < oldest {
            return Some(format!("older than {oldest}, which the workspace needs"));
        }
        self.source
            .is_none()
            .then(|| "without its library's source".to_owned())
    }
}

/// Why no compiler fits, and what gets one.
pub(crate) fn none_fits(compilers: &[Compiler], oldest: Release) -> anyhow::Error {
    let mut seen: Vec<String> = compilers
        .iter()
        .map(|compiler| {
            let flaw = compiler.flaw(oldest).unwrap_or_default();
            format!("{} ({}): {flaw}", compiler.name, compiler.version.release)
        })
        .collect();
    if seen.is_empty() {
        seen.push("nothing: there is no other compiler".to_owned());
    }
    let seen = seen.join("\n  ");
    anyhow!(
        "no compiler can build for the BPF target; it takes Rust {oldest} or later with the source of its library. Looked at:\n  {seen}\nGet one: {}",
        remedy(compilers)
    )
}

/// The command that gets a compiler on this machine.
pub(crate) fn remedy(compilers: &[Compiler]) -> String {
    if on_path("apt-get").is_some() {
        return "cargo xtask doctor --fix (as root: it installs Debian's rustc-web and rust-web-src)"
            .to_owned();
    }
    let nightly = compilers
        .iter()
        .any(|compiler| compiler.name.contains("nightly"));
    if nightly {
        "rustup component add rust-src --toolchain nightly".to_owned()
    } else {
        "rustup toolchain install nightly --profile minimal --component rust-src".to_owned()
    }
}

/// The newest compiler that can do the work; among those, one that `record` names comes
/// first, so that a check compares like with like.
pub(crate) fn choose<'a>(
    compilers: &'a [Compiler],
    oldest: Release,
    record: Option<&Record>,
) -> Result<&'a Compiler> {
    compilers
        .iter()
        .filter(|compiler| compiler.flaw(oldest).is_none())
        .max_by_key(|compiler| {
            let version = &compiler.version;
            let recorded = record.is_some_and(|record| record.rustc == version.line);
            (recorded, version.release, version.commit_date.as_str())
        })
        .ok_or_else(|| none_fits(compilers, oldest))
}

fn rustup_toolchains() -> Vec<(String, PathBuf)> {
    let home = env::var_os("RUSTUP_HOME").map(PathBuf::from).or_else(|| {
        let home = env::var_os("HOME")?;
        Some(Path::new(&home).join(".rustup"))
    });
    let Some(folder) = home.map(|home| home.join("toolchains")) else {
        return Vec::new();
    };
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| {
            let name = entry.file_name();
            (
                format!("rustup toolchain {}", name.to_string_lossy()),
                entry.path(),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiler(release: &str, date: &str, with_source: bool) -> Compiler {
        let release = Release::parse(release).expect("a release");
        Compiler {
            name: format!("test compiler {release}"),
            rustc: PathBuf::from("/bin/rustc"),
            cargo: PathBuf::from("/bin/cargo"),
            sysroot: PathBuf::from("/"),
            source: with_source.then(|| PathBuf::from("/library")),
            version: RustcVersion {
                line: format!("rustc {release} ({date})"),
                release,
                commit_hash: String::new(),
                commit_date: date.to_owned(),
                host: "x86_64-unknown-linux-gnu".to_owned(),
                llvm: Release {
                    major: 22,
                    minor: 1,
                    patch: 8,
                },
            },
        }
    }

    fn oldest() -> Release {
        Release {
            major: 1,
            minor: 90,
            patch: 0,
        }
    }

    #[test]
    fn the_newest_compiler_with_source_is_taken() {
        let all = [
            compiler("1.96.0", "2026-05-25", true),
            compiler("1.97.0", "2026-05-19", true),
            compiler("1.97.0", "2026-05-20", true),
            compiler("1.98.0", "2026-07-01", false),
        ];
        let chosen = choose(&all, oldest(), None).expect("three of them fit");
        assert_eq!(chosen.version.line, "rustc 1.97.0 (2026-05-20)");
    }

    #[test]
    fn a_check_takes_the_recorded_compiler_though_a_newer_one_is_there() {
        let all = [
            compiler("1.96.0", "2026-05-25", true),
            compiler("1.97.0", "2026-05-20", true),
        ];
        let record = Record {
            rustc: all[0].version.line.clone(),
            ..Record::default()
        };
        let chosen = choose(&all, oldest(), Some(&record)).expect("both fit");
        assert_eq!(chosen.version.line, all[0].version.line);
    }

    #[test]
    fn without_a_fitting_compiler_the_error_says_what_each_lacks() {
        let all = [
            compiler("1.85.0", "2025-02-17", true),
            compiler("1.97.0", "2026-05-20", false),
        ];
        let error = choose(&all, oldest(), None).unwrap_err().to_string();
        assert!(error.contains("older than 1.90.0"), "{error}");
        assert!(error.contains("without its library's source"), "{error}");
    }
}
