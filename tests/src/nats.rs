//! A cluster of NATS servers, as a fleet has it, with the account and permissions of
//! `deploy/nats/abuser.conf`; and a client that says what no daemon would.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{Interface, Namespace, Service, context, peers, veth};

/// The account and the permissions that the documentation shows.
pub const ACCOUNTS: &str = include_str!("../../deploy/nats/abuser.conf");
/// The users of those, and the variables that have their passwords.
const USERS: [(&str, &str); 4] = [
    ("web-1", "WEB_1"),
    ("web-2", "WEB_2"),
    ("web-3", "WEB_3"),
    ("admin", "ADMIN"),
];
/// How long a cluster may take to choose who leads it.
const ELECTION: Duration = Duration::from_secs(60);

/// Servers in a namespace of their own, and cables from there to whoever is to reach them.
#[derive(Debug)]
pub struct Cluster {
    namespace: Namespace,
    servers: Vec<Option<Service>>,
    size: usize,
    cables: u8,
    folder: TempDir,
}

/// Somebody who can reach a cluster.
#[derive(Debug)]
pub struct Site {
    /// Where it is.
    pub namespace: Namespace,
    /// The end of its cable, in its namespace.
    pub near: Interface,
    /// The other end, in the cluster's.
    pub far: Interface,
    /// The cluster's address for it.
    pub hub: Ipv4Addr,
    /// Its own.
    pub address: Ipv4Addr,
}

impl Cluster {
    /// Starts a cluster of some servers, and waits until it has a leader.
    pub fn start(size: usize) -> io::Result<Self> {
        let mut cluster = Self::prepare(size)?;
        for number in 0..size {
            cluster.start_server(number)?;
        }
        cluster.wait_for("a leader", |cluster| cluster.meta_leader().is_some())?;
        Ok(cluster)
    }

    /// A cluster none of whose servers runs yet.
    pub fn prepare(size: usize) -> io::Result<Self> {
        Self::prepare_with(size, |_| Ok(ACCOUNTS.to_owned()))
    }

    /// A cluster none of whose servers runs yet and whose configuration says this of who may connect and
    /// how, instead of [`ACCOUNTS`]. Files of it can be in the folder that is given.
    pub fn prepare_with(
        size: usize,
        accounts: impl FnOnce(&Path) -> io::Result<String>,
    ) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("abuser-nats-").tempdir()?;
        fs::write(folder.path().join("abuser.conf"), accounts(folder.path())?)?;
        for (user, _) in USERS {
            let path = folder.path().join(user);
            fs::write(&path, password(user))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        }
        Ok(Self {
            namespace: Namespace::new()?,
            servers: (0..size).map(|_| None).collect(),
            size,
            cables: 0,
            folder,
        })
    }

    /// Starts a server that does not run.
    pub fn start_server(&mut self, number: usize) -> io::Result<()> {
        let path = |name: String| self.folder.path().join(name);
        let routes = (0..self.size).map(|other| format!("nats://127.0.0.1:{}", 6222 + other));
        let routes: Vec<_> = routes.collect();
        let cluster = if self.size > 1 {
            format!(
                "cluster {{ name: test, listen: \"127.0.0.1:{}\", routes: [{}] }}\n",
                6222 + number,
                routes.join(", ")
            )
        } else {
            String::new()
        };
        let config = format!(
            "server_name: n{number}\nlisten: \"0.0.0.0:{}\"\nhttp: \"127.0.0.1:{}\"\n\
             jetstream {{ store_dir: \"{}\" }}\ninclude \"abuser.conf\"\n{cluster}",
            client_port(number),
            monitor_port(number),
            path(format!("store-{number}")).display(),
        );
        let file = path(format!("n{number}.conf"));
        fs::write(&file, config)?;
        let mut command = peers::command(&self.namespace, "nats-server")?;
        command.arg("-c").arg(&file);
        command.envs(USERS.map(|(user, variable)| (variable, password(user))));
        let address = SocketAddr::from(([127, 0, 0, 1], client_port(number)));
        let namespace = self.namespace.clone();
        let server = Service::start(command, &path(format!("n{number}.log")), || {
            namespace.run(|| TcpStream::connect(address).is_ok())
        })?;
        self.servers[number] = Some(server);
        Ok(())
    }

    /// Kills a server (SIGKILL).
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill_server(&mut self, number: usize) {
        let server = self.servers[number].take();
        server.expect("the server does not run").kill();
    }

    /// Lays a cable from the cluster to a new namespace.
    pub fn lay_cable(&mut self) -> io::Result<Site> {
        self.cables += 1;
        let number = self.cables;
        let namespace = Namespace::new()?;
        let name = format!("far{number}");
        let (near, far) = veth(&namespace, "near", &self.namespace, &name)?;
        near.add_address(&format!("10.77.{number}.2/24"))?;
        far.add_address(&format!("10.77.{number}.1/24"))?;
        Ok(Site {
            namespace,
            near,
            far,
            hub: Ipv4Addr::new(10, 77, number, 1),
            address: Ipv4Addr::new(10, 77, number, 2),
        })
    }

    /// Where the servers are.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The configuration of a node at a site, which protects the end of its cable; `keys` are more of
    /// `[fleet]`.
    pub fn node_config(&self, name: &str, site: &Site, keys: &str) -> String {
        format!(
            "interfaces = [\"near\"]\n[fleet]\nnats = {}\nnode = \"{name}\"\nuser = \"{name}\"\n\
             password_file = \"{}\"\nreplicas = {}\n{keys}\n",
            self.urls(site),
            self.password_file(name).display(),
            self.size
        )
    }

    /// The arguments with which an admin speaks to the servers.
    pub fn as_admin(&self) -> [String; 4] {
        let password = self.password_file("admin").display().to_string();
        let flags = ["--user", "admin", "--password-file"].map(str::to_owned);
        let [user, admin, file] = flags;
        [user, admin, file, password]
    }

    /// The servers' URLs for a site, as a list in TOML.
    pub fn urls(&self, site: &Site) -> String {
        let urls = (0..self.size).map(|number| {
            let address = SocketAddr::from((site.hub, client_port(number)));
            format!("\"nats://{address}\"")
        });
        format!("[{}]", urls.collect::<Vec<_>>().join(", "))
    }

    /// A file with a user's password.
    pub fn password_file(&self, user: &str) -> PathBuf {
        self.folder.path().join(user)
    }

    /// The server that leads the stream of a bucket, if one does.
    pub fn leader_of(&self, bucket: &str) -> Option<usize> {
        let name = format!("KV_{bucket}");
        self.running().find_map(|number| {
            let status = self.monitor(number, "/jsz?accounts=1&streams=1")?;
            let accounts = status["account_details"].as_array()?.clone();
            let streams = accounts
                .iter()
                .filter_map(|a| a["stream_detail"].as_array());
            let stream = streams.flatten().find(|stream| stream["name"] == *name)?;
            server_number(stream["cluster"]["leader"].as_str()?)
        })
    }

    /// What a server has to say of the connection of a node, if there is one: as whom it came in, and
    /// with which certificates.
    pub fn connection_of(&self, server: usize, node: &str) -> Option<Value> {
        let name = format!("abuser {node}");
        let status = self.monitor(server, "/connz?auth=1")?;
        let mut connections = status["connections"].as_array()?.iter();
        connections
            .find(|connection| connection["name"] == *name)
            .cloned()
    }

    fn meta_leader(&self) -> Option<usize> {
        if self.size == 1 {
            return Some(0);
        }
        self.running().find_map(|number| {
            let status = self.monitor(number, "/jsz")?;
            server_number(status["meta_cluster"]["leader"].as_str()?)
        })
    }

    /// Waits until something is so.
    pub fn wait_for(&self, what: &str, is_so: impl Fn(&Self) -> bool) -> io::Result<()> {
        let deadline = Instant::now() + ELECTION;
        while !is_so(self) {
            if Instant::now() > deadline {
                return Err(io::Error::other(format!(
                    "the cluster has not {what} within {ELECTION:?}"
                )));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn running(&self) -> impl Iterator<Item = usize> {
        let servers = self.servers.iter().enumerate();
        servers.filter_map(|(number, server)| server.as_ref().map(|_| number))
    }

    /// What a server's monitoring says.
    fn monitor(&self, number: usize, path: &str) -> Option<Value> {
        let ask = || -> io::Result<String> {
            let address = SocketAddr::from(([127, 0, 0, 1], monitor_port(number)));
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = self.namespace.run(ask).ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        serde_json::from_str(body).ok()
    }

    /// A client of a server in the cluster's own namespace.
    pub fn client(&self, number: usize, user: &str) -> io::Result<RawClient> {
        let address = SocketAddr::from(([127, 0, 0, 1], client_port(number)));
        let stream = self.namespace.run(|| TcpStream::connect(address))?;
        RawClient::log_in(stream, user, &password(user))
    }
}

fn password(user: &str) -> String {
    format!("password-of-{user}")
}

fn client_port(number: usize) -> u16 {
    4222 + u16::try_from(number).unwrap_or_default()
}

fn monitor_port(number: usize) -> u16 {
    8222 + u16::try_from(number).unwrap_or_default()
}

fn server_number(name: &str) -> Option<usize> {
    name.strip_prefix('n')?.parse().ok()
}

/// A client that speaks the servers' protocol by hand.
#[derive(Debug)]
pub struct RawClient {
    stream: BufReader<TcpStream>,
}

impl RawClient {
    fn log_in(stream: TcpStream, user: &str, password: &str) -> io::Result<Self> {
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut client = Self {
            stream: BufReader::new(stream),
        };
        client.line()?;
        let connect = serde_json::json!({
            "verbose": false, "pedantic": false, "headers": true, "user": user, "pass": password,
        });
        client.send(&format!("CONNECT {connect}\r\n"))?;
        client.flush()?;
        Ok(client)
    }

    /// Publishes, and waits until the server has looked at it; an error has the server's words.
    pub fn publish(&mut self, subject: &str, value: &[u8]) -> io::Result<()> {
        self.queue(subject, value)?;
        self.flush()
    }

    /// Publishes with headers as they are sent, and waits until the server has looked at it.
    pub fn publish_with_headers(
        &mut self,
        subject: &str,
        headers: &str,
        value: &[u8],
    ) -> io::Result<()> {
        let (head, all) = (headers.len(), headers.len() + value.len());
        let mut message = format!("HPUB {subject} {head} {all}\r\n{headers}").into_bytes();
        message.extend_from_slice(value);
        message.extend_from_slice(b"\r\n");
        self.stream.get_mut().write_all(&message)?;
        self.flush()
    }

    /// Publishes, and waits for nothing.
    pub fn queue(&mut self, subject: &str, value: &[u8]) -> io::Result<()> {
        let mut message = format!("PUB {subject} {}\r\n", value.len()).into_bytes();
        message.extend_from_slice(value);
        message.extend_from_slice(b"\r\n");
        self.stream.get_mut().write_all(&message)
    }

    /// Waits until the server has looked at all that was published.
    pub fn flush(&mut self) -> io::Result<()> {
        self.send("PING\r\n")?;
        let mut refused = None;
        loop {
            let line = self.line()?;
            if line.starts_with("PONG") {
                return refused.map_or(Ok(()), |error| Err(io::Error::other::<String>(error)));
            } else if line.starts_with("PING") {
                self.send("PONG\r\n")?;
            } else if line.starts_with("-ERR") {
                refused = Some(line);
            }
        }
    }

    fn send(&mut self, text: &str) -> io::Result<()> {
        self.stream.get_mut().write_all(text.as_bytes())
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(context(
                &io::Error::from(io::ErrorKind::UnexpectedEof),
                "the server closed the connection",
            ));
        }
        Ok(line)
    }
}
