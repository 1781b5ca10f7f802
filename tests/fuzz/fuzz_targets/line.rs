//! Fuzzes the parsers of logs: `cargo xtask fuzz line`.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| abuser_fuzz::line(bytes));

/// Without `cargo fuzz` there is nobody to make inputs: it takes them from files.
#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    for path in std::env::args_os().skip(1) {
        abuser_fuzz::line(&std::fs::read(path)?);
    }
    Ok(())
}
