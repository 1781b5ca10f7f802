//! The binary `abuser`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    abuser::cli::main()
}
