//! Whatever fails: the bucket ends as the node wants it.

use abuser_common::prefix::PrefixKey;
use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_800_000_000_000;

fn topic(number: u8) -> Topic {
    Topic {
        kind: Kind::Ban,
        source: PrefixKey::new([203, 0, 113, number].into(), 32).unwrap(),
    }
}

fn said(expires: Option<u64>) -> Said {
    Said {
        expires,
        cause: "limit".to_owned(),
        reason: None,
    }
}

fn drain(own: &mut Own, now: u64) -> Vec<Write> {
    std::iter::from_fn(|| own.next(now)).collect()
}

#[test]
fn of_what_changes_while_nothing_is_heard_of_only_the_last_is_written() {
    let mut own = Own::default();
    own.want(topic(1), Some(said(None)));
    own.want(topic(2), Some(said(None)));
    own.want(topic(1), Some(said(Some(NOW + 5000))));
    own.want(topic(2), None);
    let writes = drain(&mut own, NOW);
    assert_eq!(writes.len(), 1, "what was never there is not taken out");
    assert_eq!(writes[0].said, Some(said(Some(NOW + 5000))));
    // While it is under way it is not written again, and afterwards what holds then.
    own.want(topic(1), None);
    assert_eq!(drain(&mut own, NOW), []);
    own.written(topic(1), true, NOW);
    let writes = drain(&mut own, NOW);
    assert_eq!((writes.len(), &writes[0].said), (1, &None));
    own.written(topic(1), true, NOW);
    assert_eq!((drain(&mut own, NOW).len(), own.pending()), (0, 0));
}

#[test]
fn what_nobody_knows_the_end_of_is_written_again() {
    let mut own = Own::default();
    own.want(topic(1), Some(said(None)));
    let before = drain(&mut own, NOW);
    own.interrupted(NOW);
    assert_eq!((own.writing(), own.pending()), (0, 1));
    own.hurry();
    let again = drain(&mut own, NOW);
    assert_eq!(again, before, "under the same number");
}

#[test]
fn no_more_is_shared_than_others_take() {
    let mut own = Own::default();
    let allowed = |number: usize| {
        let [high, low] = [number >> 8, number & 0xff].map(|byte| u8::try_from(byte).unwrap());
        Topic {
            kind: Kind::Allow,
            source: PrefixKey::new([198, 51, high, low].into(), 32).unwrap(),
        }
    };
    for number in 0..MAX_NODE_ALLOWED + 3 {
        own.want(allowed(number), Some(said(None)));
    }
    assert_eq!(own.count(Kind::Allow), MAX_NODE_ALLOWED);
    assert_eq!(own.unshared(), 3);
    own.want(topic(1), Some(said(None)));
    assert_eq!(own.count(Kind::Ban), 1, "bans have room of their own");
}

#[test]
fn what_could_not_be_written_is_tried_again_with_pauses_or_when_a_server_is_back() {
    let mut own = Own::default();
    own.want(topic(1), Some(said(None)));
    let mut now = NOW;
    let mut first = None;
    for _ in 0..10 {
        let writes = drain(&mut own, now);
        assert_eq!(writes.len(), 1);
        assert_eq!(
            *first.get_or_insert(writes[0].seq),
            writes[0].seq,
            "the same"
        );
        own.written(topic(1), false, now);
        assert_eq!(drain(&mut own, now), []);
        let due = own.due().unwrap();
        assert!(due > now && due <= now + span(LONGEST_RETRY));
        now = due;
    }
    own.next(now).unwrap();
    own.written(topic(1), false, now);
    assert_eq!(own.pending(), 1);
    own.hurry();
    assert_eq!(drain(&mut own, now).len(), 1);
    // Even one that nobody wants any more: it may be there.
    own.written(topic(1), false, now);
    own.want(topic(1), None);
    own.hurry();
    let writes = drain(&mut own, now);
    assert_eq!((writes.len(), &writes[0].said), (1, &None));
    assert!(
        writes[0].seq > first.unwrap(),
        "what is another has another number"
    );
}

#[test]
fn after_a_snapshot_the_bucket_is_brought_in_line() {
    let mut own = Own::default();
    for number in 1..=3 {
        own.want(topic(number), Some(said(None)));
    }
    own.begin_snapshot();
    let kept = |seq, expires| Some(Written::new(said(expires), seq, NOW));
    own.found(topic(2), kept(u64::MAX / 2, None), NOW);
    own.found(topic(3), kept(1, Some(NOW + 9)), NOW);
    own.found(topic(4), kept(1, None), NOW);
    own.found(topic(5), kept(1, Some(NOW - 1)), NOW);
    own.found(topic(6), kept(1, None), NOW);
    own.found(topic(6), None, NOW);
    own.end_snapshot();
    let mut writes = drain(&mut own, NOW);
    writes.sort_by_key(|write| write.topic);
    let told: Vec<_> = writes.iter().map(|w| (w.topic, w.said.is_some())).collect();
    assert_eq!(
        told,
        [(topic(1), true), (topic(3), true), (topic(4), false)]
    );
    assert!(writes.iter().all(|write| write.seq > u64::MAX / 2));
}

#[test]
fn what_is_over_takes_no_message() {
    let mut own = Own::default();
    own.want(topic(1), Some(said(Some(NOW + 10))));
    assert_eq!(drain(&mut own, NOW).len(), 1);
    own.written(topic(1), true, NOW);
    own.want(topic(1), None);
    assert_eq!(drain(&mut own, NOW + 10), []);
    own.want(topic(2), Some(said(Some(NOW + 10))));
    assert_eq!(drain(&mut own, NOW + 10), []);
}

#[test]
fn what_lasts_is_written_again_before_it_is_old_and_what_somebody_took_out_at_once() {
    let mut own = Own::default();
    own.want(topic(1), Some(said(None)));
    own.want(topic(2), Some(said(Some(NOW + 1000))));
    for write in drain(&mut own, NOW) {
        own.written(write.topic, true, NOW);
    }
    own.renew(NOW, NOW + 2000);
    assert_eq!(drain(&mut own, NOW), []);
    own.renew(NOW + 1, NOW + 2000);
    let writes = drain(&mut own, NOW + 1);
    assert_eq!((writes.len(), writes[0].topic), (1, topic(1)));
    own.written(topic(1), true, NOW + 1);
    own.found(topic(1), None, NOW + 2);
    assert_eq!(drain(&mut own, NOW + 2).len(), 1);
}

#[test]
fn clocks_that_are_put_right_a_little_write_nothing() {
    let mut own = Own::default();
    own.want(topic(1), Some(said(Some(NOW + 50_000))));
    drain(&mut own, NOW);
    own.written(topic(1), true, NOW);
    own.want(topic(1), Some(said(Some(NOW + 50_900))));
    assert_eq!(drain(&mut own, NOW), []);
    own.want(topic(1), Some(said(Some(NOW + 55_000))));
    assert_eq!(drain(&mut own, NOW).len(), 1);
}

#[derive(Clone, Debug)]
enum Step {
    Want(u8, bool),
    Write,
    End(bool),
    Snapshot,
}

proptest! {
    #[test]
    fn whatever_fails_the_bucket_ends_as_the_node_wants_it(
        steps in proptest::collection::vec(
            prop_oneof![
                (0..5_u8, any::<bool>()).prop_map(|(number, put)| Step::Want(number, put)),
                Just(Step::Write),
                any::<bool>().prop_map(Step::End),
                Just(Step::Snapshot),
            ],
            0..60,
        ),
    ) {
        let mut own = Own::default();
        let mut bucket: BTreeMap<Topic, Written<Said>> = BTreeMap::new();
        let mut under_way: Vec<Write> = Vec::new();
        let mut now = NOW;
        let put = |bucket: &mut BTreeMap<_, _>, write: &Write| match &write.said {
            Some(said) => drop(bucket.insert(write.topic, Written::new(said.clone(), write.seq, 0))),
            None => drop(bucket.remove(&write.topic)),
        };
        for step in steps {
            now += 1;
            match step {
                Step::Want(number, true) => own.want(topic(number), Some(said(Some(now + 99_999)))),
                Step::Want(number, false) => own.want(topic(number), None),
                Step::Write => under_way.extend(own.next(now)),
                Step::End(kept) => if let Some(write) = under_way.pop() {
                    // One that is not answered may be there all the same.
                    if kept || write.seq % 2 == 0 {
                        put(&mut bucket, &write);
                    }
                    own.written(write.topic, kept, now);
                }
                Step::Snapshot => {
                    own.begin_snapshot();
                    for (topic, written) in &bucket {
                        own.found(*topic, Some(written.clone()), now);
                    }
                    own.end_snapshot();
                }
            }
        }
        for _ in 0..200 {
            now += span(LONGEST_RETRY);
            under_way.extend(own.next(now));
            for write in under_way.drain(..) {
                put(&mut bucket, &write);
                own.written(write.topic, true, now);
            }
        }
        let has = |topic: &Topic| bucket.get(topic).is_some_and(|w| !w.said.is_over(now));
        for topic in (0..5).map(topic) {
            let wanted = own.wanted.get(&topic).is_some_and(|said| !said.is_over(now));
            prop_assert_eq!(has(&topic), wanted);
        }
        prop_assert_eq!(own.pending(), 0);
    }
}
