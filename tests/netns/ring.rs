//! A daemon that does not read events, under a flood of ever new sources.

use std::{
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use testkit::{Daemon, FrameSender, Packet, Wire};

use crate::support::{Frozen, config, deliver, eventually, listen, number, outcome, udp_v4, wire};

/// Long enough to fill the ring buffer on one CPU: each has a budget of events a second.
const FLOOD: Duration = Duration::from_secs(10);

#[test]
fn events_that_there_is_no_room_for_are_counted_and_cost_no_verdict_and_all_goes_on_after() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let tables = "[[limit]]\nname = \"one\"\nprotocol = \"udp\"\nports = [9]\nrate = \"1/h\"\n\
                  burst = 0\n[ban]\nmaxretry = 1000\n";
    let daemon = Daemon::start(&wire.server, &config(tables));
    daemon.abuser(&["ban", "add", "192.0.2.10"]).success();
    let (client, end) = (wire.client_end.mac(), wire.server_end.mac());
    let frame = |source: Ipv4Addr| {
        let packet = Packet::eth().macs(client, end).ipv4(source);
        packet.to(Wire::SERVER_V4).udp(9).build()
    };
    let sender = FrameSender::open(&wire.client_end).unwrap();
    let mut sources = 0_u32;
    {
        let _frozen = Frozen::new(&daemon);
        let started = Instant::now();
        while started.elapsed() < FLOOD {
            let frame = frame(Ipv4Addr::from(0x0a00_0000 + sources));
            sources += 1;
            sender.send(&frame).unwrap();
            sender.send(&frame).unwrap();
            if sources.is_multiple_of(16) {
                thread::sleep(Duration::from_millis(1));
            }
        }
        assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 20), 0);
    }
    let dropped = || outcome(&daemon, "dropped_limit") + outcome(&daemon, "dropped_ban");
    eventually("each second packet was dropped", || {
        outcome(&daemon, "dropped_limit") == u64::from(sources)
    });
    let status = daemon.json(&["status"]);
    let [sent, suppressed, lost] =
        ["sent", "suppressed", "lost"].map(|key| number(&status, &format!("/events/{key}")));
    assert!(lost > 0, "{sent} sent, {suppressed} suppressed, none lost");
    assert_eq!(sent + suppressed + lost, dropped());

    // It reads again. The last of the flood have what notes the time of an event, for a second.
    let events = listen(&daemon);
    thread::sleep(Duration::from_millis(1_100));
    let again = frame(Ipv4Addr::new(198, 51, 100, 7));
    sender.send(&again).unwrap();
    sender.send(&again).unwrap();
    while events.next()["source"] != "198.51.100.7" {}
    let status = daemon.json(&["status"]);
    assert_eq!(number(&status, "/events/lost"), lost);
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 20), 0);
}
