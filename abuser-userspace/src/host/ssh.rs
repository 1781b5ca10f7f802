//! The other end of the SSH session that a process was started from.
//!
//! sshd says so in the environment of what it starts. sudo takes that away, but not from the
//! shell that sudo was called from, so the ancestors are asked, too.

use std::{fs, net::IpAddr, path::Path};

use super::parse_address;

/// Ancestors that are asked at most.
const MAX_ANCESTORS: usize = 64;

/// A session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SshSession {
    /// Where it comes from.
    pub client: IpAddr,
    /// The process that knew.
    pub pid: u32,
}

/// The session that this process was started from, if it was from one.
pub fn session() -> Option<SshSession> {
    session_of(std::process::id())
}

fn session_of(pid: u32) -> Option<SshSession> {
    let mut pid = pid;
    for _ in 0..MAX_ANCESTORS {
        let folder = Path::new("/proc").join(pid.to_string());
        // Of a process that may not be looked into, the parent may still know.
        let client = fs::read(folder.join("environ"))
            .ok()
            .and_then(|environment| client(&environment));
        if let Some(client) = client {
            return Some(SshSession { client, pid });
        }
        let status = fs::read_to_string(folder.join("status")).ok()?;
        pid = parent(&status).filter(|parent| *parent > 0)?;
    }
    None
}

/// The client that a process's environment names.
fn client(environment: &[u8]) -> Option<IpAddr> {
    let variables = environment.split(|byte| *byte == 0);
    variables
        .filter_map(|variable| str::from_utf8(variable).ok())
        .filter_map(|variable| {
            variable
                .strip_prefix("SSH_CONNECTION=")
                .or_else(|| variable.strip_prefix("SSH_CLIENT="))
        })
        .find_map(|value| {
            let address = parse_address(value.split_whitespace().next()?)?;
            Some(address.to_canonical())
        })
}

/// The parent that `/proc/PID/status` names.
fn parent(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{BufRead as _, BufReader},
        process::{Command, Stdio},
    };

    #[test]
    fn the_environment_names_the_client_in_either_variable() {
        for (environment, expected) in [
            (
                "A=b\0SSH_CONNECTION=192.0.2.7 50000 192.0.2.1 22\0",
                Some("192.0.2.7"),
            ),
            ("SSH_CLIENT=2001:db8::7 50000 22\0", Some("2001:db8::7")),
            (
                "SSH_CONNECTION=fe80::7%eth0 1 fe80::1%eth0 22",
                Some("fe80::7"),
            ),
            (
                "SSH_CONNECTION=::ffff:192.0.2.7 1 ::ffff:192.0.2.1 22",
                Some("192.0.2.7"),
            ),
            (
                "SSH_CONNECTION=UNKNOWN 1\0SSH_CLIENT=192.0.2.7 1 22",
                Some("192.0.2.7"),
            ),
            ("SSH_CONNECTION=\0X=SSH_CLIENT=192.0.2.7", None),
            ("", None),
        ] {
            let expected = expected.map(|address| address.parse().unwrap());
            assert_eq!(client(environment.as_bytes()), expected, "{environment:?}");
        }
        assert_eq!(
            client(b"\xff\xfe\0SSH_CLIENT=192.0.2.7"),
            Some([192, 0, 2, 7].into())
        );
    }

    #[test]
    fn an_ancestor_s_session_is_found_where_sudo_took_it_away() {
        // The shell knows; what it starts does not.
        let mut shell = Command::new("sh")
            .args(["-c", "env -i sh -c 'echo $$; read wait'; :"])
            .env("SSH_CONNECTION", "192.0.2.77 50000 192.0.2.1 22")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(shell.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let child: u32 = line.trim().parse().unwrap();
        let found = session_of(child);
        drop(shell.stdin.take());
        assert_ne!(child, shell.id());
        let pid = shell.id();
        shell.wait().unwrap();
        let client = [192, 0, 2, 77].into();
        assert_eq!(found, Some(SshSession { client, pid }));
    }

    #[test]
    fn a_process_that_is_gone_has_no_session() {
        assert_eq!(session_of(u32::MAX), None);
        assert_eq!(parent("Name:\tx\nPPid:\t42\n"), Some(42));
        assert_eq!(parent("PPid: x"), None);
    }
}
