//! The program at a time that each frame tells, so that a minute takes no minute.

use std::path::Path;

use abuser_common::{
    gcra::KernelTime,
    layout::{LAYOUT_VERSION, TIMED_PROGRAM, maps},
};
use anyhow::{Context as _, Result};
use aya::{
    Ebpf, EbpfLoader,
    programs::{TestRun as _, TestRunOptions, Xdp},
};

/// The same program with its clock in the caller's hands, over the maps that another one has pinned.
pub struct Timed(Ebpf);

impl Timed {
    /// Loads it from this object, over the maps that are pinned in this folder.
    ///
    /// # Errors
    /// If the kernel refuses it.
    pub fn load(object: &[u8], pin_dir: &Path) -> Result<Self> {
        let pinned = pin_dir.join(format!("v{LAYOUT_VERSION}"));
        let mut loader = EbpfLoader::new();
        loader.override_global("AYA_LOG_LEVEL", &0_u8, false);
        for name in maps::ALL {
            loader.map_pin_path(name, pinned.join(name));
        }
        let object = loader
            .load(object)
            .context("load an object over pinned maps")?;
        let mut timed = Self(object);
        timed.program()?.load().context("load the timed program")?;
        Ok(timed)
    }

    /// The program, for [`run_at`].
    ///
    /// # Errors
    /// If the object has none.
    pub fn program(&mut self) -> Result<&mut Xdp> {
        let timed = self.0.program_mut(TIMED_PROGRAM);
        let timed = timed.with_context(|| format!("the object has no program {TIMED_PROGRAM}"))?;
        timed.try_into().context("use it as an XDP program")
    }
}

/// Runs the timed program on a frame at a time, which takes the frame's first eight octets; the action.
///
/// # Errors
/// If the frame is too short, or the kernel refuses it.
pub fn run_at(program: &Xdp, frame: &mut [u8], now: KernelTime) -> Result<u32> {
    let (time, _) = frame
        .split_first_chunk_mut()
        .context("a frame without a header")?;
    *time = now.0.to_ne_bytes();
    let options = TestRunOptions {
        data_in: Some(frame),
        repeat: 1,
        ..TestRunOptions::default()
    };
    let result = program.test_run(options);
    let result = result.context("run a program on a frame (BPF_PROG_TEST_RUN)")?;
    Ok(result.return_value)
}
