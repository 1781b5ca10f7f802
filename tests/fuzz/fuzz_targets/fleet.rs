//! Fuzzes what nodes of a fleet say: `cargo xtask fuzz fleet`.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| abuser_fuzz::fleet(bytes));

/// Without `cargo fuzz` there is nobody to make inputs: it takes them from files.
#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    for path in std::env::args_os().skip(1) {
        abuser_fuzz::fleet(&std::fs::read(path)?);
    }
    Ok(())
}
