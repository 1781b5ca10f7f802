//! Whatever is heard in whichever order: it ends as the bucket is.

use proptest::prelude::*;

use super::*;
use crate::config;

const NOW: u64 = 1_800_000_000_000;
const HOUR: u64 = 3_600_000;

fn caps(keys: &str) -> Caps {
    let text = format!("[fleet]\nnats = [\"nats://192.0.2.1\"]\nnode = \"here\"\n{keys}");
    let config = config::parse(&text, std::path::Path::new("a.toml")).unwrap();
    Caps::new(&config.fleet.unwrap())
}

fn state(keys: &str) -> State {
    State::new(caps(keys))
}

fn ban(text: &str) -> Topic {
    let net: ipnet::IpNet = text.parse().unwrap();
    Topic {
        kind: Kind::Ban,
        source: PrefixKey::new(net.addr(), net.prefix_len()).unwrap(),
    }
}

fn host(number: u8) -> Topic {
    ban(&format!("203.0.113.{number}/32"))
}

fn allow(number: u8) -> Topic {
    Topic {
        kind: Kind::Allow,
        ..host(number)
    }
}

fn written(seq: u64, expires: Option<u64>) -> Written<Said> {
    let said = Said {
        expires,
        cause: "limit".to_owned(),
        reason: None,
    };
    Written::new(said, seq, NOW)
}

/// Who bans whom, and until when.
fn bans(state: &mut State) -> Vec<(PrefixKey, String, u64)> {
    let mut all: Vec<_> = state
        .take_all()
        .into_iter()
        .map(|(source, counts)| (source, counts.node.to_string(), counts.until))
        .collect();
    all.sort();
    all
}

#[test]
fn of_several_nodes_the_one_whose_ban_lasts_longest_counts_until_it_takes_it_back() {
    let mut state = state("");
    for (node, hours) in [("b", 1), ("c", 3), ("a", 3), ("d", 2)] {
        let said = written(1, Some(NOW + hours * HOUR));
        state.put(node, host(1), &said, Heard::Live, NOW).unwrap();
    }
    let who = |state: &mut State| bans(state)[0].1.clone();
    assert_eq!(who(&mut state), "a");
    for (gone, left) in [("a", "c"), ("c", "d"), ("d", "b")] {
        state
            .delete(gone, host(1), Some(2), Heard::Live, NOW)
            .unwrap();
        let changed = state.take_changed(9);
        assert_eq!(&*changed[0].1.as_ref().unwrap().node, left);
        assert_eq!(state.banned(), 1);
    }
    state
        .delete("b", host(1), Some(2), Heard::Live, NOW)
        .unwrap();
    assert_eq!(state.take_changed(9), [(host(1).source, None)]);
    assert!(!state.has_changed());
}

#[test]
fn what_is_heard_twice_or_late_changes_nothing() {
    let mut state = state("");
    let said = written(5, None);
    state.put("a", host(1), &said, Heard::Live, NOW).unwrap();
    assert_eq!(state.take_changed(9).len(), 1);
    state
        .put("a", host(1), &said, Heard::Kept(NOW), NOW)
        .unwrap();
    state
        .put("a", host(1), &written(4, None), Heard::Kept(NOW), NOW)
        .unwrap();
    assert!(!state.has_changed());
    state
        .delete("a", host(1), Some(6), Heard::Live, NOW)
        .unwrap();
    state
        .put("a", host(1), &said, Heard::Kept(NOW), NOW)
        .unwrap();
    assert_eq!(state.take_changed(9), [(host(1).source, None)]);
    // Banned again.
    state
        .put("a", host(1), &written(7, None), Heard::Live, NOW)
        .unwrap();
    state
        .delete("a", host(1), Some(6), Heard::Kept(NOW), NOW)
        .unwrap();
    assert_eq!(bans(&mut state).len(), 1);
}

#[test]
fn who_revokes_a_node_needs_no_number_and_what_was_said_before_does_not_come_back() {
    let mut state = state("");
    state
        .put("a", host(1), &written(5, None), Heard::Live, NOW)
        .unwrap();
    state.delete("a", host(1), None, Heard::Live, NOW).unwrap();
    state
        .put("a", host(1), &written(5, None), Heard::Kept(NOW), NOW)
        .unwrap();
    assert_eq!(state.banned(), 0);
    state
        .put("a", host(1), &written(6, None), Heard::Kept(NOW), NOW)
        .unwrap();
    assert_eq!(state.banned(), 1);
}

#[test]
fn what_others_say_is_held_within_the_caps() {
    let mut state =
        state("max_bantime = \"2h\"\nignore = [\"bad\"]\naccept_allow = false\nwidest_ipv6 = 56");
    let said = written(1, None);
    let mut put = |node: &str, topic| state.put(node, topic, &said, Heard::Live, NOW);
    assert_eq!(put("a", ban("203.0.113.0/24")), Ok(()));
    assert_eq!(put("a", ban("203.0.112.0/23")), Err(Refusal::Wide));
    assert_eq!(put("a", ban("2001:db8::/56")), Ok(()));
    assert_eq!(put("a", ban("2001:db8::/55")), Err(Refusal::Wide));
    assert_eq!(put("bad", host(1)), Err(Refusal::Ignored));
    assert_eq!(put("a", allow(1)), Err(Refusal::Ignored));
    assert!(
        bans(&mut state)
            .iter()
            .all(|(_, _, until)| *until == NOW + 2 * HOUR)
    );
    // By the server's clock, whatever the node's shows.
    let kept = Heard::Kept(NOW - HOUR);
    state
        .put("a", host(7), &written(1, Some(NOW + 9 * HOUR)), kept, NOW)
        .unwrap();
    let counts = state.counts(&host(7)).unwrap();
    assert_eq!(counts.until, NOW + HOUR);
    let old = Heard::Kept(NOW - 3 * HOUR);
    state.put("a", host(8), &said, old, NOW).unwrap();
    assert_eq!(state.counts(&host(8)), None);
    let future = Heard::Kept(NOW + 100 * HOUR);
    state.put("a", host(9), &said, future, NOW).unwrap();
    assert_eq!(state.counts(&host(9)).unwrap().until, NOW + 2 * HOUR);
    state.pass_time(NOW + 2 * HOUR);
    assert_eq!(state.banned(), 0);
}

#[test]
fn only_some_nodes_may_be_listened_to() {
    let mut state = state("accept = [\"a\"]");
    let mut put = |node: &str| state.put(node, host(1), &written(1, None), Heard::Live, NOW);
    assert_eq!(put("a"), Ok(()));
    assert_eq!(put("b"), Err(Refusal::Ignored));
}

#[test]
fn a_node_cannot_fill_the_table_nor_keep_this_one_busy() {
    let mut state = state("");
    let number = |number: usize| {
        let [a, b, c] = [16, 8, 0].map(|shift| (number >> shift) & 0xff);
        ban(&format!("198.{a}.{b}.{c}/32"))
    };
    let mut refused = BTreeMap::new();
    for i in 0..MAX_NODE_BANS + 10 {
        let put = state.put("bad", number(i), &written(1, None), Heard::Kept(NOW), NOW);
        if let Err(refusal) = put {
            *refused.entry(refusal).or_insert(0) += 1;
        }
    }
    assert_eq!(refused, BTreeMap::from([(Refusal::TooMany, 10)]));
    assert!(state.wants_snapshot());
    // What it has said it may say otherwise, and others have room.
    state
        .put("bad", number(0), &written(2, None), Heard::Kept(NOW), NOW)
        .unwrap();
    state
        .put(
            "good",
            number(1_000_000),
            &written(1, None),
            Heard::Live,
            NOW,
        )
        .unwrap();
    let fast = (0..2 * BURST).filter(|seq| {
        let put = state.put("bad", host(1), &written(*seq, None), Heard::Live, NOW);
        put == Err(Refusal::TooFast)
    });
    assert_eq!(fast.count() as u64, BURST);
    state
        .put("good", host(2), &written(1, None), Heard::Live, NOW)
        .unwrap();
    let later = NOW + 1000;
    let said = written(u64::MAX, None);
    assert_ne!(
        state.put("bad", host(1), &said, Heard::Live, later),
        Err(Refusal::TooFast)
    );
}

#[test]
fn a_snapshot_takes_away_what_it_does_not_have_but_for_what_was_just_said() {
    let mut state = state("");
    for number in 1..=3 {
        state
            .put("a", host(number), &written(1, None), Heard::Kept(NOW), NOW)
            .unwrap();
    }
    state
        .put("a", host(4), &written(1, None), Heard::Live, NOW)
        .unwrap();
    state.begin_snapshot();
    state
        .put("a", host(2), &written(1, None), Heard::Kept(NOW), NOW)
        .unwrap();
    state.end_snapshot(NOW + 1);
    let left: Vec<_> = bans(&mut state)
        .into_iter()
        .map(|(source, ..)| source)
        .collect();
    assert_eq!(left, [host(2).source, host(4).source]);
    // It could not be kept: nobody else will hear of it.
    state.pass_time(NOW + UNKEPT);
    assert_eq!(state.banned(), 1);
    assert!(state.wants_snapshot());
}

#[test]
fn what_is_said_again_until_it_is_kept_stays() {
    let mut state = state("");
    let said = written(1, None);
    for second in 0..300 {
        let now = NOW + second * 1000;
        state.put("a", host(1), &said, Heard::Live, now).unwrap();
        state.pass_time(now);
        assert_eq!(state.banned(), 1);
    }
}

#[test]
fn allow_entries_are_told_as_a_whole_when_they_have_changed() {
    let mut state = state("");
    assert_eq!(state.take_allowed(), None);
    state
        .put("a", allow(1), &written(1, None), Heard::Live, NOW)
        .unwrap();
    state
        .put("b", allow(1), &written(1, None), Heard::Live, NOW)
        .unwrap();
    state
        .put("b", allow(2), &written(1, None), Heard::Live, NOW)
        .unwrap();
    let told = state.take_allowed().unwrap();
    assert_eq!((told.len(), state.allowed()), (2, 2));
    assert_eq!(state.take_allowed(), None);
    state
        .delete("a", allow(1), Some(2), Heard::Live, NOW)
        .unwrap();
    assert_eq!(&*state.take_allowed().unwrap()[0].1.node, "b");
    assert_eq!(state.banned(), 0);
}

#[test]
fn a_node_that_is_gone_is_named_for_as_long_as_its_word_counts() {
    let mut state = state("max_bantime = \"1h\"");
    let presence = Presence {
        version: "1".to_owned(),
        instance: 1,
    };
    state
        .greet("a", Written::new(presence, 1, NOW + 5000), Heard::Live, NOW)
        .unwrap();
    assert_eq!(state.nodes().next().unwrap().1.ahead, Some(5000));
    state
        .put("a", host(1), &written(1, None), Heard::Live, NOW)
        .unwrap();
    state
        .put("a", host(1), &written(1, None), Heard::Kept(NOW), NOW)
        .unwrap();
    state.dismiss("a");
    state.pass_time(NOW + HOUR - 1);
    assert_eq!(state.nodes().count(), 1);
    state.pass_time(NOW + HOUR);
    assert_eq!(state.nodes().count(), 0);
}

/// What a node does to one of its keys: puts a value, or takes it out.
#[derive(Clone, Debug)]
struct Deed {
    node: usize,
    number: u8,
    put: bool,
}

const NODES: [&str; 3] = ["a", "b", "c"];

fn hear(state: &mut State, deed: &Deed, seq: u64, heard: Heard) {
    let node = NODES[deed.node];
    let _refused = if deed.put {
        let said = written(seq, Some(NOW + HOUR + seq * 5000));
        state.put(node, host(deed.number), &said, heard, NOW)
    } else {
        state.delete(node, host(deed.number), Some(seq), heard, NOW)
    };
}

proptest! {
    #[test]
    fn in_any_order_with_losses_and_repetitions_it_ends_as_the_bucket_is(
        deeds in proptest::collection::vec(
            (0..NODES.len(), 0..6_u8, any::<bool>())
                .prop_map(|(node, number, put)| Deed { node, number, put }),
            1..40,
        ),
        heard in proptest::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..80),
        snapshots in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let mut state = state("");
        let mut told: BTreeMap<PrefixKey, Counts> = BTreeMap::new();
        let mut follow = |state: &mut State| {
            for (source, counts) in state.take_changed(usize::MAX) {
                match counts {
                    Some(counts) => told.insert(source, counts),
                    None => told.remove(&source),
                };
            }
            told.clone()
        };
        // The bucket after each deed: the last one of each key.
        let bucket = |after: usize| {
            let mut bucket = BTreeMap::new();
            for (seq, deed) in deeds.iter().enumerate().take(after) {
                bucket.insert((deed.node, deed.number), seq);
            }
            bucket
        };
        let snapshot = |state: &mut State, after: usize| {
            state.begin_snapshot();
            for seq in bucket(after).into_values() {
                hear(state, &deeds[seq], seq as u64 + 1, Heard::Kept(NOW));
            }
            state.end_snapshot(NOW);
        };
        for (index, kept) in &heard {
            let seq = index.index(deeds.len());
            let from = if *kept { Heard::Kept(NOW) } else { Heard::Live };
            hear(&mut state, &deeds[seq], seq as u64 + 1, from);
            follow(&mut state);
        }
        for index in &snapshots {
            snapshot(&mut state, index.index(deeds.len()) + 1);
            follow(&mut state);
        }
        // What was heard and is not in the bucket is forgotten within a minute.
        snapshot(&mut state, deeds.len());
        state.pass_time(NOW + UNKEPT);
        snapshot(&mut state, deeds.len());
        let told = follow(&mut state);
        let mut expected: BTreeMap<PrefixKey, u64> = BTreeMap::new();
        for seq in bucket(deeds.len()).into_values().filter(|seq| deeds[*seq].put) {
            let source = host(deeds[seq].number).source;
            let until = NOW + HOUR + (seq as u64 + 1) * 5000;
            expected.entry(source).and_modify(|end| *end = until.max(*end)).or_insert(until);
        }
        let of_told: BTreeMap<_, _> = told.iter().map(|(k, c)| (*k, c.until)).collect();
        prop_assert_eq!(of_told, expected.clone());
        prop_assert_eq!(bans(&mut state).len(), expected.len());
        prop_assert_eq!(state.banned(), expected.len());
    }
}
