//! A compiler and the linker that fits it: what the BPF build needs, found before it
//! starts or got by `doctor --fix`.

use std::fmt;

use anyhow::{Context as _, Result};

use crate::{
    compiler::{self, Compiler},
    debian,
    linker::{self, Linker},
    record::Record,
    workspace::Workspace,
};

/// Everything that builds the XDP program.
#[derive(Debug)]
pub(crate) struct Toolchain {
    pub(crate) compiler: Compiler,
    pub(crate) linker: Linker,
}

impl Toolchain {
    /// What is there already; an error names the command that gets the rest.
    pub(crate) fn find(workspace: &Workspace, record: Option<&Record>) -> Result<Self> {
        let compilers = Compiler::find_all();
        let compiler = compiler::choose(&compilers, workspace.rust_version, record)?.clone();
        let linker = Linker::find(workspace, &compiler).with_context(|| {
            format!(
                "no bpf-linker {} for LLVM {} (get it: cargo xtask doctor --fix)",
                linker::VERSION,
                compiler.version.llvm.major
            )
        })?;
        Ok(Self { compiler, linker })
    }

    /// What is there, after getting what is not.
    pub(crate) fn ensure(workspace: &Workspace, record: Option<&Record>) -> Result<Self> {
        let compiler = ensure_compiler(workspace, record)?;
        let linker = match Linker::find(workspace, &compiler) {
            Ok(linker) => linker,
            Err(error) => {
                println!("bpf-linker: {error:#}");
                Linker::install(workspace, &compiler)?
            }
        };
        Ok(Self { compiler, linker })
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { compiler, linker } = self;
        write!(
            f,
            "{} ({}, LLVM {}), bpf-linker {} on {}",
            compiler.version.line,
            compiler.name,
            compiler.version.llvm,
            linker::VERSION,
            linker.llvm
        )
    }
}

fn ensure_compiler(workspace: &Workspace, record: Option<&Record>) -> Result<Compiler> {
    let compilers = Compiler::find_all();
    let error = match compiler::choose(&compilers, workspace.rust_version, record) {
        Ok(compiler) => return Ok(compiler.clone()),
        Err(error) => error,
    };
    if !debian::is_here() {
        return Err(error);
    }
    println!("{error:#}");
    debian::install(&["rustc-web", "rust-web-src"]).context("install a compiler with its library's source. Where these packages do not exist: rustup toolchain install nightly --profile minimal --component rust-src")?;
    let compilers = Compiler::find_all();
    compiler::choose(&compilers, workspace.rust_version, record).cloned().context(
        "Debian's packages are installed and do not fit. Instead: rustup toolchain install nightly --profile minimal --component rust-src",
    )
}
