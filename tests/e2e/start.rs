//! Starts that are refused: what is wrong, what to do, and all as it was.

use std::{
    fs,
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
        process::CommandExt as _,
    },
    path::Path,
    process::{Command, Stdio},
};

use testkit::{Daemon, abuser_binary, require_root};

use crate::support::{Complains as _, Site, finish, finish_child, has_xdp, wait_until};

#[test]
fn without_an_interface_it_asks_for_one() {
    require_root!();
    let site = Site::new();
    let config = site.config_with("", &site.socket(), site.pin_dir());
    site.run(&config, &[])
        .complains(2, &["which interface?", "names none", "-i eth0"]);
    site.assert_untouched();
}

#[test]
fn a_missing_interface_is_refused_with_those_that_exist() {
    require_root!();
    let site = Site::new();
    let config = site.config();
    for name in ["nosuch0", "0123456789abcdefgh", "a/b", ""] {
        site.run(&config, &["-i", name]).complains(
            1,
            &[&format!("there is no interface {name:?}"), "there are: lo"],
        );
        // Nor is the one that exists attached to.
        site.run(&config, &["-i", "lo", "-i", name])
            .complains(1, &["there is no interface"]);
        site.assert_untouched();
    }
}

#[test]
fn without_privilege_it_says_to_use_sudo() {
    require_root!();
    let site = Site::new();
    let config = site.config();
    // The build folder may be closed to others. Not `fs::copy`: a child that another test
    // starts meanwhile would hold the file open for writing ("text file busy").
    let binary = site.path("abuser");
    let mut copy = Command::new("cp");
    finish(copy.arg(abuser_binary().expect("built")).arg(&binary)).success();
    let as_nobody = |arguments: &[&str]| {
        let mut command = Command::new(&binary);
        command
            .args(arguments)
            .uid(65534)
            .gid(65534)
            .env_remove("RUST_LOG");
        finish(&mut command)
    };
    let config = config.to_str().expect("UTF-8");
    as_nobody(&["run", "-c", config]).complains(1, &["needs root", "sudo"]);
    site.assert_untouched();

    // Reading is for everyone, talking to the daemon is not.
    as_nobody(&["check", "-c", config]).success();
    let _listener = UnixListener::bind(site.socket()).expect("a socket");
    fs::set_permissions(site.socket(), fs::Permissions::from_mode(0o660)).expect("chmod");
    let socket = site.socket();
    as_nobody(&["--socket", socket.to_str().expect("UTF-8"), "status"]).complains(
        1,
        &["not permitted", "use sudo, or join the group `abuser`"],
    );
}

#[test]
fn without_a_bpf_file_system_it_says_how_to_mount_one() {
    require_root!();
    let site = Site::new();
    let config = site.config();
    // Root of a container that may not mount.
    let script = "umount -l /sys/fs/bpf; exec setpriv --bounding-set=-sys_admin \
                  --inh-caps=-sys_admin \"$0\" run -c \"$1\"";
    let mut command = site.namespace.command("unshare");
    command
        .args(["--mount", "sh", "-c", script])
        .arg(abuser_binary().expect("built"))
        .arg(&config)
        .env_remove("RUST_LOG");
    finish(&mut command).complains(
        1,
        &[
            "no BPF file system at /sys/fs/bpf",
            "mount -t bpf bpf /sys/fs/bpf",
        ],
    );
    site.assert_untouched();
}

#[test]
fn pins_outside_of_a_bpf_file_system_are_refused() {
    require_root!();
    let site = Site::new();
    let pins = site.path("pins");
    let config = site.config_with("interfaces = [\"lo\"]", &site.socket(), &pins);
    site.run(&config, &[]).complains(
        1,
        &["is not on a BPF file system", "pin_dir", "/sys/fs/bpf"],
    );
    assert!(!pins.exists());
    site.assert_untouched();
}

#[test]
fn a_file_in_the_socket_s_place_is_left_alone() {
    require_root!();
    let site = Site::new();
    let file = site.path("precious");
    fs::write(&file, "data").expect("a file");
    let config = site.config_with("interfaces = [\"lo\"]", &file, site.pin_dir());
    site.run(&config, &[])
        .complains(1, &["precious exists and is not a socket", "[api] socket"]);
    assert_eq!(fs::read_to_string(&file).expect("still there"), "data");
    site.assert_untouched();
}

#[test]
fn a_socket_in_a_folder_that_cannot_be_made_is_refused() {
    require_root!();
    let site = Site::new();
    for socket in [
        "/proc/nowhere/abuser.sock",
        "/proc/abuser.sock",
        "/dev/null/abuser.sock",
    ] {
        let config = site.config_with("interfaces = [\"lo\"]", Path::new(socket), site.pin_dir());
        site.run(&config, &[])
            .complains(1, &["cannot ", "[api] socket"]);
        site.assert_untouched();
    }
}

#[test]
fn a_socket_path_longer_than_the_kernel_takes_is_refused_before_a_folder_is_made() {
    require_root!();
    let site = Site::new();
    let folder = site.path(&"d".repeat(60));
    let socket = folder.join("s".repeat(60));
    let config = site.config_with("interfaces = [\"lo\"]", &socket, site.pin_dir());
    site.run(&config, &[])
        .complains(2, &["107 bytes", "[api] socket"]);
    assert!(!folder.exists());
    site.assert_untouched();
}

#[test]
fn a_socket_that_a_dead_daemon_left_is_replaced() {
    require_root!();
    let site = Site::new();
    drop(UnixListener::bind(site.socket()).expect("a socket"));
    assert!(UnixStream::connect(site.socket()).is_err());
    let config = format!(
        "interfaces = [\"lo\"]\n[api]\nsocket = {:?}\n",
        site.socket()
    );
    let mut daemon = Daemon::start(&site.namespace, &config);
    daemon.abuser(&["status"]).success();
    assert_eq!(daemon.terminate().code(), Some(0));
    site.assert_untouched();
}

#[test]
fn a_second_daemon_with_the_same_pins_is_refused_and_the_first_goes_on() {
    require_root!();
    let site = Site::new();
    let daemon = Daemon::start(&site.namespace, "interfaces = [\"lo\"]\n");
    let before = daemon.json(&["status"])["interfaces"].clone();
    let config = site.config_with("interfaces = [\"lo\"]", &site.socket(), daemon.pin_dir());
    site.run(&config, &[]).complains(
        1,
        &[
            &format!(
                "another abuser (process {}) already runs with the pins in",
                daemon.pid()
            ),
            "abuser detach",
        ],
    );
    assert!(!site.socket().exists());
    assert_eq!(daemon.json(&["status"])["interfaces"], before);
}

#[test]
fn a_second_daemon_with_the_same_socket_is_refused_with_the_first_s_process() {
    require_root!();
    let site = Site::new();
    let daemon = Daemon::start(&site.namespace, "interfaces = [\"lo\"]\n");
    let other = Site::new();
    let config = other.config_with("interfaces = [\"lo\"]", daemon.socket(), other.pin_dir());
    other.run(&config, &[]).complains(
        1,
        &[
            &format!("another abuser (process {}) already listens", daemon.pid()),
            "abuser detach",
        ],
    );
    other.assert_untouched();
    daemon.abuser(&["status"]).success();
}

#[test]
fn a_second_daemon_on_the_same_interface_is_refused_by_the_first_s_program() {
    require_root!();
    let site = Site::new();
    let daemon = Daemon::start(&site.namespace, "interfaces = [\"lo\"]\n");
    let program = daemon.json(&["status"])["interfaces"][0]["program_id"].to_string();
    site.run(&site.config(), &[]).complains(
        1,
        &["lo already has an XDP program", &format!("(id {program})")],
    );
    assert!(!site.socket().exists() && !site.pin_dir().exists());
    assert!(has_xdp(&site.namespace, "lo"));
}

#[test]
fn an_interface_named_twice_is_attached_to_once() {
    require_root!();
    let site = Site::new();
    let config = site.config();
    let mut command = site.command(&["run", "-i", "lo", "-i", "lo", "-c"]);
    command
        .arg(&config)
        .stderr(Stdio::piped())
        .stdout(Stdio::piped());
    let child = command.spawn().expect("running abuser");
    let socket = site.socket();
    let socket = socket.to_str().expect("UTF-8");
    let ask = |arguments: &[&str]| {
        finish(&mut site.command(&[&["--socket", socket], arguments].concat()))
    };
    wait_until("the daemon answers", || ask(&["status"]).status.success());
    let said = ask(&["detach"]).success();
    assert_eq!(
        said.stdout, "detached from lo\nthe daemon has stopped\n",
        "{said}"
    );
    finish_child(child, "abuser run".to_owned()).success();
    site.assert_untouched();
}

#[test]
fn a_reader_that_stops_reading_holds_up_nothing_but_itself() {
    require_root!();
    let site = Site::new();
    let config = site.config();
    let config = config.to_str().expect("UTF-8");
    let socket = site.socket();
    let socket = socket.to_str().expect("UTF-8");
    // Neither pipe is read from.
    let mut daemon = site
        .command(&["run", "--events", "-c", config])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the daemon");
    wait_until("the daemon listens", || site.socket().exists());
    // Each ban is a line of a hundred bytes in both; a pipe holds 64 KiB.
    let sources: Vec<_> = (0..2000)
        .map(|n| format!("10.1.{}.{}", n / 250, n % 250))
        .collect();
    let mut add = vec!["--socket", socket, "ban", "add"];
    add.extend(sources.iter().map(String::as_str));
    finish(&mut site.command(&add)).success();
    finish(&mut site.command(&["--socket", socket, "status"])).success();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(daemon.id()).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("SIGTERM");
    wait_until("the daemon has left", || {
        daemon.try_wait().expect("a child").is_some()
    });
    site.assert_untouched();
}
