//! What programs are run with that the daemon starts.

use std::{io, sync::atomic::Ordering};

use caps::Capability;

use super::{
    CONFINED,
    capabilities::mask,
    threads::{keep_capabilities, no_new_privileges},
};

/// A command of `[[notify]]`. If the sandbox takes it in, it can change the firewall and read files, and
/// none of what is the daemon's; else it has what root has.
///
/// To be called between fork and exec.
pub(crate) fn become_command() -> io::Result<()> {
    if CONFINED.load(Ordering::Relaxed) {
        let kept = [Capability::CAP_NET_ADMIN, Capability::CAP_DAC_READ_SEARCH];
        keep_capabilities(mask(kept))?;
    }
    Ok(())
}

/// A program that reads for the daemon and does nothing else, such as `journalctl`, whatever the configuration says.
///
/// To be called between fork and exec.
pub(crate) fn become_reader() -> io::Result<()> {
    no_new_privileges()?;
    keep_capabilities(mask([Capability::CAP_DAC_READ_SEARCH]))?;
    Ok(())
}
