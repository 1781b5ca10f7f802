//! What comes out of the ring buffer.

use std::time::{Duration, Instant};

use abuser_common::{
    event::{Reason, Verdict},
    layout::Outcome,
    packet::TCP,
};
use testkit::{Packet, require_root};

use crate::kernel::{Kernel, drain, pin_to_cpu, run};

const LIMIT: &str = "[[limit]]\nname = \"web\"\nprotocol = \"tcp\"\nports = [443]\nrate = \"1/h\"";

#[test]
fn a_flood_of_one_source_is_one_event_a_second_that_stands_for_all() {
    require_root!();
    // Each CPU tells of the drops that it made itself.
    pin_to_cpu(0);
    let mut kernel = Kernel::load(LIMIT);
    let mut ring = kernel.ring();
    let frame = Packet::eth()
        .vlan(7)
        .ipv4("203.0.113.7")
        .tcp(443)
        .syn()
        .build();
    run(kernel.program(), &frame, 2);
    let first = drain(&mut ring);
    let [first] = first[..] else {
        panic!("one event, not {first:?}");
    };
    assert_eq!(first.verdict(), Some(Verdict::Drop));
    assert_eq!(first.reason(), Some(Reason::Limit));
    assert_eq!(
        first.source.address(),
        Some("203.0.113.7".parse().expect("an address"))
    );
    assert_eq!(
        (first.protocol, first.port, first.has_port()),
        (TCP, 443, true)
    );
    assert_eq!(first.tcp_flags, testkit::packet::flags::SYN);
    assert_eq!((first.drops, first.prefix), (1, 32));
    assert_eq!(first.length as usize, frame.len());

    run(kernel.program(), &frame, 1000);
    assert_eq!(drain(&mut ring), [], "within the same second");
    std::thread::sleep(Duration::from_millis(1100));
    run(kernel.program(), &frame, 1000);
    let second = drain(&mut ring);
    let [second] = second[..] else {
        panic!("one event, not {second:?}");
    };
    assert_eq!(second.drops, 1001);
    assert_eq!(kernel.event_counts(), (2, 1999, 0));
    assert_eq!(kernel.count(Outcome::DroppedLimit), 2001);
}

#[test]
fn a_flood_of_many_sources_is_bounded_by_the_budget() {
    require_root!();
    let mut kernel = Kernel::load("[[limit]]\nname = \"any\"\nrate = \"1/h\"");
    let mut ring = kernel.ring();
    let program = kernel.program();
    let started = Instant::now();
    for n in 0..20_000_u32 {
        let source = std::net::Ipv4Addr::from(0xc633_0000 + n);
        let frame = Packet::eth().ipv4(source).udp(53).build();
        run(program, &frame, 1);
        run(program, &frame, 1);
    }
    let events = drain(&mut ring).len() as u64;
    let (sent, suppressed, lost) = kernel.event_counts();
    assert_eq!((sent, lost), (events, 0));
    assert_eq!(sent + suppressed, 20_000);
    // Each CPU may send a thousand at once, then one a millisecond.
    let cpus = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let milliseconds = u64::try_from(started.elapsed().as_millis()).expect("a short time") + 1;
    let allowed = cpus * (1_000 + milliseconds);
    assert!(
        (1_000..=allowed).contains(&sent),
        "{sent} events, {allowed} allowed"
    );
    assert!(
        suppressed > 5_000,
        "{sent} events is hardly less than the flood"
    );
}

#[test]
fn a_full_ring_loses_events_and_says_so_but_drops_all_the_same() {
    require_root!();
    let mut kernel = Kernel::load("[[limit]]\nname = \"any\"\nrate = \"1/h\"");
    // The ring has room for 6,500 records; nobody reads it.
    let program = kernel.program();
    let started = Instant::now();
    for n in 0.. {
        let source = std::net::Ipv4Addr::from(0xc633_0000 + n);
        let frame = Packet::eth().ipv4(source).udp(53).build();
        run(program, &frame, 1);
        run(program, &frame, 1);
        if started.elapsed() > Duration::from_secs(9) {
            break;
        }
    }
    let (sent, suppressed, lost) = kernel.event_counts();
    assert!(lost > 0, "{sent} sent, {suppressed} suppressed, none lost");
    assert_eq!(
        sent + suppressed + lost,
        kernel.count(Outcome::DroppedLimit)
    );
}

#[test]
fn an_ipv6_source_is_named_in_full_and_charged_by_its_64() {
    require_root!();
    let mut kernel = Kernel::load("[[limit]]\nname = \"any\"\nrate = \"1/h\"");
    let mut ring = kernel.ring();
    kernel.run(&Packet::eth().ipv6("2001:db8:1:2::a").udp(53).build());
    kernel.run(&Packet::eth().ipv6("2001:db8:1:2::b").udp(53).build());
    let events = drain(&mut ring);
    let [event] = events[..] else {
        panic!("one event, not {events:?}");
    };
    let named = event.source.address().expect("an address");
    assert_eq!(named.to_string(), "2001:db8:1:2::b");
    assert_eq!(event.prefix, 64);
}

#[test]
fn a_ban_counts_its_hits_and_its_events_carry_its_number() {
    require_root!();
    let mut kernel = Kernel::load("");
    let mut ring = kernel.ring();
    kernel.ban("203.0.113.0/24", 42, 0);
    let frame = Packet::eth().ipv4("203.0.113.7").protocol(47).build();
    run(kernel.program(), &frame, 100);
    let events = drain(&mut ring);
    let [event] = events[..] else {
        panic!("one event, not {events:?}");
    };
    assert_eq!(event.reason(), Some(Reason::Ban));
    assert_eq!(
        (event.cause, event.drops, event.protocol, event.has_port()),
        (42, 1, 47, false)
    );
    let ban = kernel.ban_of("203.0.113.0/24").expect("the ban");
    assert_eq!(ban.hits.total, 100);
    assert!(ban.last_hit_ns > 0);
}
