//! The tables of prefixes, as the daemon writes them.

use abuser::dataplane::DataplaneError;
use abuser_common::{
    layout::{AllowOrigin, MAX_ALLOWED, Outcome},
    prefix::PrefixKey,
};
use testkit::{Packet, require_root};

use crate::kernel::Kernel;

/// As many hosts as asked for, from 198.18.0.0 on.
fn hosts(count: u32) -> Vec<(PrefixKey, u64)> {
    let address = |n| std::net::Ipv4Addr::from(0xc612_0000 + n);
    (0..count)
        .map(|n| {
            let key = PrefixKey::new(address(n).into(), 32).expect("a key");
            (key, AllowOrigin::Config as u64)
        })
        .collect()
}

fn outcome(kernel: &mut Kernel, source: &str) -> Outcome {
    kernel.run(&Packet::eth().ipv4(source).udp(53).build())
}

#[test]
fn entries_that_do_not_all_fit_change_nothing() {
    require_root!();
    let mut kernel = Kernel::load("");
    kernel.ban("0.0.0.0/0", 1, 0);
    let before = hosts(MAX_ALLOWED - 1);
    let (table, hints) = kernel.dataplane().allowed();
    table.insert(hints, &before).expect("room");

    // The first is known, the second fits, the third does not.
    let mut more = vec![(before[0].0, AllowOrigin::Command as u64)];
    more.extend_from_slice(&hosts(MAX_ALLOWED + 1)[before.len()..]);
    let error = table.insert(hints, &more).expect_err("no room");
    assert!(
        matches!(error, DataplaneError::Full { capacity, .. } if capacity == MAX_ALLOWED),
        "{error}"
    );

    let first = table.get(&before[0].0).expect("a look-up");
    assert_eq!(first, Some(AllowOrigin::Config as u64), "the known one");
    assert_eq!(table.get(&more[1].0).expect("a look-up"), None);
    assert_eq!(table.entries().expect("entries").len(), before.len());
    assert_eq!(outcome(&mut kernel, "198.18.0.0"), Outcome::Allowed);
    assert_eq!(outcome(&mut kernel, "198.18.63.254"), Outcome::Allowed);
    assert_eq!(outcome(&mut kernel, "198.18.63.255"), Outcome::DroppedBan);

    // Its room is free, and its hints are made anew.
    let (table, hints) = kernel.dataplane().allowed();
    table.insert(hints, &more[..2]).expect("room for one");
    assert_eq!(outcome(&mut kernel, "198.18.63.255"), Outcome::Allowed);
    let (table, hints) = kernel.dataplane().allowed();
    assert!(table.remove(hints, &more[1].0).expect("a removal"));
    assert_eq!(outcome(&mut kernel, "198.18.63.255"), Outcome::DroppedBan);
}
