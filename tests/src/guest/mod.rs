//! A guest with another kernel than this machine's: for what depends on the kernel, and for what this
//! machine's kernel refuses.
//!
//! The guest's file system is in its memory. It has the test binaries, the programs that their tests
//! run and what those are linked with: the very files that ran here. A static build of the tests would need
//! no libraries packed along, but it would be another build of everything, minutes of a machine with two
//! cores, and it would not be the binary that was tested. Qemu emulates the processor, so a guest needs neither `/dev/kvm`
//! nor root, and takes ten to twenty times as long for the same work ([`patience`]).
//!
//! | module | what it holds |
//! | --- | --- |
//! | `kernels` | which kernels there are, and where |
//! | `boot` | qemu: what it is given, what it says, when it has to end |
//! | `pack`, `archive` | the file system |
//! | [`inside`] | what the guest's first process does |

mod archive;
mod boot;
pub mod inside;
mod kernels;
mod pack;

use std::{env, time::Duration};

pub use boot::{Ended, How, boot};
pub use kernels::{KERNELS, Kernel};
pub use pack::{Guest, Suite};

/// Set inside.
const INSIDE: &str = "ABUSER_GUEST";

/// The packed programs of others that the namespace tests run: see [`crate::peers`].
pub const PROGRAMS: &[&str] = &["xdp-loader", "xdp-filter"];

/// How long something may take here that takes this long on a machine: a guest is emulated.
pub fn patience(time: Duration) -> Duration {
    if is_inside() { time * 12 } else { time }
}

/// As many cases as can be tried here in the time that `count` of them take on a machine.
pub fn cases(count: u32) -> u32 {
    if is_inside() {
        count.div_ceil(10)
    } else {
        count
    }
}

/// How many packets a second to send here beside other things, where it would be so many on a machine: more than this
/// would keep a guest from everything else.
pub fn per_second(packets: f64) -> f64 {
    if is_inside() {
        packets.min(200.0)
    } else {
        packets
    }
}

/// Whether this process runs in a guest.
pub fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Fails a test that only a guest can run, elsewhere. Such a test is `#[ignore]`, so that nobody runs it by chance;
/// `cargo xtask vm` runs all of them.
#[macro_export]
macro_rules! only_in_a_guest {
    () => {
        assert!(
            $crate::guest::is_inside(),
            "this only runs in a guest: `cargo xtask vm NAME`"
        );
    };
}
