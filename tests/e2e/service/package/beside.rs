//! What the service is given to share an interface with other XDP programs, as docs/COEXISTENCE.md says.
//!
//! Whether it then joins is a matter of the kernel, which may take no components at all; so the dispatcher here is
//! one that is refused by what it says of itself, which only those see who may look at it.

use std::fs;

use abuser::dataplane::dispatcher::OBJECT;
use abuser_common::dispatcher::{CONFIG, Config, PROGRAM};
use aya::{
    Ebpf, EbpfLoader,
    programs::{Xdp, XdpMode},
};
use testkit::{
    markdown::{Piece, pieces},
    require_root,
};

use super::{
    CAPABILITIES,
    site::{Site, bring_package},
};

/// `CAP_SYS_ADMIN`.
const SYS_ADMIN: u64 = 1 << 21;

/// What the documentation has `systemctl edit` write.
fn drop_in() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/COEXISTENCE.md");
    let text = fs::read_to_string(path).expect("the documentation");
    let mut units = pieces(&text).into_iter().filter_map(|piece| match piece {
        Piece::Code(code) if code.language == "ini" => Some(code.text()),
        _ => None,
    });
    units.next().expect("a drop-in")
}

/// A dispatcher on the card that says it is of a version to come. It goes when it is dropped.
fn dispatcher(site: &Site) -> Ebpf {
    let newer = Config {
        version: 3,
        ..Config::EMPTY
    };
    let mut loaded = EbpfLoader::new()
        .override_global(CONFIG, &newer, true)
        .load(OBJECT)
        .expect("loading it");
    let program = loaded.program_mut(PROGRAM).expect("a program");
    let program: &mut Xdp = program.try_into().expect("an XDP program");
    program.load().expect("the kernel takes it");
    let index = site.host.interface("eth0").expect("the card").index();
    let attach = || program.attach_to_if_index(index, XdpMode::Driver);
    site.host.run(attach).expect("attaching it");
    loaded
}

/// Why it does not start.
fn refusal(site: &Site) -> String {
    site.machine.run("systemctl start abuser").exits(1);
    let said =
        site.run("systemctl stop abuser; journalctl --unit abuser --priority err --output cat");
    site.machine.run("systemctl reset-failed abuser");
    said.stdout
}

#[test]
fn the_drop_in_of_the_documentation_has_the_service_look_at_the_programs_of_others() {
    require_root!();
    let site = Site::new();
    bring_package(&site);
    site.run("apt-get install --yes /root/abuser.deb");
    site.run(r#"sed -i 's/^# interfaces = .*/interfaces = ["eth0"]/' /etc/abuser/abuser.toml"#);
    let other = dispatcher(&site);
    let said = refusal(&site);
    assert!(said.contains("that takes CAP_SYS_ADMIN"), "{said}");

    site.write(
        "/etc/systemd/system/abuser.service.d/override.conf",
        &drop_in(),
    );
    site.run("systemctl daemon-reload");
    let said = refusal(&site);
    assert!(said.contains("it is of version 3"), "{said}");

    drop(other);
    site.run("systemctl start abuser");
    assert!(site.is_filtered());
    // It had it for the start, and has given it up, since there is nobody to join any more.
    let started_with = CAPABILITIES | SYS_ADMIN;
    assert_eq!(site.capabilities(), (CAPABILITIES, started_with));
}
