//! The first process of a guest: see `testkit::guest`.

use std::process::ExitCode;

fn main() -> ExitCode {
    match testkit::guest::inside::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("abuser-guest: {error}");
            ExitCode::FAILURE
        }
    }
}
