//! The real nginx, with a configuration of the test's.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    path::PathBuf,
    time::Duration,
};

use tempfile::TempDir;

use crate::{Namespace, Service, peers, traffic::connect_from};

/// How long a request may take on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// An nginx in the foreground, gone when it is dropped.
#[derive(Debug)]
pub struct Nginx {
    // Stopped before its folder goes.
    service: Service,
    folder: TempDir,
}

impl Nginx {
    /// Starts one in a namespace. `http` is what its `http` block has: in it, `FOLDER` stands for
    /// a folder of its own, `FOLDER/access.log` for example. It has to listen on port 80.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(namespace: &Namespace, http: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().display().to_string();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path FOLDER/{kind};"))
            .concat();
        let config = format!(
            "user root;\nworker_processes 1;\ndaemon off;\npid FOLDER/pid;\n\
             error_log FOLDER/error.log;\nevents {{}}\n\
             http {{\n{temporary}\naccess_log FOLDER/access.log;\n{http}\n}}\n"
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, config.replace("FOLDER", &path)).expect("writing a configuration");
        let mut command =
            peers::command(namespace, "nginx").unwrap_or_else(|error| panic!("{error}"));
        command.args(["-p", &path, "-e", &format!("{path}/error.log"), "-c"]);
        command.arg(&file);
        let service = Service::start(command, &folder.path().join("said"), || {
            namespace.run(|| TcpStream::connect("127.0.0.1:80").is_ok())
        });
        Self {
            service: service.unwrap_or_else(|error| panic!("{error}")),
            folder,
        }
    }

    /// A file in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Its access log.
    pub fn access_log(&self) -> PathBuf {
        self.path("access.log")
    }

    /// The configuration that it runs with.
    pub fn config(&self) -> PathBuf {
        self.path("nginx.conf")
    }

    /// Asks it to leave and waits.
    pub fn terminate(&mut self) {
        let _status = self.service.terminate();
    }
}

/// Requests something of the server at an address, from an address of this host; the status of
/// the answer, or `None` if there is none in time.
pub fn get(source: IpAddr, server: SocketAddr, path: &str, headers: &str) -> Option<u16> {
    request(source, server, "GET", path, headers, PATIENCE)
}

/// [`get`] with another method, and less patience.
pub fn request(
    source: IpAddr,
    server: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    patience: Duration,
) -> Option<u16> {
    let mut stream = connect_from(source, server, patience).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n{headers}\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}
