//! Cleaning up after a test that was killed.
//!
//! Destructors do not run after `kill -9`, and pins in the BPF file system stay until
//! somebody removes them. So a child waits for the end of a pipe whose other end only the
//! test holds, and then removes what it was told to.

use std::{
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

/// Removes folders if this process dies before this is dropped.
#[derive(Debug)]
pub struct Janitor(Child);

impl Janitor {
    /// `folders` are removed, with all they contain, should this process be killed.
    pub fn hire(folders: &[&Path]) -> io::Result<Self> {
        // A line means that all is well. The wait lets killed children let go first.
        let script = r#"read -r line || { sleep 0.5; rm -rf -- "$@"; }"#;
        Command::new("sh")
            .args(["-c", script, "janitor"])
            .args(folders)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Not in the terminal's group: Ctrl-C must not reach it.
            .process_group(0)
            .spawn()
            .map(Self)
    }

    fn dismiss(&mut self) {
        if let Some(mut stdin) = self.0.stdin.take() {
            // It may be gone already; there is nothing left to tell it then.
            let _gone = stdin.write_all(b"done\n");
        }
        let _reaped = self.0.wait();
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        self.dismiss();
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    #[test]
    fn it_removes_nothing_when_dismissed_and_all_when_its_employer_dies() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("pins");
        std::fs::create_dir(&inner).unwrap();
        drop(Janitor::hire(&[&inner]).unwrap());
        assert!(inner.exists());

        let mut janitor = Janitor::hire(&[&inner]).unwrap();
        // What the kernel does with the pipe when the process dies.
        drop(janitor.0.stdin.take());
        for _ in 0..100 {
            if !inner.exists() {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("{} is still there", inner.display());
    }
}
