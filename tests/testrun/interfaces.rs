//! Packets are counted for the interface that they came in on. The harness says that all came in on
//! the loopback.

use abuser_common::{
    interface::{FIRST, PLACES, SLOTS, places},
    layout::{Outcome, Traffic},
};
use testkit::{Packet, require_root};

use crate::kernel::{Kernel, run};

/// The index of an interface that others run the program for.
const BOND: u32 = 50;
/// The loopback's index.
const LOOPBACK: u32 = 1;

fn frame() -> Vec<u8> {
    Packet::eth().ipv4("203.0.113.7").udp(53).build()
}

/// Has packets pass, and tells them from the others by their number.
fn pass(kernel: &mut Kernel, packets: u32) {
    run(kernel.program(), &frame(), packets);
}

fn begin(kernel: &mut Kernel, index: u32) {
    let packets = kernel.dataplane().packets_mut();
    packets.begin(index, false).expect("a slot");
}

/// How many packets passed on an interface; `None` if it has no counters of its own.
fn passed_on(kernel: &mut Kernel, index: u32) -> Option<u64> {
    let on = kernel.dataplane().counters().packets().on(index);
    on.expect("counters")
        .map(|counted| counted.of(Outcome::Passed).packets)
}

/// How many passed on none that has.
fn passed_elsewhere(kernel: &mut Kernel) -> u64 {
    let elsewhere = kernel.dataplane().counters().packets().elsewhere();
    elsewhere.expect("counters").of(Outcome::Passed).packets
}

#[test]
fn an_interface_begins_at_zero_and_nothing_that_was_counted_is_lost_or_another_s() {
    require_root!();
    let mut kernel = Kernel::load("");
    pass(&mut kernel, 3);
    assert_eq!(passed_elsewhere(&mut kernel), 3);
    begin(&mut kernel, LOOPBACK);
    begin(&mut kernel, 2);
    pass(&mut kernel, 5);
    assert_eq!(passed_on(&mut kernel, LOOPBACK), Some(5));
    assert_eq!(passed_on(&mut kernel, 2), Some(0));
    assert_eq!(passed_on(&mut kernel, 3), None);
    let on = kernel.dataplane().counters().packets().on(LOOPBACK);
    let expected = Traffic {
        packets: 5,
        bytes: 5 * frame().len() as u64,
    };
    assert_eq!(
        on.expect("counters").expect("some").of(Outcome::Passed),
        expected
    );

    kernel.dataplane().packets_mut().end(LOOPBACK);
    pass(&mut kernel, 7);
    assert_eq!(passed_elsewhere(&mut kernel), 3 + 7);
    assert_eq!(kernel.count(Outcome::Passed), 3 + 5 + 7);
    // So many that each slot has had several of them.
    for index in 2..2 * SLOTS {
        begin(&mut kernel, index);
        assert_eq!(passed_on(&mut kernel, index), Some(0), "{index}");
        kernel.dataplane().packets_mut().end(index);
    }
    begin(&mut kernel, LOOPBACK);
    pass(&mut kernel, 11);
    assert_eq!(passed_on(&mut kernel, LOOPBACK), Some(11));
    assert_eq!(passed_elsewhere(&mut kernel), 3 + 7);
    assert_eq!(kernel.count(Outcome::Passed), 3 + 5 + 7 + 11);
}

#[test]
fn an_interface_whose_first_place_is_taken_has_counters_all_the_same() {
    require_root!();
    let mut kernel = Kernel::load("");
    begin(&mut kernel, LOOPBACK + PLACES);
    begin(&mut kernel, LOOPBACK);
    pass(&mut kernel, 5);
    assert_eq!(passed_on(&mut kernel, LOOPBACK), Some(5));
    assert_eq!(passed_on(&mut kernel, LOOPBACK + PLACES), Some(0));

    kernel.dataplane().packets_mut().end(LOOPBACK);
    let [_, second] = places(LOOPBACK);
    begin(&mut kernel, second);
    begin(&mut kernel, LOOPBACK);
    assert_eq!(passed_on(&mut kernel, LOOPBACK), None, "both are taken");
    pass(&mut kernel, 7);
    assert_eq!(passed_elsewhere(&mut kernel), 7);
    assert_eq!(kernel.count(Outcome::Passed), 5 + 7);
}

#[test]
fn more_interfaces_than_there_are_slots_are_counted_together() {
    require_root!();
    let mut kernel = Kernel::load("");
    for index in 2..2 + SLOTS - FIRST {
        begin(&mut kernel, index);
    }
    begin(&mut kernel, LOOPBACK);
    assert_eq!(passed_on(&mut kernel, LOOPBACK), None);
    pass(&mut kernel, 5);
    assert_eq!(passed_elsewhere(&mut kernel), 5);
    assert_eq!(kernel.count(Outcome::Passed), 5);
    kernel.dataplane().packets_mut().end(2);
    begin(&mut kernel, LOOPBACK);
    pass(&mut kernel, 7);
    assert_eq!(passed_on(&mut kernel, LOOPBACK), Some(7));
}

#[test]
fn the_ports_of_an_interface_count_for_it_for_as_long_as_they_are() {
    require_root!();
    let mut kernel = Kernel::load("");
    begin(&mut kernel, BOND);
    let set_ports = |kernel: &mut Kernel, ports: &[u32]| {
        kernel.dataplane().packets_mut().set_ports(BOND, ports);
    };
    set_ports(&mut kernel, &[LOOPBACK, 51]);
    pass(&mut kernel, 5);
    assert_eq!(passed_on(&mut kernel, BOND), Some(5));
    set_ports(&mut kernel, &[51]);
    pass(&mut kernel, 7);
    assert_eq!(passed_on(&mut kernel, BOND), Some(5));
    assert_eq!(passed_elsewhere(&mut kernel), 7);
    set_ports(&mut kernel, &[LOOPBACK]);
    // It is protected by itself.
    begin(&mut kernel, LOOPBACK);
    set_ports(&mut kernel, &[LOOPBACK]);
    pass(&mut kernel, 11);
    assert_eq!(passed_on(&mut kernel, LOOPBACK), Some(11));
    assert_eq!(passed_on(&mut kernel, BOND), Some(5));
}
