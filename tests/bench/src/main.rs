//! `cargo xtask bench`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    abuser_bench::main()
}
