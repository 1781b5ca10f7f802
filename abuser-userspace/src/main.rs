//! The binary `abuser`.

use std::process::ExitCode;

fn main() -> ExitCode {
    abuser::cli::main()
}
