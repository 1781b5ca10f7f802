//! Whatever is heard in whichever order: it ends as the bucket is.

use proptest::prelude::*;

use super::{
    claims::{MAX_CLAIMS, MAX_NODE_BANS},
    deletions::REMEMBERED,
    node::TOLD_OF,
    *,
};
use crate::{config, fleet::wire::Kind};

const NOW: u64 = 1_800_000_000_000;
const HOUR: u64 = 3_600_000;

fn caps(keys: &str) -> Caps {
    let text = format!("[fleet]\nnats = [\"nats://192.0.2.1\"]\nnode = \"here\"\n{keys}");
    let config = config::parse(&text, std::path::Path::new("a.toml")).unwrap();
    Caps::new(&config.fleet.unwrap())
}

/// What nodes do, by their names.
impl State {
    fn says(
        &mut self,
        node: &str,
        topic: Topic,
        written: &Written<Said>,
        heard: Heard,
        now: u64,
    ) -> Result<(), Refusal> {
        let name = self.listen(node, heard, now)?;
        self.put(&name, topic, written, heard, now)
    }

    fn unsays(
        &mut self,
        node: &str,
        topic: Topic,
        seq: Option<u64>,
        heard: Heard,
        now: u64,
    ) -> Result<(), Refusal> {
        let name = self.listen(node, heard, now)?;
        self.delete(&name, topic, seq, now);
        Ok(())
    }

    fn greets(
        &mut self,
        node: &str,
        written: Written<Presence>,
        heard: Heard,
        now: u64,
    ) -> Result<(), Refusal> {
        let name = self.listen(node, heard, now)?;
        self.greet(&name, written, heard, now);
        Ok(())
    }
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
        state.says(node, host(1), &said, Heard::Live, NOW).unwrap();
    }
    let who = |state: &mut State| bans(state)[0].1.clone();
    assert_eq!(who(&mut state), "a");
    for (gone, left) in [("a", "c"), ("c", "d"), ("d", "b")] {
        state
            .unsays(gone, host(1), Some(2), Heard::Live, NOW)
            .unwrap();
        let changed = state.take_changed(9);
        assert_eq!(&*changed[0].1.as_ref().unwrap().node, left);
        assert_eq!(state.banned(), 1);
    }
    state
        .unsays("b", host(1), Some(2), Heard::Live, NOW)
        .unwrap();
    assert_eq!(state.take_changed(9), [(host(1).source, None)]);
    assert!(!state.has_changed());
}

#[test]
fn what_is_heard_twice_or_late_changes_nothing() {
    let mut state = state("");
    let said = written(5, None);
    state.says("a", host(1), &said, Heard::Live, NOW).unwrap();
    assert_eq!(state.take_changed(9).len(), 1);
    state
        .says("a", host(1), &said, Heard::Kept(NOW), NOW)
        .unwrap();
    state
        .says("a", host(1), &written(4, None), Heard::Kept(NOW), NOW)
        .unwrap();
    assert!(!state.has_changed());
    state
        .unsays("a", host(1), Some(6), Heard::Live, NOW)
        .unwrap();
    state
        .says("a", host(1), &said, Heard::Kept(NOW), NOW)
        .unwrap();
    assert_eq!(state.take_changed(9), [(host(1).source, None)]);
    // Banned again.
    state
        .says("a", host(1), &written(7, None), Heard::Live, NOW)
        .unwrap();
    state
        .unsays("a", host(1), Some(6), Heard::Kept(NOW), NOW)
        .unwrap();
    assert_eq!(bans(&mut state).len(), 1);
}

#[test]
fn who_revokes_a_node_needs_no_number_and_what_was_said_before_does_not_come_back() {
    let mut state = state("");
    state
        .says("a", host(1), &written(5, None), Heard::Live, NOW)
        .unwrap();
    state.unsays("a", host(1), None, Heard::Live, NOW).unwrap();
    state
        .says("a", host(1), &written(5, None), Heard::Kept(NOW), NOW)
        .unwrap();
    assert_eq!(state.banned(), 0);
    state
        .says("a", host(1), &written(6, None), Heard::Kept(NOW), NOW)
        .unwrap();
    assert_eq!(state.banned(), 1);
}

#[test]
fn what_others_say_is_held_within_the_caps() {
    let mut state =
        state("max_bantime = \"2h\"\nignore = [\"bad\"]\naccept_allow = false\nwidest_ipv6 = 56");
    let said = written(1, None);
    let mut put = |node: &str, topic| state.says(node, topic, &said, Heard::Live, NOW);
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
        .says("a", host(7), &written(1, Some(NOW + 9 * HOUR)), kept, NOW)
        .unwrap();
    let counts = state.counts(&host(7)).unwrap();
    assert_eq!(counts.until, NOW + HOUR);
    let old = Heard::Kept(NOW - 3 * HOUR);
    state.says("a", host(8), &said, old, NOW).unwrap();
    assert_eq!(state.counts(&host(8)), None);
    let future = Heard::Kept(NOW + 100 * HOUR);
    state.says("a", host(9), &said, future, NOW).unwrap();
    assert_eq!(state.counts(&host(9)).unwrap().until, NOW + 2 * HOUR);
    state.pass_time(NOW + 2 * HOUR);
    assert_eq!(state.banned(), 0);
}

#[test]
fn only_some_nodes_may_be_listened_to() {
    let mut state = state("accept = [\"a\"]");
    let mut put = |node: &str| state.says(node, host(1), &written(1, None), Heard::Live, NOW);
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
        let put = state.says("bad", number(i), &written(1, None), Heard::Kept(NOW), NOW);
        if let Err(refusal) = put {
            *refused.entry(refusal).or_insert(0) += 1;
        }
    }
    assert_eq!(refused, BTreeMap::from([(Refusal::TooMany, 10)]));
    state.pass_time(NOW + 1);
    assert!(!state.wants_snapshot(), "there is no more room than before");
    // What it has said it may say otherwise, and others have room.
    state
        .says("bad", number(0), &written(2, None), Heard::Kept(NOW), NOW)
        .unwrap();
    state
        .says(
            "good",
            number(1_000_000),
            &written(1, None),
            Heard::Live,
            NOW,
        )
        .unwrap();
    assert!(!state.wants_snapshot());
    // Where one goes, there is room for one that was left out; of which kind, counts.
    state
        .unsays("bad", allow(1), None, Heard::Kept(NOW), NOW)
        .unwrap();
    assert!(!state.wants_snapshot());
    state
        .unsays("bad", number(1), None, Heard::Kept(NOW), NOW)
        .unwrap();
    assert!(state.wants_snapshot());
    state.begin_snapshot();
    assert!(!state.wants_snapshot());
    let fast = (0..2 * budget::LIVE).filter(|seq| {
        let put = state.says("bad", host(1), &written(*seq, None), Heard::Live, NOW);
        put == Err(Refusal::TooFast)
    });
    assert_eq!(fast.count() as u64, budget::LIVE);
    state.pass_time(NOW + 1000);
    assert!(!state.wants_snapshot(), "it may go on as before");
    state
        .says("good", host(2), &written(1, None), Heard::Live, NOW)
        .unwrap();
    let later = NOW + 1000;
    let said = written(u64::MAX, None);
    assert_ne!(
        state.says("bad", host(1), &said, Heard::Live, later),
        Err(Refusal::TooFast)
    );
    state.pass_time(NOW + 10_000);
    assert!(state.wants_snapshot(), "it was quiet since");
}

#[test]
fn a_snapshot_takes_away_what_it_does_not_have_but_for_what_was_just_said() {
    let mut state = state("");
    for number in 1..=3 {
        state
            .says("a", host(number), &written(1, None), Heard::Kept(NOW), NOW)
            .unwrap();
    }
    state
        .says("a", host(4), &written(1, None), Heard::Live, NOW)
        .unwrap();
    state.begin_snapshot();
    state
        .says("a", host(2), &written(1, None), Heard::Kept(NOW), NOW)
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
        state.says("a", host(1), &said, Heard::Live, now).unwrap();
        state.pass_time(now);
        assert_eq!(state.banned(), 1);
    }
}

#[test]
fn allow_entries_are_told_as_a_whole_when_they_have_changed() {
    let mut state = state("");
    assert!(!state.has_changed_allowed());
    state
        .says("a", allow(1), &written(1, None), Heard::Live, NOW)
        .unwrap();
    state
        .says("b", allow(1), &written(1, None), Heard::Live, NOW)
        .unwrap();
    state
        .says("b", allow(2), &written(1, None), Heard::Live, NOW)
        .unwrap();
    assert!(state.has_changed_allowed());
    let told = state.take_allowed();
    assert_eq!((told.len(), state.allowed()), (2, 2));
    assert!(!state.has_changed_allowed());
    state
        .unsays("a", allow(1), Some(2), Heard::Live, NOW)
        .unwrap();
    assert_eq!(&*state.take_allowed()[0].1.node, "b");
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
        .greets("a", Written::new(presence, 1, NOW + 5000), Heard::Live, NOW)
        .unwrap();
    assert_eq!(state.nodes().next().unwrap().1.ahead, Some(5000));
    state
        .says("a", host(1), &written(1, None), Heard::Live, NOW)
        .unwrap();
    state
        .says("a", host(1), &written(1, None), Heard::Kept(NOW), NOW)
        .unwrap();
    state.dismiss(&"a".into());
    state.pass_time(NOW + HOUR - 1);
    assert_eq!(state.nodes().count(), 1);
    state.pass_time(NOW + HOUR);
    assert_eq!(state.nodes().count(), 0);
}

#[test]
fn what_the_bucket_says_of_a_node_has_an_end_too_and_a_snapshot_begins_anew() {
    let mut state = state("");
    let over = written(1, Some(NOW - 1));
    let kept = Heard::Kept(NOW);
    for _ in 0..budget::KEPT {
        state.says("bad", host(1), &over, kept, NOW).unwrap();
    }
    let too_fast = Err(Refusal::TooFast);
    assert_eq!(state.says("bad", host(1), &over, kept, NOW), too_fast);
    assert_eq!(state.unsays("bad", host(1), Some(2), kept, NOW), too_fast);
    assert_eq!(state.says("good", host(1), &over, kept, NOW), Ok(()));
    state.pass_time(NOW + 1000);
    assert!(
        !state.wants_snapshot(),
        "another one would end in the same way"
    );
    state.begin_snapshot();
    assert_eq!(state.says("bad", host(1), &over, kept, NOW), Ok(()));
}

#[test]
fn one_who_takes_back_without_end_has_nobody_elses_deletions_forgotten() {
    let mut state = state("");
    let old = written(1, None);
    state
        .unsays("good", host(1), Some(5), Heard::Live, NOW)
        .unwrap();
    for seq in 0..300_000 {
        let topic = ban(&format!("198.18.{}.{}/32", seq >> 8 & 255, seq & 255));
        state
            .unsays("bad", topic, Some(seq), Heard::Kept(NOW), NOW)
            .unwrap();
    }
    state
        .says("good", host(1), &old, Heard::Kept(NOW), NOW)
        .unwrap();
    assert_eq!(state.banned(), 0, "it is remembered");
    state.pass_time(NOW + REMEMBERED);
    assert_eq!(state.nodes().count(), 0, "and all of it is forgotten then");
}

#[test]
fn what_many_say_of_the_same_has_an_end_too() {
    let mut state = state("");
    let said = written(1, None);
    state.says("a", host(1), &said, Heard::Live, NOW).unwrap();
    // As if a million had been said.
    let name: Arc<str> = "z".into();
    let ends = (1..MAX_CLAIMS as u64).map(|end| (NOW + 2 * HOUR + end, host(9), Arc::clone(&name)));
    state.ends.extend(ends);
    let put = state.says("b", host(1), &said, Heard::Live, NOW);
    assert_eq!(put, Err(Refusal::TooMany));
}

fn presence() -> Written<Presence> {
    let presence = Presence {
        version: "1".to_owned(),
        instance: 1,
    };
    Written::new(presence, 1, NOW)
}

#[test]
fn a_node_that_is_gone_is_told_of_for_a_day_and_then_forgotten() {
    let mut state = state("");
    state.greets("a", presence(), Heard::Live, NOW).unwrap();
    let is_gone = |state: &State, now| state.nodes().next().map(|(_, node)| node.is_gone(now));
    assert_eq!(is_gone(&state, NOW + 59_000), Some(false));
    assert_eq!(is_gone(&state, NOW + 60_000), Some(true));
    state.pass_time(NOW + TOLD_OF - 1);
    assert_eq!(is_gone(&state, NOW + TOLD_OF), Some(true));
    state.pass_time(NOW + TOLD_OF);
    assert_eq!(is_gone(&state, NOW), None);
    // The bucket has it for longer.
    let later = NOW + 2 * TOLD_OF;
    state
        .greets("a", presence(), Heard::Kept(NOW), later)
        .unwrap();
    state.pass_time(later);
    assert_eq!(state.nodes().count(), 0);
}

#[test]
fn nodes_that_are_gone_lock_nobody_out() {
    let mut state = state("");
    let name = |number: usize| format!("node-{number}");
    for number in 0..MAX_NODES {
        let since = NOW - 2 * HOUR + number as u64;
        state
            .greets(&name(number), presence(), Heard::Kept(since), NOW)
            .unwrap();
    }
    // The first has a ban, so the second is the one to go; the others are there.
    state
        .says(
            &name(0),
            host(1),
            &written(1, None),
            Heard::Kept(NOW - HOUR),
            NOW,
        )
        .unwrap();
    for number in 2..MAX_NODES {
        state
            .greets(&name(number), presence(), Heard::Live, NOW)
            .unwrap();
    }
    // One that was heard of before all of them is not to push them out.
    let old = state.greets("old", presence(), Heard::Kept(NOW - 3 * HOUR), NOW);
    assert_eq!(old, Err(Refusal::TooMany));
    state.greets("new", presence(), Heard::Live, NOW).unwrap();
    let names: Vec<_> = state.nodes().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(names.len(), MAX_NODES);
    assert!(names.contains(&name(0)) && !names.contains(&name(1)));
    // Nobody who is there or has said something is.
    let newest = state.greets("newest", presence(), Heard::Live, NOW);
    assert_eq!(newest, Err(Refusal::TooMany));
    state.pass_time(NOW + HOUR);
    assert!(!state.wants_snapshot());
    state.pass_time(NOW + TOLD_OF);
    assert!(
        state.wants_snapshot(),
        "there is room for those who were refused"
    );
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
        state.says(node, host(deed.number), &said, heard, NOW)
    } else {
        state.unsays(node, host(deed.number), Some(seq), heard, NOW)
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
