//! Loading the program: who may, which kernels can, and where the object comes from.

use std::io;

use abuser_common::layout::{PROGRAM, maps};
use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{Map, MapError},
    programs::{Extension, ProgramError, Xdp},
    util::KernelVersion,
};
use nix::unistd::geteuid;

use super::{
    error::{DataplaneError, chain},
    pins::PinDir,
};

/// The object that `cargo xtask build-ebpf` makes and the repository holds.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../abuser-ebpf/abuser.bpf.o"
));

/// The oldest kernel that loads the program: `xdp.frags` came with 5.18.
const OLDEST_KERNEL: (u8, u8) = (5, 18);
const OLDEST_KERNEL_NAME: &str = "5.18";

/// Checks what can be told before anything is tried: kernel, system call, privilege.
pub fn check_system() -> Result<(), DataplaneError> {
    let release = nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    if let Ok(version) = KernelVersion::current() {
        check_kernel(version, &release)?;
    }
    if !geteuid().is_root() && !has_capabilities() {
        return Err(DataplaneError::NotPermitted);
    }
    Ok(())
}

fn check_kernel(version: KernelVersion, release: &str) -> Result<(), DataplaneError> {
    let (major, minor) = OLDEST_KERNEL;
    if version < KernelVersion::new(major, minor, 0) {
        return Err(DataplaneError::KernelTooOld {
            found: release.to_owned(),
            needed: OLDEST_KERNEL_NAME,
        });
    }
    Ok(())
}

/// Whether the process has `CAP_BPF`, `CAP_NET_ADMIN` and `CAP_PERFMON` though it is not
/// root, as a service manager can arrange.
fn has_capabilities() -> bool {
    const NET_ADMIN: u64 = 1 << 12;
    const PERFMON: u64 = 1 << 38;
    const BPF: u64 = 1 << 39;
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("CapEff:"))?;
            u64::from_str_radix(line.trim(), 16).ok()
        })
        .is_some_and(|effective| {
            let needed = NET_ADMIN | PERFMON | BPF;
            effective & needed == needed
        })
}

/// The program in the two ways in which it can be on an interface, with the same maps.
pub struct Programs {
    /// As the interface's one program. This has the maps.
    pub direct: Ebpf,
    /// As a component of a dispatcher, which the kernel verifies for the dispatcher that it is to be
    /// in; or why the object cannot be used so.
    component: Result<Ebpf, String>,
}

impl Programs {
    /// Loads the program; maps that are pinned are used, the others made and pinned.
    ///
    /// `log_level` is what the program itself logs: 1 errors to 5 traces, 0 nothing.
    pub fn load(object: &[u8], pins: &PinDir, log_level: u8) -> Result<Self, DataplaneError> {
        // One loader for both: each reads all that the kernel tells of its types.
        let mut loader = loader(pins, &log_level);
        let mut direct = load(&mut loader, object)?;
        xdp(&mut direct)?.load()?;
        let component = load(loader.extension(PROGRAM), object);
        Ok(Self {
            direct,
            component: component.map_err(|error| error.to_string()),
        })
    }

    /// The component; it is loaded when it is put into a dispatcher.
    pub fn component(&mut self) -> Result<&mut Extension, String> {
        let loaded = self.component.as_mut().map_err(|why| why.clone())?;
        let program = loaded
            .program_mut(PROGRAM)
            .ok_or_else(|| format!("the object has no program {PROGRAM:?}"))?;
        program
            .try_into()
            .map_err(|error: ProgramError| chain(&error))
    }

    /// What was loaded, each with a log of its own.
    pub fn each_mut(&mut self) -> impl Iterator<Item = &mut Ebpf> {
        [&mut self.direct].into_iter().chain(&mut self.component)
    }
}

/// What loads an object with maps that are pinned.
fn loader<'a>(pins: &PinDir, log_level: &'a u8) -> EbpfLoader<'a> {
    let mut loader = EbpfLoader::new();
    loader
        .verifier_log_level(VerifierLogLevel::DISABLE)
        .override_global("AYA_LOG_LEVEL", log_level, false);
    for name in maps::ALL {
        loader.map_pin_path(name, pins.map(name));
    }
    loader
}

/// Makes or opens the maps.
fn load(loader: &mut EbpfLoader<'_>, object: &[u8]) -> Result<Ebpf, DataplaneError> {
    loader
        .load(object)
        .map_err(|error| no_bpf(&error).unwrap_or_else(|| DataplaneError::load(error)))
}

/// The XDP program within the loaded object.
pub fn xdp(loaded: &mut Ebpf) -> Result<&mut Xdp, DataplaneError> {
    let program = loaded
        .program_mut(PROGRAM)
        .ok_or_else(|| DataplaneError::Load(format!("the object has no program {PROGRAM:?}")))?;
    program
        .try_into()
        .map_err(|error: ProgramError| error.into())
}

/// Takes the map `name` out of the loaded object, as the type it is to be used as.
pub fn take_map<T>(loaded: &mut Ebpf, name: &str) -> Result<T, DataplaneError>
where
    T: TryFrom<Map, Error = MapError>,
{
    let map = loaded.take_map(name).ok_or_else(|| DataplaneError::Map {
        map: name.to_owned(),
        message: "the object does not have it".to_owned(),
    })?;
    T::try_from(map).map_err(|error| DataplaneError::map(name, error))
}

/// The error for a kernel without, or a sandbox that forbids, the bpf system call.
fn no_bpf(error: &(dyn std::error::Error + 'static)) -> Option<DataplaneError> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(source) = error.downcast_ref::<io::Error>() {
            return match source.kind() {
                io::ErrorKind::Unsupported => Some(DataplaneError::NoBpf {
                    source: io::Error::from(source.kind()),
                }),
                io::ErrorKind::PermissionDenied => Some(DataplaneError::NotPermitted),
                _ => None,
            };
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_before_5_18_is_refused_by_its_release() {
        let error = check_kernel(KernelVersion::new(5, 15, 0), "5.15.0-91-generic").unwrap_err();
        assert_eq!(
            error.to_string(),
            "this is Linux 5.15.0-91-generic; abuser needs Linux 5.18 or newer (BPF atomics, XDP \
             links, multi-buffer XDP)"
        );
        assert!(check_kernel(KernelVersion::new(5, 18, 0), "5.18").is_ok());
        assert!(check_kernel(KernelVersion::new(6, 1, 0), "6.1").is_ok());
    }
}
