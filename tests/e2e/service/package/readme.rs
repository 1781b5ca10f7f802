//! README.md on a machine that has nothing of abuser yet: the package, the first session and the service, with the commands
//! that stand there.

use std::{
    fs,
    net::{IpAddr, TcpListener},
    path::Path,
    thread,
    time::Duration,
};

use testkit::{
    markdown::{Piece, pieces},
    require_root,
};

use super::site::{HOST, Site, package};
use crate::guide::{
    document::{Document, Hidden, Step},
    likeness::alike,
    traffic::Traffic,
};

/// What a reader has besides a Debian: a way to become root, and an editor, in which the interface is named.
const SUDO: &str = "#!/bin/sh\nexec \"$@\"\n";
const SUDOEDIT: &str = "#!/bin/sh\nset -e\n\
    { echo 'interfaces = [\"eth0\"]'; cat \"$1\"; } > /root/edited\n\
    cat /root/edited > \"$1\"\n";

/// The lines of the block that installs the service, without what they end in.
fn service(readme: &str) -> Vec<String> {
    let mut blocks = pieces(readme).into_iter().filter_map(|piece| match piece {
        Piece::Code(code) => Some(code.lines),
        Piece::Comment { .. } => None,
    });
    let is_it = |lines: &Vec<String>| lines.iter().any(|line| line.contains("apt install"));
    let lines = blocks.find(is_it).expect("README installs the package");
    let command = |line: &String| {
        line.split(" #")
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    lines.iter().map(command).collect()
}

#[test]
fn the_readme_s_first_session_and_service_work_as_written_on_a_clean_debian() {
    require_root!();
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md"));
    let readme = fs::read_to_string(path).expect("README.md");
    let site = Site::new();
    let route = ["route", "add", "default", "dev", "eth0"];
    let routed = site.host.command("ip").args(route).status();
    assert!(routed.is_ok_and(|status| status.success()), "ip {route:?}");
    for (name, text) in [("sudo", SUDO), ("sudoedit", SUDOEDIT)] {
        site.write(&format!("/usr/bin/{name}"), text);
        site.run(&format!("chmod +x /usr/bin/{name}"));
    }

    let service = service(&readme);
    let [dist, install, rest @ ..] = service.as_slice() else {
        panic!("what of {service:?} builds, what installs?");
    };
    assert_eq!(dist, "cargo xtask dist");
    let package = package();
    let name = package.file_name().and_then(|name| name.to_str());
    let built = format!("/root/target/dist/{}", name.expect("a name"));
    site.write(&built, "");
    fs::copy(&package, site.machine.path(&built)).expect("copying the package");
    site.run(&format!("cd /root && {install}"));

    first_session(&site, path, &readme);

    for line in rest {
        site.run(line);
    }
    assert_eq!(site.property("ActiveState"), "active");
    assert!(site.is_filtered());
    let status = site.run("abuser status");
    assert!(status.stdout.contains("protects eth0"), "{status}");
}

/// What README shows before anything else: a daemon in the background, and what a reader of events sees.
fn first_session(site: &Site, path: &Path, readme: &str) {
    let document = Document::parse(path, readme).unwrap_or_else(|error| panic!("{error}"));
    let mut meanwhile = None;
    for step in &document.steps {
        match step {
            Step::File { path, text } => site.write(path, text),
            Step::Hidden {
                what: Hidden::During(traffic),
                ..
            } => meanwhile = Some(traffic),
            Step::Command { command, .. } if command.ends_with('&') => {
                site.run(&command.replace(" &", " > /root/run.log 2>&1 &"));
                site.wait("the daemon", || {
                    site.machine.run("abuser status").status.success()
                });
            }
            Step::Command { command, shown, .. } => {
                let traffic = meanwhile.expect("README tells what happens meanwhile");
                let printed = printed_during(site, command, traffic, shown.len());
                assert!(
                    alike(shown, &printed),
                    "README shows\n{}\nand it printed\n{}",
                    shown.join("\n"),
                    printed.join("\n")
                );
                break;
            }
            Step::Hidden { .. } | Step::Database { .. } => {}
        }
    }
    site.run("abuser detach");
    site.wait("the end of the daemon", || !site.is_filtered());
}

/// What a command prints while something happens, once it is so many lines.
fn printed_during(site: &Site, command: &str, traffic: &Traffic, lines: usize) -> Vec<String> {
    let source = format!("{}/32", traffic.source);
    site.far.add_address(&source).expect("an address");
    let listen = || TcpListener::bind((HOST, traffic.port));
    let _listener = site.host.run(listen).expect("nobody listens there");
    let started = site.run(&format!("{command} > /root/printed 2>&1 & echo $!"));
    site.wait("a reader of events", || {
        let sockets = site.run("cat /proc/net/unix").stdout;
        let is_taken = |line: &str| {
            let state = line.split_whitespace().nth(5);
            line.ends_with("/run/abuser/abuser.sock") && state == Some("03")
        };
        sockets.lines().any(is_taken)
    });
    // It is connected, and has yet to say what it wants.
    thread::sleep(Duration::from_millis(300));
    let IpAddr::V4(host) = HOST else {
        panic!("README's client speaks IPv4");
    };
    let _open = site.client.run(|| traffic.send_to(host));
    let printed = || -> Vec<String> {
        let text = site.run("cat /root/printed").stdout;
        text.lines().map(str::to_owned).collect()
    };
    site.wait("as many lines as are shown", || printed().len() >= lines);
    site.run(&format!("kill {}", started.stdout));
    printed()
}
