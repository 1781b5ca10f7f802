//! Anonymous network namespaces.
//!
//! `ip netns add` leaves a name behind when a test is killed, and `ip netns exec` mounts a
//! fresh `/sys` that hides the BPF file system. Here a throw-away thread leaves for a new
//! namespace and only a file descriptor remains: when it and the last process inside are
//! gone, the kernel frees the namespace with its interfaces, after `kill -9` as well.

use std::{
    fs::{self, File},
    io,
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    panic,
    process::Command,
    sync::Arc,
    thread::{self, JoinHandle},
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::{
        prctl,
        signal::{SigHandler, Signal, signal},
    },
    unistd::getppid,
};

use crate::{context, link::Interface};

/// A handle on a network namespace; it lives as long as a clone of this or a process inside.
#[derive(Clone, Debug)]
pub struct Namespace {
    fd: Arc<OwnedFd>,
}

impl Namespace {
    /// A new, empty namespace with `lo` up. Needs `CAP_SYS_ADMIN`.
    ///
    /// IPv6 addresses in it are usable at once: duplicate address detection, which would
    /// hold them back for a second or two, is off.
    pub fn new() -> io::Result<Self> {
        let fd = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net").map(OwnedFd::from)
        })
        .join()
        .unwrap_or_else(|panic| panic::resume_unwind(panic))
        .map_err(|error| context(&error, "cannot make a network namespace"))?;

        let namespace = Self { fd: Arc::new(fd) };
        for interface in ["all", "default"] {
            // Absent where IPv6 is off; the address flag in `Interface::add_address` is enough.
            let _absent =
                namespace.set_sysctl(&format!("net/ipv6/conf/{interface}/accept_dad"), "0");
        }
        namespace.interface("lo")?.up()?;
        Ok(namespace)
    }

    /// The one that this process is in.
    pub(crate) fn current() -> io::Result<Self> {
        let fd = File::open("/proc/self/ns/net").map(OwnedFd::from)?;
        Ok(Self { fd: Arc::new(fd) })
    }

    /// Runs `work` on a fresh thread inside the namespace and hands back its result.
    ///
    /// A panic in `work` goes on in the caller. Sockets made inside stay inside, wherever
    /// they are used later. A child process started inside dies when `work` returns, see
    /// [`Namespace::command`].
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.enter();
                    work()
                })
                .join()
                .unwrap_or_else(|panic| panic::resume_unwind(panic))
        })
    }

    /// Runs `work` on a thread inside the namespace while the caller goes on.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let namespace = self.clone();
        thread::spawn(move || {
            namespace.enter();
            work()
        })
    }

    /// A command that will run `program` inside the namespace.
    ///
    /// The child is killed when the **thread** that started it ends (`PR_SET_PDEATHSIG`
    /// counts threads): start it from the test's own thread.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let namespace = Arc::clone(&self.fd);
        let parent = std::process::id();
        let mut command = Command::new(program);
        let enter = move || {
            setns(&*namespace, CloneFlags::CLONE_NEWNET)?;
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have died before the line above: nobody would kill us then.
            if getppid().as_raw().cast_unsigned() != parent {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            // A shell has what it runs in the background ignore it, and what that runs.
            // SAFETY: no handler is installed, so there is none to be unsound.
            unsafe { signal(Signal::SIGINT, SigHandler::SigDfl) }?;
            Ok(())
        };
        // SAFETY: between fork and exec only async-signal-safe calls are made: four system
        // calls, and errors that are built without allocating.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// The interface of this name inside the namespace.
    pub fn interface(&self, name: &str) -> io::Result<Interface> {
        Interface::find(self.clone(), name)
    }

    /// Writes a network setting such as `net/ipv4/ip_forward`, of this namespace only.
    pub fn set_sysctl(&self, name: &str, value: &str) -> io::Result<()> {
        let path = format!("/proc/sys/{name}");
        self.run(|| fs::write(&path, value))
            .map_err(|error| context(&error, format!("cannot write {value} to {path}")))
    }

    /// The descriptor, for what wants a namespace by number (`IFLA_NET_NS_FD`).
    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    fn enter(&self) {
        setns(&*self.fd, CloneFlags::CLONE_NEWNET).expect("entering a network namespace we made");
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, net::TcpListener, process::Stdio};

    use super::*;

    fn current() -> String {
        fs::read_link("/proc/thread-self/ns/net")
            .unwrap()
            .display()
            .to_string()
    }

    #[test]
    fn work_runs_in_another_namespace_and_the_caller_stays() {
        crate::require_root!();
        let namespace = Namespace::new().unwrap();
        let before = current();
        let inside = namespace.run(current);
        assert_ne!(before, inside);
        assert_eq!(before, current());
        assert_eq!(inside, namespace.spawn(current).join().unwrap());
    }

    #[test]
    fn a_command_runs_in_the_namespace_and_sees_the_same_sys() {
        crate::require_root!();
        let namespace = Namespace::new().unwrap();
        let output = namespace
            .command("readlink")
            .arg("/proc/self/ns/net")
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        let seen = String::from_utf8(output.stdout).unwrap();
        assert_eq!(seen.trim(), namespace.run(current));
    }

    #[test]
    fn loopback_is_up_and_each_namespace_has_its_own_ports() {
        crate::require_root!();
        let [a, b] = [(); 2].map(|()| Namespace::new().unwrap());
        let bind = || TcpListener::bind("127.0.0.1:80").unwrap();
        let _both = (a.run(bind), b.run(bind));
        a.run(|| std::net::TcpStream::connect("127.0.0.1:80").unwrap());
    }

    #[test]
    #[should_panic(expected = "from inside")]
    fn a_panic_inside_is_a_panic_outside() {
        if privileged() {
            Namespace::new().unwrap().run(|| panic!("from inside"));
        }
        panic!("from inside");
    }

    fn privileged() -> bool {
        crate::privilege::missing().is_none()
    }
}
