//! `cargo xtask build-ebpf`: the XDP programs, from source to the committed objects.
//!
//! The objects are committed so that building takes nothing but stable Rust. That
//! is only honest if anyone can rebuild it: paths of the building machine are mapped away,
//! the tools are recorded, and `--check` compares a fresh build with the committed bytes.

use std::{env, ffi::OsString, fs, path::PathBuf, process::Command, process::ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::{
    counts::Counts,
    machine::is_root,
    object_file::{self, Stripped},
    objects::{OBJECTS, Object},
    process,
    record::{Record, sha256},
    toolchain::Toolchain,
    verifier,
    workspace::Workspace,
};

/// The instruction set of the object: v3 has the 32-bit and atomic instructions, and
/// every kernel that `abuser` supports runs it.
pub(crate) const CPU: &str = "v3";

const TRIPLE: &str = "bpfel-unknown-none";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Build beside the committed objects and fail unless they are the same
    #[arg(long)]
    check: bool,
}

/// What a check found, the best first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Checked {
    /// The fresh object is the committed one, byte for byte.
    Identical,
    /// Other tools made another object; it passed the kernel tests.
    OtherToolsPassed,
    /// Other tools made another object, and there is no privilege to load it.
    OtherToolsUntested,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    if !args.check {
        let toolchain = Toolchain::find(workspace, None)?;
        println!("building with {toolchain}");
        for object in &OBJECTS {
            let built = build(workspace, object, &toolchain)?;
            let file = object.committed(workspace);
            fs::write(&file, &built.bytes).with_context(|| format!("write {}", file.display()))?;
            Record::new(&toolchain, &built.bytes).write(workspace, object)?;
            println!("wrote {} and its record; commit both", file.display());
            print_verified(&built.bytes)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    Ok(match check(workspace, &mut Counts::default())? {
        Checked::Identical | Checked::OtherToolsPassed => ExitCode::SUCCESS,
        Checked::OtherToolsUntested => {
            eprintln!(
                "error: other tools made another object, and only root can test it: run `cargo xtask build-ebpf --check` as root"
            );
            ExitCode::FAILURE
        }
    })
}

/// Rebuilds every object and holds it against the committed one; what is worst counts.
pub(crate) fn check(workspace: &Workspace, counts: &mut Counts) -> Result<Checked> {
    let mut worst = Checked::Identical;
    for object in &OBJECTS {
        worst = worst.max(check_object(workspace, object, counts)?);
    }
    Ok(worst)
}

fn check_object(workspace: &Workspace, object: &Object, counts: &mut Counts) -> Result<Checked> {
    let record = Record::read(workspace, object)?;
    let file = object.committed(workspace);
    let committed = fs::read(&file).with_context(|| {
        format!(
            "read the committed object, {}; `cargo xtask build-ebpf` makes it",
            file.display()
        )
    })?;
    if sha256(&committed) != record.sha256 {
        bail!(
            "{} is not the object that {} describes: its SHA-256 is {}, the record says {}. Run `cargo xtask build-ebpf` and commit both",
            file.display(),
            object.record(workspace).display(),
            sha256(&committed),
            record.sha256
        );
    }
    let toolchain = Toolchain::find(workspace, Some(&record))?;
    println!("building with {toolchain}");
    let built = build(workspace, object, &toolchain)?;
    if built.bytes == committed {
        println!("the fresh object is the committed one, byte for byte");
        print_verified(&built.bytes)?;
        return Ok(Checked::Identical);
    }
    let fresh = workspace.ebpf_target().join(object.file_name());
    fs::write(&fresh, &built.bytes).with_context(|| format!("write {}", fresh.display()))?;
    let differences = record.tool_differences(&Record::new(&toolchain, &built.bytes));
    if differences.is_empty() {
        bail!(
            "the same tools made another object than the committed one ({} bytes, committed: {}): the sources have changed since. Run `cargo xtask build-ebpf` and commit {} with its record. The fresh object is {}",
            built.bytes.len(),
            committed.len(),
            object.path(),
            fresh.display()
        );
    }
    println!(
        "the committed object was made with other tools, so the bytes cannot be compared:\n  {}",
        differences.join("\n  ")
    );
    print_verified(&built.bytes)?;
    if !is_root() {
        return Ok(Checked::OtherToolsUntested);
    }
    // The bench's programs have no tests: that they load is what can be said of them.
    if object.is_main {
        println!("running the kernel tests on the fresh object instead");
        let mut tests = process::cargo(workspace);
        tests.args(["test", "-p", "abuser-tests", "--test", "testrun"]);
        tests.env("ABUSER_BPF_OBJECT", &fresh);
        process::run_tests(&mut tests, counts)?;
    }
    Ok(Checked::OtherToolsPassed)
}

/// Says how far an object's programs are from the verifier's limit.
fn print_verified(object: &[u8]) -> Result<()> {
    if !is_root() {
        println!("not loaded, so the verifier's steps are not counted: that takes root");
        return Ok(());
    }
    for verified in verifier::verify(object)? {
        println!("{verified}");
    }
    Ok(())
}

/// Compiles, links and strips; says what came out.
fn build(workspace: &Workspace, object: &Object, toolchain: &Toolchain) -> Result<Stripped> {
    let mut command = Command::new(&toolchain.compiler.cargo);
    clean_environment(&mut command);
    command
        .current_dir(&workspace.root)
        .args([
            "build",
            "--release",
            "-p",
            object.package,
            "-Zbuild-std=core",
            "--target",
            TRIPLE,
        ])
        .arg("--target-dir")
        .arg(workspace.ebpf_target())
        .env("RUSTC", &toolchain.compiler.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags(workspace, toolchain));
    process::run(&mut command).with_context(|| {
        format!(
            "{} was not built; the compiler's messages are above. The tools were {toolchain}",
            object.package
        )
    })?;
    let linked = object.linked(&workspace.ebpf_target().join(TRIPLE).join("release"));
    let bytes = fs::read(&linked).with_context(|| format!("read {}", linked.display()))?;
    let stripped =
        object_file::strip_dwarf(&bytes).with_context(|| format!("strip {}", linked.display()))?;
    println!(
        "{}: {} bytes ({} with DWARF), {} sections, SHA-256 {}",
        object.file_name(),
        stripped.bytes.len(),
        bytes.len(),
        stripped.sections,
        sha256(&stripped.bytes)
    );
    Ok(stripped)
}

/// Takes away what would change the compiler or its flags: the cargo that started this
/// program passes on its own toolchain, and a developer's wrappers and flags are theirs.
fn clean_environment(command: &mut Command) {
    let foreign = [
        "RUSTC",
        "RUSTDOC",
        "RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
        "CARGO_ENCODED_RUSTFLAGS",
    ];
    let prefixes = [
        "RUSTC_",
        "CARGO_BUILD_",
        "CARGO_PROFILE_",
        "CARGO_TARGET_",
        "CARGO_UNSTABLE_",
    ];
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if foreign.contains(&&*text) || prefixes.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    // Empty overrides a wrapper that cargo's configuration names.
    command
        .env("RUSTC_WRAPPER", "")
        .env("RUSTC_WORKSPACE_WRAPPER", "");
}

/// The compiler's flags, in cargo's encoding. They replace those of any configuration.
fn flags(workspace: &Workspace, toolchain: &Toolchain) -> OsString {
    let mut flags: Vec<OsString> = vec![
        concat_os("-Clinker=", &toolchain.linker.path),
        format!("-Ctarget-cpu={CPU}").into(),
        "-Cdebuginfo=2".into(),
        "-Clink-arg=--btf".into(),
    ];
    for (from, to) in remaps(workspace, toolchain) {
        let mut flag = concat_os("--remap-path-prefix=", &from);
        flag.push("=");
        flag.push(to);
        flags.push(flag);
    }
    flags.join("\x1f".as_ref())
}

/// Where this machine keeps things, and what the object calls those places. The last match
/// wins in rustc, so the narrower ones come later.
fn remaps(workspace: &Workspace, toolchain: &Toolchain) -> Vec<(PathBuf, &'static str)> {
    let mut remaps = vec![
        (workspace.root.clone(), "/abuser"),
        (workspace.ebpf_target(), "/target"),
    ];
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| {
        let home = env::var_os("HOME")?;
        Some(PathBuf::from(home).join(".cargo"))
    });
    if let Some(cargo_home) = cargo_home {
        // The folder under `src` is named after the registry's host.
        let sources = fs::read_dir(cargo_home.join("registry/src"));
        remaps.push((cargo_home, "/cargo"));
        remaps.extend(
            sources
                .into_iter()
                .flatten()
                .filter_map(Result::ok)
                .map(|entry| (entry.path(), "/cargo/registry")),
        );
    }
    remaps.push((
        toolchain.compiler.sysroot.join("lib/rustlib/src/rust"),
        "/rustc",
    ));
    if let Some(source) = &toolchain.compiler.source {
        remaps.push((source.clone(), "/rustc/library"));
        // Debian keeps the source elsewhere, behind a link.
        if let Ok(source) = fs::canonicalize(source) {
            remaps.push((source, "/rustc/library"));
        }
    }
    remaps
}

fn concat_os(flag: &str, path: &std::path::Path) -> OsString {
    let mut flag = OsString::from(flag);
    flag.push(path);
    flag
}
