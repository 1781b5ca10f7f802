//! `cargo xtask soak`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    abuser_bench::soak::main()
}
