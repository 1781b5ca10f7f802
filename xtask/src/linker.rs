//! `bpf-linker`: finding it, finding the LLVM it needs, building it.
//!
//! The linker reads the compiler's bitcode, so its LLVM must be of the compiler's major
//! version. It lives in the target directory, one for each major, and is linked to a
//! shared libLLVM that is there already: the system's, else the one rustup's compilers
//! bring along. LLVM's development packages are not needed.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{compiler::Compiler, process, workspace::Workspace};

/// The release that the object is linked with.
pub(crate) const VERSION: &str = "0.13.0";

/// Names a linker to use as it is, whatever its LLVM: for machines without a shared LLVM.
pub(crate) const OVERRIDE: &str = "ABUSER_BPF_LINKER";

/// A linker that runs.
#[derive(Debug, Clone)]
pub(crate) struct Linker {
    pub(crate) path: PathBuf,
    /// The shared LLVM it was built on, as the file is called.
    pub(crate) llvm: String,
}

impl Linker {
    /// The linker for this compiler, if it is there and runs.
    pub(crate) fn find(workspace: &Workspace, compiler: &Compiler) -> Result<Self> {
        let (path, llvm) = if let Some(path) = env::var_os(OVERRIDE) {
            (PathBuf::from(path), format!("unknown: named by {OVERRIDE}"))
        } else {
            let home = home(workspace, compiler);
            let llvm = fs::canonicalize(shared_llvm_link(&home))
                .ok()
                .and_then(|file| Some(file.file_name()?.to_string_lossy().into_owned()))
                .unwrap_or_default();
            (home.join("bin/bpf-linker"), llvm)
        };
        if !path.is_file() {
            bail!("{} is not there", path.display());
        }
        let version = process::output(Command::new(&path).arg("--version"))?;
        if version.trim() != format!("bpf-linker {VERSION}") {
            bail!(
                "{} is `{}`, not version {VERSION}",
                path.display(),
                version.trim()
            );
        }
        Ok(Self { path, llvm })
    }

    /// Builds the linker for this compiler into the target directory.
    pub(crate) fn install(workspace: &Workspace, compiler: &Compiler) -> Result<Self> {
        if let Some(path) = env::var_os(OVERRIDE) {
            bail!(
                "{OVERRIDE} names {}, so no other linker is built. Let it name a bpf-linker {VERSION}, or unset it",
                Path::new(&path).display()
            );
        }
        let major = compiler.version.llvm.major;
        let llvm = find_llvm(compiler)?;
        let home = home(workspace, compiler);
        let link = shared_llvm_link(&home);
        let lib = home.join("lib");
        fs::create_dir_all(&lib).with_context(|| format!("make the folder {}", lib.display()))?;
        if fs::symlink_metadata(&link).is_ok() {
            fs::remove_file(&link).with_context(|| format!("remove {}", link.display()))?;
        }
        symlink(&llvm, &link)
            .with_context(|| format!("link {} to {}", link.display(), llvm.display()))?;
        println!(
            "building bpf-linker {VERSION} on {} (about a minute)",
            llvm.display()
        );
        let scratch = workspace.target.join("tools/build");
        let folder = llvm.parent().unwrap_or(Path::new("/"));
        let mut command = process::cargo_install(workspace, "bpf-linker", VERSION, &home, &scratch);
        command
            // What takes its time is LLVM, which is there already.
            .arg("--debug")
            .args([
                "--no-default-features",
                "--features",
                &format!("llvm-{major}"),
            ])
            .env("LLVM_PREFIX", &home)
            // rustup's LLVM is where the loader does not look by itself.
            .env(
                "RUSTFLAGS",
                format!("-Clink-arg=-Wl,-rpath,{}", folder.display()),
            );
        process::run(&mut command).with_context(|| {
            format!(
                "build bpf-linker on {}. A linker from elsewhere does as well: name it in {OVERRIDE}",
                llvm.display()
            )
        })?;
        // It is of no further use, and large; a leftover does no harm.
        let _ = fs::remove_dir_all(&scratch);
        Self::find(workspace, compiler).context("the linker that was just built")
    }
}

fn home(workspace: &Workspace, compiler: &Compiler) -> PathBuf {
    workspace
        .target
        .join(format!("tools/llvm-{}", compiler.version.llvm.major))
}

fn shared_llvm_link(home: &Path) -> PathBuf {
    home.join("lib/libLLVM.so")
}

/// The shared LLVM of the compiler's major version: the system's, else the compiler's own.
pub(crate) fn find_llvm(compiler: &Compiler) -> Result<PathBuf> {
    let major = compiler.version.llvm.major;
    let folders = llvm_folders(compiler);
    for folder in &folders {
        let Ok(entries) = fs::read_dir(folder) else {
            continue;
        };
        let mut files: Vec<_> = entries
            .filter_map(Result::ok)
            .filter(|entry| is_shared_llvm(&entry.file_name().to_string_lossy(), major))
            .filter_map(|entry| fs::canonicalize(entry.path()).ok())
            .collect();
        files.sort();
        if let Some(file) = files.pop() {
            return Ok(file);
        }
    }
    let looked: Vec<_> = folders
        .iter()
        .map(|folder| folder.display().to_string())
        .collect();
    bail!(
        "no shared libLLVM of version {major}, which {} was made with, in {}. Get it: apt-get install libllvm{major} (or your distribution's package of LLVM {major}); if the compiler's LLVM is linked statically and there is no such package, put the path of a bpf-linker {VERSION} into {OVERRIDE}",
        compiler.name,
        looked.join(", ")
    )
}

fn llvm_folders(compiler: &Compiler) -> Vec<PathBuf> {
    let major = compiler.version.llvm.major;
    let architecture = compiler.version.host.split('-').next().unwrap_or_default();
    [
        format!("/usr/lib/{architecture}-linux-gnu"),
        format!("/usr/lib/llvm-{major}/lib"),
        format!("/usr/lib64/llvm{major}/lib"),
        "/usr/lib64".to_owned(),
        "/usr/lib".to_owned(),
        "/usr/local/lib".to_owned(),
    ]
    .into_iter()
    .map(PathBuf::from)
    .chain([compiler.sysroot.join("lib")])
    .collect()
}

/// `libLLVM.so.22.1`, `libLLVM-22.so` or `libLLVM.so.22.1-rust-1.97.0-nightly`, for 22.
fn is_shared_llvm(file: &str, major: u32) -> bool {
    let Some(rest) = file
        .strip_prefix("libLLVM.so.")
        .or_else(|| file.strip_prefix("libLLVM-"))
    else {
        return false;
    };
    rest.strip_prefix(&major.to_string())
        .is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::is_shared_llvm;

    #[test]
    fn the_llvm_of_the_asked_major_is_recognised_by_its_file_name() {
        for file in [
            "libLLVM.so.22.1",
            "libLLVM-22.so",
            "libLLVM.so.22.1-rust-1.97.0-nightly",
        ] {
            assert!(is_shared_llvm(file, 22), "{file}");
        }
        for file in [
            "libLLVM.so",
            "libLLVM.so.21.1",
            "libLLVM-2.so",
            "libLLVM.so.220",
            "libLLVMCore.a",
        ] {
            assert!(!is_shared_llvm(file, 22), "{file}");
        }
    }
}
