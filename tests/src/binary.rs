//! Where the `abuser` under test is.

use std::{
    env, io,
    path::{Path, PathBuf},
};

/// The binary: `ABUSER_BIN`, else the release build in the workspace's target folder
/// (`CARGO_TARGET_DIR` or `target/`).
pub fn abuser_binary() -> io::Result<PathBuf> {
    let workspace = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let binary = env::var_os("ABUSER_BIN").map_or_else(
        || {
            let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
            workspace.join(target).join("release/abuser")
        },
        PathBuf::from,
    );
    if binary.is_file() {
        Ok(binary)
    } else {
        Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!(
                "there is no {}: run `cargo build --release -p abuser-userspace`, \
                 or name the binary in ABUSER_BIN",
                binary.display()
            ),
        ))
    }
}
