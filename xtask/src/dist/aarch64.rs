//! Whether abuser compiles for 64-bit Arm, and whether the part that kernel and userspace share works
//! there, which an emulator tells.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{compiler, machine::on_path, process, workspace::Workspace};

const TARGET: &str = "aarch64-unknown-linux-gnu";

/// What `SQLite` and the cryptography are compiled with, and programs are linked with.
const CC: &str = "aarch64-linux-gnu-gcc";

/// The program that runs programs of that processor.
const EMULATOR: &str = "qemu-aarch64-static";

/// Where Debian has that processor's libraries.
const LIBRARIES: &str = "/usr/aarch64-linux-gnu";

pub(super) fn check(workspace: &Workspace) -> Result<()> {
    if on_path(CC).is_none() {
        bail!(
            "there is no {CC}, which compiles SQLite. Get it: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static"
        );
    }
    let cargo = Cargo::find(workspace)?;
    println!("checking with {}", cargo.name);
    let mut check = cargo.command(workspace);
    check.args(["check", "--locked", "-p", "abuser-userspace"]);
    process::run(check.args(&cargo.library))?;
    if on_path(EMULATOR).is_none() {
        println!("not run: there is no {EMULATOR} (apt-get install qemu-user-static)");
        return Ok(());
    }
    let mut tests = cargo.command(workspace);
    tests
        .args(["test", "--locked", "-p", "abuser-common", "--lib"])
        .args(&cargo.library)
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", CC)
        .env(
            "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER",
            format!("{EMULATOR} -L {LIBRARIES}"),
        );
    process::run(&mut tests).context("run the tests of abuser-common in an emulator")
}

/// A cargo that can compile for that processor.
struct Cargo {
    name: String,
    program: PathBuf,
    /// The compiler, if it is not the one that comes with this cargo.
    rustc: Option<PathBuf>,
    /// What has it compile the standard library, if it is not there.
    library: Vec<OsString>,
}

impl Cargo {
    /// The usual one if rustup has added the target; else one whose compiler has its library's source.
    fn find(workspace: &Workspace) -> Result<Self> {
        let program = process::cargo_path();
        let rustc = program.with_file_name("rustc");
        let sysroot = process::output(Command::new(&rustc).args(["--print", "sysroot"]))?;
        let library = Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET);
        if fs::exists(library).unwrap_or(false) {
            return Ok(Self {
                name: format!("{}, whose library for {TARGET} is there", rustc.display()),
                program,
                rustc: None,
                library: Vec::new(),
            });
        }
        let compilers = compiler::Compiler::find_all();
        let compiler =
            compiler::choose(&compilers, workspace.rust_version, None).with_context(|| {
                format!(
                    "no compiler has a library for {TARGET}. Get one: rustup target add {TARGET}"
                )
            })?;
        Ok(Self {
            name: format!("{}, compiling its library", compiler.name),
            program: compiler.cargo.clone(),
            rustc: Some(compiler.rustc.clone()),
            library: vec!["-Zbuild-std=std,panic_unwind,test,proc_macro".into()],
        })
    }

    fn command(&self, workspace: &Workspace) -> Command {
        let mut command = Command::new(&self.program);
        command
            .current_dir(&workspace.root)
            .env("CARGO_TARGET_DIR", workspace.target.join("aarch64"))
            .env("CARGO_BUILD_TARGET", TARGET)
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env_remove("RUSTUP_TOOLCHAIN");
        if let Some(rustc) = &self.rustc {
            // A stable compiler builds its library as a nightly does.
            command.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
        }
        command
    }
}
