//! The file system of a guest.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, BufWriter},
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    Kernel,
    archive::Archive,
    inside::{ARGUMENTS, BINARY, MODULES, RUN, SUITES},
};
use crate::{context, peers};

/// A test binary to run.
#[derive(Debug)]
pub struct Suite {
    /// What it is called.
    pub name: String,
    /// The binary.
    pub binary: PathBuf,
    /// Its arguments, none with a line's end in it.
    pub arguments: Vec<String>,
}

/// A guest to be.
#[derive(Debug)]
pub struct Guest<'a> {
    /// Its kernel.
    pub kernel: &'a Kernel,
    /// What it runs, one after the other.
    pub suites: Vec<Suite>,
    /// Its first process: the binary `abuser-guest` of this package.
    pub init: PathBuf,
    /// The binary under test.
    pub abuser: PathBuf,
    /// Peers that the tests run; see [`peers::PEERS`].
    pub programs: Vec<&'a str>,
}

/// What the kit itself runs.
const OF_THE_KIT: [&str; 3] = ["/bin/sh", "/bin/sleep", "/bin/rm"];
/// What tests run that is no peer; those that a machine lacks, its tests do.
const OF_TESTS: [&str; 2] = ["/bin/ip", "/usr/bin/ip"];

impl Guest<'_> {
    /// Writes the file system.
    pub(super) fn pack(&self, image: &Path) -> io::Result<()> {
        let file = File::create(image).map_err(|error| context(&error, image.display()))?;
        let mut archive = Archive::new(BufWriter::new(file));
        for folder in ["/dev", "/proc", "/sys", "/tmp", "/run"] {
            archive.folder(Path::new(folder))?;
        }
        archive.console()?;
        let mut linked = vec![
            (self.init.clone(), PathBuf::from("/init")),
            (self.abuser.clone(), PathBuf::from(BINARY)),
        ];
        for program in OF_THE_KIT {
            linked.push((program.into(), program.into()));
        }
        for program in OF_TESTS.map(Path::new) {
            if program.is_file() {
                linked.push((program.into(), program.into()));
            }
        }
        for program in &self.programs {
            let inside = Path::new("/usr/sbin").join(program);
            linked.push((peers::path(program)?, inside));
        }
        for (number, suite) in self.suites.iter().enumerate() {
            let folder = Path::new(SUITES).join(format!("{number:02}-{}", suite.name));
            linked.push((suite.binary.clone(), folder.join(RUN)));
            archive.text(&folder.join(ARGUMENTS), &suite.arguments.join("\n"))?;
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
        for (number, module) in self.kernel.modules()?.iter().enumerate() {
            let ending = module.extension().unwrap_or_default().to_string_lossy();
            let inside = format!("{MODULES}/{number:02}.{ending}");
            archive.file(module, Path::new(&inside))?;
        }
        archive.end()
    }
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
