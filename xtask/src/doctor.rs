//! `cargo xtask doctor`: what this machine has, what it lacks, and how to get it.

use std::{
    path::Path,
    process::{Command, ExitCode},
};

use testkit::{
    machine,
    peers::{PEERS, REMEDY, Way},
};

use crate::{
    cargo_tool::{self, CargoTool},
    compiler::{self, Compiler},
    debian,
    linker::{self, Linker},
    machine::{is_mounted, is_root, kernel_release},
    peers, process,
    rustc_version::{Release, RustcVersion},
    toolchain::Toolchain,
    workspace::Workspace,
};

/// Linux 5.18 is the first that takes XDP programs with fragments (`xdp.frags`).
const OLDEST_KERNEL: Release = Release {
    major: 5,
    minor: 18,
    patch: 0,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Get what is missing: Debian packages (as root), bpf-linker and other programs into the target directory
    #[arg(long)]
    fix: bool,
}

/// One line of the report.
enum Finding {
    Present {
        what: String,
        detail: String,
    },
    Missing {
        what: String,
        purpose: &'static str,
        remedy: String,
    },
    /// Worth knowing, and no obstacle.
    Note {
        what: String,
        detail: String,
    },
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> ExitCode {
    if args.fix {
        // The report still follows: it shows how far this came.
        let ours = [
            Toolchain::ensure(workspace, None).map(|_| ()).err(),
            peers::ensure().err(),
        ];
        let tools = cargo_tool::ALL.map(|tool| tool.ensure(workspace).err());
        for error in ours.into_iter().chain(tools).flatten() {
            eprintln!("error: {error:#}\n");
        }
    }
    let mut findings = vec![rust(workspace), component("rustfmt"), component("clippy")];
    findings.extend(ebpf_tools(workspace));
    findings.extend([kernel(), btf(), bpffs(), root()]);
    findings.extend(programs());
    findings.extend(cargo_tool::ALL.map(|tool| cargo_tool(workspace, tool)));
    findings.extend([tree(), cargo_fuzz(workspace)]);
    let mut complete = true;
    for finding in &findings {
        match finding {
            Finding::Present { what, detail } => println!("ok       {what}: {detail}"),
            Finding::Note { what, detail } => println!("note     {what}: {detail}"),
            Finding::Missing {
                what,
                purpose,
                remedy,
            } => {
                complete = false;
                println!("missing  {what}: needed to {purpose}\n         get it: {remedy}");
            }
        }
    }
    println!();
    if complete {
        println!("All that is needed is there.");
        return ExitCode::SUCCESS;
    }
    println!("Something is missing: see above.");
    ExitCode::FAILURE
}

fn rust(workspace: &Workspace) -> Finding {
    let what = "rustc and cargo".to_owned();
    let purpose = "build everything but the XDP program";
    let oldest = workspace.rust_version;
    let rustc = process::cargo_path().with_file_name("rustc");
    let version = process::output(Command::new(&rustc).arg("-vV"))
        .and_then(|verbose| RustcVersion::parse(&verbose));
    match version {
        Ok(version) if version.release >= oldest => Finding::Present {
            what,
            detail: format!("{}, {}", version.line, process::cargo_path().display()),
        },
        Ok(version) => Finding::Missing {
            what: format!("{what} {oldest} or later (this is {})", version.release),
            purpose,
            remedy: "rustup update stable".to_owned(),
        },
        Err(error) => Finding::Missing {
            what: format!("{what} ({error:#})"),
            purpose,
            remedy: "install rustup, then: rustup toolchain install stable".to_owned(),
        },
    }
}

fn component(name: &'static str) -> Finding {
    let subcommand = if name == "rustfmt" { "fmt" } else { name };
    let version =
        process::output(Command::new(process::cargo_path()).args([subcommand, "--version"]));
    match version {
        Ok(version) => Finding::Present {
            what: name.to_owned(),
            detail: version.trim().to_owned(),
        },
        Err(_) => Finding::Missing {
            what: name.to_owned(),
            purpose: "check the sources as CI does",
            remedy: format!("rustup component add {name}"),
        },
    }
}

/// The compiler for the BPF target, LLVM and the linker: each is looked for only if the
/// one before is there, since it must fit that one.
fn ebpf_tools(workspace: &Workspace) -> Vec<Finding> {
    let compilers = Compiler::find_all();
    let Ok(chosen) = compiler::choose(&compilers, workspace.rust_version, None) else {
        let mut findings = not_taken(&compilers, None, workspace.rust_version);
        findings.push(Finding::Missing {
            what: format!(
                "a compiler for the BPF target: Rust {} or later with its library's source",
                workspace.rust_version
            ),
            purpose: "build the XDP program",
            remedy: compiler::remedy(&compilers),
        });
        return findings;
    };
    let mut findings = vec![Finding::Present {
        what: "compiler for the BPF target".to_owned(),
        detail: format!("{}, {}", chosen.version.line, chosen.rustc.display()),
    }];
    findings.extend(not_taken(&compilers, Some(chosen), workspace.rust_version));
    let major = chosen.version.llvm.major;
    let linker = Linker::find(workspace, chosen);
    // A linker that runs has its LLVM.
    findings.push(match linker::find_llvm(chosen) {
        Ok(file) => Finding::Present {
            what: format!("libLLVM {major}"),
            detail: file.display().to_string(),
        },
        Err(error) if linker.is_ok() => Finding::Note {
            what: format!("libLLVM {major}"),
            detail: format!("{error:#}"),
        },
        Err(error) => Finding::Missing {
            what: format!("libLLVM {major}"),
            purpose: "build bpf-linker",
            remedy: format!("{error:#}"),
        },
    });
    findings.push(match linker {
        Ok(linker) => Finding::Present {
            what: format!("bpf-linker {}", linker::VERSION),
            detail: format!("{} on {}", linker.path.display(), linker.llvm),
        },
        Err(error) => Finding::Missing {
            what: format!(
                "bpf-linker {} for LLVM {major} ({error:#})",
                linker::VERSION
            ),
            purpose: "link the XDP program",
            remedy: "cargo xtask doctor --fix".to_owned(),
        },
    });
    findings
}

/// The other compilers, and why each is not used.
fn not_taken(compilers: &[Compiler], chosen: Option<&Compiler>, oldest: Release) -> Vec<Finding> {
    compilers
        .iter()
        .filter(|other| chosen.is_none_or(|chosen| other.sysroot != chosen.sysroot))
        .map(|other| Finding::Note {
            what: "not taken for the BPF target".to_owned(),
            detail: format!(
                "{} ({}): {}",
                other.name,
                other.version.release,
                other
                    .flaw(oldest)
                    .unwrap_or_else(|| "not the newest".to_owned())
            ),
        })
        .collect()
}

fn kernel() -> Finding {
    let release = kernel_release().unwrap_or_else(|| "unknown".to_owned());
    if Release::parse(&release).is_some_and(|running| running >= OLDEST_KERNEL) {
        return Finding::Present {
            what: "Linux".to_owned(),
            detail: release,
        };
    }
    Finding::Missing {
        what: format!("Linux {OLDEST_KERNEL} or later (this is {release})"),
        purpose: "load the XDP program",
        remedy: "upgrade the kernel, or build here and run elsewhere".to_owned(),
    }
}

fn btf() -> Finding {
    let file = "/sys/kernel/btf/vmlinux";
    if Path::new(file).is_file() {
        return Finding::Present {
            what: "kernel BTF".to_owned(),
            detail: file.to_owned(),
        };
    }
    Finding::Missing {
        what: format!("kernel BTF ({file})"),
        purpose: "load the XDP program",
        remedy: "run a kernel built with CONFIG_DEBUG_INFO_BTF=y; distributions' are".to_owned(),
    }
}

fn bpffs() -> Finding {
    let folder = Path::new("/sys/fs/bpf");
    let what = "bpffs".to_owned();
    if is_mounted("bpf", folder) {
        return Finding::Present {
            what,
            detail: folder.display().to_string(),
        };
    }
    Finding::Note {
        what,
        detail: format!("not mounted on {}: abuser mounts it", folder.display()),
    }
}

/// The programs of others that the tests run.
fn programs() -> impl Iterator<Item = Finding> {
    PEERS.iter().map(|peer| match peer.find() {
        Some(file) => Finding::Present {
            what: peer.program.to_owned(),
            detail: file.display().to_string(),
        },
        None => Finding::Missing {
            what: peer.program.to_owned(),
            purpose: peer.purpose,
            remedy: match peer.way {
                _ if !debian::is_here() => format!("your distribution's {}", peer.package),
                Way::Installed => format!("apt-get install {}, or {REMEDY}", peer.package),
                // Installed, it would start a service.
                Way::Unpacked => format!("{REMEDY}, which unpacks Debian's {}", peer.package),
            },
        },
    })
}

fn cargo_tool(workspace: &Workspace, tool: &CargoTool) -> Finding {
    let what = format!("{} {}", tool.name, tool.version);
    match tool.find(workspace) {
        Ok(path) => Finding::Present {
            what,
            detail: path.display().to_string(),
        },
        Err(error) => Finding::Missing {
            what: format!("{what} ({error:#})"),
            purpose: tool.purpose,
            remedy: REMEDY.to_owned(),
        },
    }
}

/// Nothing but fuzzing needs it.
fn cargo_fuzz(workspace: &Workspace) -> Finding {
    let tool = cargo_tool::FUZZ;
    let detail = match tool.find(workspace) {
        Ok(path) => path.display().to_string(),
        Err(_) => "not there: `cargo xtask fuzz` builds it".to_owned(),
    };
    Finding::Note {
        what: format!("{} {}", tool.name, tool.version),
        detail,
    }
}

/// The Debian that the package is installed on.
fn tree() -> Finding {
    let what = "a Debian 12 with systemd".to_owned();
    let tree = machine::tree();
    if tree.exists() {
        return Finding::Present {
            what,
            detail: tree.display().to_string(),
        };
    }
    Finding::Missing {
        what,
        purpose: "test the Debian package and the service",
        remedy: REMEDY.to_owned(),
    }
}

fn root() -> Finding {
    let what = "root".to_owned();
    if is_root() {
        return Finding::Present {
            what,
            detail: "can run the privileged tests".to_owned(),
        };
    }
    let install = if debian::is_here() {
        " and install packages"
    } else {
        ""
    };
    Finding::Note {
        what,
        detail: format!("no: it takes root to load XDP programs{install}"),
    }
}
