//! Waiting for what somebody else does.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Whether something comes to be so in that time; it is looked at again and again until then.
pub fn comes_true(patience: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        let look = Instant::now();
        if is_so() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        pause_since(look);
    }
}

/// Waits until the next look at what is waited for: twice as long as the last one took, which began at `look`, within 5 ms
/// and a quarter of a second.
///
/// Many a look is a command, which takes a CPU from whoever is waited for: a tenth of a second here, more in a guest.
pub fn pause_since(look: Instant) {
    let pause = 2 * look.elapsed();
    thread::sleep(pause.clamp(Duration::from_millis(5), Duration::from_millis(250)));
}
