//! A guest with another kernel than this machine's: for what this machine's kernel refuses.
//!
//! The test binary is the guest's first process: what the guest has is a file system in memory with
//! that binary, the programs that its tests run, and what those are linked with. The guest ends when the tests
//! do; the kernel's last words have their exit status.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    io::{self, BufWriter, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Once,
    time::Duration,
};

use nix::{kmod, mount::MsFlags};

use crate::{abuser_binary, context, peers::PEERS};

/// Set inside.
const INSIDE: &str = "ABUSER_GUEST";
/// Where the modules that tests need are, inside.
const MODULES: &str = "/modules";
/// Which these are, each after those that it needs.
const NEEDED: [&str; 4] = [
    "drivers/net/veth",
    "net/llc/llc",
    "net/802/stp",
    "net/bridge/bridge",
];
/// Where the binary under test is, inside.
const BINARY: &str = "/abuser";

/// How long something may take here that takes this long on a machine: a guest is emulated.
pub fn patience(time: Duration) -> Duration {
    if env::var_os(INSIDE).is_some() {
        time * 12
    } else {
        time
    }
}

/// Whether this process runs in a guest. The first call there sets up what its tests need.
///
/// # Panics
/// If that fails.
pub fn is_inside() -> bool {
    static SET_UP: Once = Once::new();
    let inside = env::var_os(INSIDE).is_some();
    if inside {
        SET_UP.call_once(|| set_up().expect("setting up the guest"));
    }
    inside
}

fn set_up() -> io::Result<()> {
    for (kind, target) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("bpf", "/sys/fs/bpf"),
    ] {
        nix::mount::mount(
            Some(kind),
            target,
            Some(kind),
            MsFlags::empty(),
            None::<&str>,
        )
        .map_err(|error| context(&error.into(), format!("cannot mount {target}")))?;
    }
    for number in 0..NEEDED.len() {
        let module = Path::new(MODULES).join(number.to_string());
        kmod::finit_module(&File::open(&module)?, c"", kmod::ModuleInitFlags::empty())
            .map_err(|error| context(&error.into(), format!("cannot load {}", module.display())))?;
    }
    Ok(())
}

/// Runs tests of this binary in a guest: those whose names have `filter` in them, ignored ones only.
/// `programs` are peers that they run. Says what the tests said, and whether all passed.
///
/// # Panics
/// If a peer is not there.
pub fn run(filter: &str, programs: &[&str]) -> io::Result<(String, bool)> {
    let folder = tempfile::tempdir()?;
    let image = folder.path().join("initramfs");
    let kernel = peer("vmlinuz-*");
    pack(&image, &kernel, programs)?;
    let parameters = [
        "console=ttyS0 quiet panic=-1",
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin RUST_BACKTRACE=0",
        &format!("{INSIDE}=1 ABUSER_BIN={BINARY} CI=1"),
        &format!("-- {filter} --ignored --test-threads=1 --nocapture"),
    ]
    .join(" ");
    let output = Command::new(peer("qemu-system-x86_64"))
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"])
        .args(["-m", "1536", "-nic", "none", "-no-reboot"])
        .args(["-display", "none", "-monitor", "none", "-serial", "stdio"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(image)
        .args(["-append", &parameters])
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).replace('\r', "")
        + &String::from_utf8_lossy(&output.stderr);
    // What a kernel says whose first process ends.
    let passed = said.contains("Attempted to kill init! exitcode=0x00000000");
    Ok((said, passed))
}

fn peer(program: &str) -> PathBuf {
    let peer = PEERS.iter().find(|peer| peer.program == program);
    let peer = peer.unwrap_or_else(|| panic!("{program} is not in the table of peers"));
    peer.find().unwrap_or_else(|| {
        panic!(
            "there is no {program}, of Debian's package {}: run `{}` as root",
            peer.package,
            crate::peers::REMEDY
        )
    })
}

/// Writes the guest's file system.
fn pack(image: &Path, kernel: &Path, programs: &[&str]) -> io::Result<()> {
    let mut archive = Archive::new(BufWriter::new(File::create(image)?));
    for folder in ["/dev", "/proc", "/sys", "/tmp", "/run"] {
        archive.folder(Path::new(folder))?;
    }
    archive.console()?;
    let mut linked = vec![
        (env::current_exe()?, PathBuf::from("/init")),
        (abuser_binary()?, PathBuf::from(BINARY)),
    ];
    // What the kit itself runs.
    for program in ["/bin/sh", "/bin/sleep", "/bin/rm"] {
        linked.push((program.into(), program.into()));
    }
    for program in programs {
        let file = peer(program);
        let inside = Path::new("/usr/sbin").join(program);
        linked.push((file, inside));
    }
    for (file, inside) in &linked {
        archive.file(file, inside)?;
        for library in libraries(file)? {
            archive.file(&library, &library)?;
        }
    }
    // Objects that xdp-tools look for.
    for object in files(Path::new("/usr/lib/x86_64-linux-gnu/bpf"), "o")? {
        archive.file(&object, &object)?;
    }
    for (number, needed) in NEEDED.iter().enumerate() {
        let inside = Path::new(MODULES).join(number.to_string());
        archive.file(&module(kernel, needed)?, &inside)?;
    }
    archive.end()
}

/// A module that goes with the kernel.
fn module(kernel: &Path, needed: &str) -> io::Result<PathBuf> {
    let name = kernel.file_name().unwrap_or_default().to_string_lossy();
    let version = name.strip_prefix("vmlinuz-").unwrap_or_default();
    let root = kernel.ancestors().nth(2).unwrap_or(Path::new("/"));
    let place = format!("modules/{version}/kernel/{needed}.ko");
    ["lib", "usr/lib"]
        .iter()
        .map(|lib| root.join(lib).join(&place))
        .find(|file| file.is_file())
        .ok_or_else(|| io::Error::other(format!("{} has no {needed}.ko", kernel.display())))
}

fn files(folder: &Path, extension: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| context(&error, folder.display()))? {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new(extension)) {
            found.push(path);
        }
    }
    Ok(found)
}

/// What a program is linked with, its loader among it.
fn libraries(program: &Path) -> io::Result<Vec<PathBuf>> {
    let said = Command::new("ldd").arg(program).output()?;
    let said = String::from_utf8_lossy(&said.stdout);
    let paths = said
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from);
    Ok(paths.collect())
}

/// A file system as the kernel unpacks it: cpio, in the form called newc.
struct Archive<W> {
    to: W,
    written: u64,
    packed: Vec<PathBuf>,
}

const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_000;
const DEVICE: u32 = 0o020_600;

impl<W: Write> Archive<W> {
    fn new(to: W) -> Self {
        Self {
            to,
            written: 0,
            packed: Vec::new(),
        }
    }

    /// A folder, and those that it is in.
    fn folder(&mut self, path: &Path) -> io::Result<()> {
        if path.parent().is_none() || self.packed.iter().any(|packed| packed == path) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.folder(parent)?;
        }
        self.packed.push(path.to_owned());
        self.entry(path, FOLDER, (0, 0), &[])
    }

    fn file(&mut self, file: &Path, inside: &Path) -> io::Result<()> {
        if self.packed.iter().any(|packed| packed == inside) {
            return Ok(());
        }
        if let Some(parent) = inside.parent() {
            self.folder(parent)?;
        }
        self.packed.push(inside.to_owned());
        let bytes = fs::read(file).map_err(|error| context(&error, file.display()))?;
        let mode = fs::metadata(file)?.permissions().mode() & 0o777;
        self.entry(inside, FILE | mode, (0, 0), &bytes)
    }

    /// What the first process writes to.
    fn console(&mut self) -> io::Result<()> {
        self.entry(Path::new("/dev/console"), DEVICE, (5, 1), &[])
    }

    fn end(mut self) -> io::Result<()> {
        self.entry(Path::new("/TRAILER!!!"), 0, (0, 0), &[])?;
        self.to.flush()
    }

    fn entry(
        &mut self,
        path: &Path,
        mode: u32,
        (major, minor): (u32, u32),
        bytes: &[u8],
    ) -> io::Result<()> {
        let name = path.to_string_lossy();
        let name = name.trim_start_matches('/');
        let inode = self.packed.len();
        let size = bytes.len();
        let named = name.len() + 1;
        let header = format!(
            "070701{inode:08x}{mode:08x}{:08x}{:08x}{:08x}{:08x}{size:08x}{:08x}{:08x}{major:08x}\
             {minor:08x}{named:08x}{:08x}{name}\0",
            0, 0, 1, 0, 0, 0, 0
        );
        self.aligned(header.as_bytes())?;
        self.aligned(bytes)
    }

    fn aligned(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes)?;
        self.written += bytes.len() as u64;
        while !self.written.is_multiple_of(4) {
            self.to.write_all(&[0])?;
            self.written += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_as_the_kernel_wants_it() {
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        archive.folder(Path::new("/a/b")).unwrap();
        archive.end().unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text.len() % 4, 0);
        let names: Vec<_> = text
            .split("070701")
            .skip(1)
            .map(|entry| entry[104..].trim_end_matches('\0'))
            .collect();
        assert_eq!(names, ["a", "a/b", "TRAILER!!!"]);
    }
}
