//! Too few descriptors, too little memory: what is in force goes on, and what cannot be is said.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::net::UnixStream,
    process::Command,
};

use testkit::{abuser_binary, require_root, traffic::send_udp};

use crate::{
    faults::in_kernel,
    support::{Complains as _, Site, daemon_on_lo, finish, wait_until},
};

#[test]
fn without_descriptors_bans_are_made_and_the_api_answers_when_some_are_free() {
    require_root!();
    let tables = "[ban]\nmaxretry = 1\nrequire_verified = false\n\
                  [[limit]]\nname = \"discard\"\nprotocol = \"udp\"\nports = [9]\n\
                  rate = \"1/h\"\nburst = 0\n";
    let (namespace, daemon) = daemon_on_lo(tables);
    let flood = |number| {
        let source = Ipv4Addr::new(127, 0, 0, number).into();
        let target = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 9);
        send_udp(&namespace, source, target, 1000.0, 3).unwrap_or_else(|error| panic!("{error}"));
        wait_until("it is banned", || in_kernel(&daemon).contains(&number));
    };
    let pid = daemon.pid();
    let open = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors");
    let few = open.count() + 5;
    let mut limit = Command::new("prlimit");
    limit.arg(format!("--pid={pid}"));
    finish(limit.arg(format!("--nofile={few}"))).success();
    let connect = |_| UnixStream::connect(daemon.socket()).expect("the kernel takes it");
    let crowd: Vec<_> = (0..100).map(connect).collect();
    wait_until("it has none left", || {
        daemon.stderr().contains("Too many open files")
    });
    flood(66);
    // It says so once a minute at most.
    let said = daemon.stderr().matches("Too many open files").count();
    assert_eq!(said, 1, "{}", daemon.stderr());
    drop(crowd);
    let list = daemon.json(&["ban", "list"]);
    assert_eq!(list[0]["source"], "127.0.0.66/32", "{list}");
    assert_eq!(
        daemon.json(&["status"])["store"]["error"],
        serde_json::Value::Null
    );
    flood(67);
    assert_eq!(daemon.pid(), pid);
}

#[test]
fn a_start_without_enough_memory_says_what_it_takes_and_leaves_nothing() {
    require_root!();
    let site = Site::new();
    let config = site.config();
    let binary = abuser_binary().unwrap_or_else(|error| panic!("{error}"));
    // With less than what its own code takes it does not come to the tables, and how much that is depends on the
    // build.
    let starts = (20_000..200_000).step_by(4_000).map(|kilobytes| {
        let mut start: Command = site.namespace.command("sh");
        let limited = format!("ulimit -v {kilobytes}; exec \"$@\"");
        start.env_remove("ABUSER_SOCKET");
        // What is allocated before the tables is kept after its use, so that it leaves no room for them: whether it
        // does otherwise depends on the build and on chance.
        start.env("MALLOC_ARENA_MAX", "1");
        start.env("MALLOC_MMAP_THRESHOLD_", "1000000000");
        start.env("MALLOC_TRIM_THRESHOLD_", "1000000000");
        start.args(["-c", &limited, "sh"]).arg(&binary);
        // One that could not even allocate was aborted, and left what a kill leaves.
        let _absent = fs::remove_dir_all(site.pin_dir());
        finish(start.arg("run").arg("-c").arg(&config))
    });
    let mut told = starts.skip_while(|said| !said.stderr.contains("into memory"));
    let said = told.next().expect("no start came to the tables");
    said.complains(1, &["into memory", "MiB", "LimitAS="]);
    site.assert_untouched();
}
