//! The promises of the bucket table.

use super::*;
use crate::atomic::schedule;
use core::ptr::NonNull;
use proptest::prelude::*;
use std::{
    collections::HashMap,
    net::Ipv6Addr,
    sync::atomic::{AtomicU64, Ordering},
    vec,
    vec::Vec,
};

const SECOND: u64 = 1_000_000_000;

fn now(ns: u64) -> KernelTime {
    KernelTime(1_000 * SECOND + ns)
}

fn v4(address: u32) -> Source {
    Source::v4(address.to_be_bytes())
}

/// A source by its tag, in whatever set the test has.
fn place(tag: u64) -> Place {
    Place(tag)
}

/// The set for as long as nobody else touches it.
fn shared(set: &mut Set) -> Shared<'_, Set> {
    // SAFETY: the reference is unique and lives as long as the result.
    unsafe { Shared::new(NonNull::from(set)) }
}

fn packet(rate: &Rate, tag: u64, now: KernelTime) -> Packet<'_> {
    Packet {
        slot: 0,
        rate,
        place: place(tag),
        now,
        cost: 1,
    }
}

/// Charges as the packet path does: again and again where another thread is faster.
fn charge(set: Shared<'_, Set>, packet: &Packet<'_>, scale: impl Fn(u8) -> Scale) -> Charge {
    (0..ATTEMPTS)
        .map(|_| charge_once(set, packet, &scale))
        .find(|charged| *charged != Charge::Lost)
        .unwrap_or(Charge::Lost)
}

fn words(set: &Set) -> usize {
    set.words.iter().filter(|word| **word != 0).count()
}

#[test]
fn a_level_is_what_the_source_has_to_pay_for_yet() {
    let rate = Rate::new(1, SECOND, 20, 1).unwrap();
    let mut set = Set::default();
    for other in [7, 8] {
        let charged = charge(shared(&mut set), &packet(&rate, other, now(0)), |_| {
            rate.scale
        });
        assert_eq!(charged, Charge::Conforms);
    }
    for _ in 0..5 {
        charge(shared(&mut set), &packet(&rate, 7, now(0)), |_| rate.scale);
    }
    let periods = |tag, at| {
        let ahead = level(&set.words, &packet(&rate, tag, now(at)));
        (ahead << 8).div_ceil(rate.period)
    };
    assert_eq!([periods(7, 0), periods(8, 0), periods(9, 0)], [6, 1, 0]);
    assert_eq!(periods(7, 2 * SECOND), 4);
    assert_eq!(periods(7, 100 * SECOND), 0);
}

proptest! {
    /// From slot and place the address can be told: no two sources share a bucket.
    #[test]
    fn the_word_of_an_ipv4_source_tells_who_it_is(
        address: u32,
        slot in 0_u8..64,
        key: [u64; 4],
        ahead in 1_u64..1 << 20,
    ) {
        let key = Key(key);
        let rate = Rate::new(1, SECOND, 20, 1).unwrap();
        let place = Place::new(&key, slot, &v4(address));
        prop_assert!(place.bits() < 1 << PLACE_BITS);
        let packet = Packet { slot, rate: &rate, place, now: now(0), cost: 1 };
        let told = Inverse::new(&key).ipv4(place.set(), packet.word(ahead));
        prop_assert_eq!(told, Some(v4(address)));
    }

    #[test]
    fn the_word_of_an_ipv6_source_is_taken_for_no_ipv4_source(
        address: u128,
        slot in 0_u8..64,
        key: [u64; 4],
    ) {
        let key = Key(key);
        let rate = Rate::new(1, SECOND, 20, 1).unwrap();
        let v6 = Source::from(std::net::IpAddr::from(Ipv6Addr::from(address)));
        let place = Place::new(&key, slot, &v6);
        let packet = Packet { slot, rate: &rate, place, now: now(0), cost: 1 };
        prop_assert_eq!(Inverse::new(&key).ipv4(place.set(), packet.word(1)), None);
    }

    #[test]
    fn an_ipv6_source_never_has_an_ipv4_source_s_place(address: u128, other: u32, key: [u64; 4]) {
        let key = Key(key);
        let v6 = Source::from(std::net::IpAddr::from(Ipv6Addr::from(address)));
        prop_assert_ne!(Place::new(&key, 3, &v6), Place::new(&key, 3, &v4(other)));
    }

    /// Many sources in one set: each gets what it would get alone, as long as there is a
    /// slot that is full whenever one is needed.
    #[test]
    fn evicting_an_idle_slot_changes_no_verdict(
        packets in prop::collection::vec((0_u64..8, 0_u64..400_000_000), 1..300),
        start in prop_oneof![Just(0), 0..u64::MAX / 2],
    ) {
        let rate = Rate::new(10, SECOND, 2, 1).unwrap();
        let mut together = Set::default();
        let mut alone: HashMap<u64, Set> = HashMap::new();
        let mut time = start;
        for (source, gap) in packets {
            time += gap;
            let packet = packet(&rate, source + 1, KernelTime(time));
            let expected = charge(shared(alone.entry(source).or_default()), &packet, |_| rate.scale);
            let got = charge(shared(&mut together), &packet, |_| rate.scale);
            prop_assert_eq!(got, expected);
        }
    }

    /// Whatever two CPUs do in whatever order, and however long one is held up between
    /// reading the clock and using it, no source gets more than its rate.
    #[test]
    fn under_any_interleaving_no_source_gets_more_than_its_rate(
        schedule in prop::collection::vec(any::<u8>(), 0..600),
        packets in prop::collection::vec((0_u64..3, 0_u64..8), 4..14),
        before in prop::collection::vec(0_u64..20, 8),
    ) {
        // A packet each millisecond, bursts of one more; times are tenths of one.
        let rate = Rate::new(1000, SECOND, 1, 1).unwrap();
        let ms = |tenths: u64| now(tenths * 100_000);
        let mut set = Set::default();
        for (word, until) in set.words.iter_mut().zip(&before) {
            // Others' buckets, which are full by and by.
            *word = (100 + until) << RING_BITS | rate.scale.ticks(ms(*until));
        }
        let set = shared(&mut set).as_ptr() as usize;
        let clock = AtomicU64::new(0);
        let halves = packets.split_at(packets.len() / 2);
        let tasks: Vec<_> = [halves.0, halves.1]
            .into_iter()
            .map(|packets| {
                let (rate, clock) = (&rate, &clock);
                move || {
                    // SAFETY: the set outlives the threads, and they only touch its words.
                    let set = unsafe { Shared::new(NonNull::new(set as *mut Set).unwrap()) };
                    let mut admitted = vec![];
                    for (source, gap) in packets {
                        let read = clock.fetch_add(*gap, Ordering::SeqCst) + gap;
                        let packet = packet(rate, source + 1, ms(read));
                        let charged = charge(set, &packet, |_| rate.scale);
                        let done = clock.load(Ordering::SeqCst);
                        if matches!(charged, Charge::Conforms | Charge::Evicts) {
                            admitted.push((*source, read, done, charged == Charge::Evicts));
                        }
                    }
                    admitted
                }
            })
            .collect();
        let admitted = schedule::run(schedule, tasks).concat();
        // A bucket that was not full and made room is forgotten, and says so.
        if admitted.iter().any(|(_, _, _, evicts)| *evicts) {
            return Ok(());
        }
        for (source, from, ..) in &admitted {
            for (_, _, to, _) in admitted.iter().filter(|(_, _, to, _)| to >= from) {
                let count = admitted
                    .iter()
                    .filter(|(of, read, done, _)| of == source && read >= from && done <= to)
                    .count();
                let allowed = 2 + (to - from) / 10;
                prop_assert!(
                    count as u64 <= allowed,
                    "source {source}: {count} from {from} to {to} tenths, {allowed} allowed"
                );
            }
        }
    }
}

#[test]
fn two_threads_on_one_bucket_admit_exactly_what_one_would() {
    const BURST: u64 = 50_000;
    let rate = Rate::new(1, SECOND, BURST, 1).unwrap();
    let mut set = Set::default();
    let set = shared(&mut set).as_ptr() as usize;
    let admitted: u64 = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    // SAFETY: the set outlives the scope, and all touch only its words.
                    let set = unsafe { Shared::new(NonNull::new(set as *mut Set).unwrap()) };
                    let mut admitted = 0;
                    loop {
                        match charge(set, &packet(&rate, 1, now(0)), |_| rate.scale) {
                            Charge::Conforms | Charge::Evicts => admitted += 1,
                            Charge::Over => return admitted,
                            Charge::Lost | Charge::Contended => {}
                        }
                    }
                })
            })
            .collect();
        workers.into_iter().map(|w| w.join().unwrap()).sum()
    });
    assert_eq!(admitted, BURST + 1);
}

#[test]
fn a_packet_over_the_limit_writes_nothing() {
    let rate = Rate::new(1, SECOND, 0, 1).unwrap();
    let mut set = Set::default();
    assert_eq!(
        charge(shared(&mut set), &packet(&rate, 1, now(0)), |_| rate.scale),
        Charge::Conforms
    );
    let before = set;
    assert_eq!(
        charge(shared(&mut set), &packet(&rate, 1, now(1)), |_| rate.scale),
        Charge::Over
    );
    assert_eq!(set, before);
}

#[test]
fn a_set_full_of_active_sources_keeps_the_heaviest() {
    let rate = Rate::new(10, SECOND, 100, 1).unwrap();
    let mut set = Set::default();
    // Source n sends n packets: source 1 is the lightest.
    for source in 1..=8 {
        for _ in 0..source {
            charge(shared(&mut set), &packet(&rate, source, now(0)), |_| {
                rate.scale
            });
        }
    }
    let newcomer = packet(&rate, 9, now(0));
    assert_eq!(
        charge(shared(&mut set), &newcomer, |_| rate.scale),
        Charge::Evicts
    );
    let tags: Vec<_> = set
        .words
        .iter()
        .map(|word| word >> RING_BITS & 0xf_ffff)
        .collect();
    assert!(!tags.contains(&1) && tags.contains(&9), "{tags:?}");
    // Spoofed sources of one packet now make room for each other only.
    for source in 10..1000 {
        charge(shared(&mut set), &packet(&rate, source, now(0)), |_| {
            rate.scale
        });
    }
    let tags: Vec<_> = set
        .words
        .iter()
        .map(|word| word >> RING_BITS & 0xf_ffff)
        .collect();
    assert!((2..=8).all(|heavy| tags.contains(&heavy)), "{tags:?}");
}

#[test]
fn the_lightest_is_told_across_limits_with_other_ticks() {
    // One packet here is an hour of debt, one there a millisecond.
    let slow = Rate::new(1, 3_600 * SECOND, 100, 1).unwrap();
    let fast = Rate::new(1_000, SECOND, 100, 1).unwrap();
    let scale = |slot| if slot == 0 { slow.scale } else { fast.scale };
    let mut set = Set::default();
    for source in 1..=7 {
        charge(shared(&mut set), &packet(&slow, source, now(0)), scale);
    }
    let light = Packet {
        slot: 1,
        ..packet(&fast, 8, now(0))
    };
    charge(shared(&mut set), &light, scale);
    let newcomer = packet(&slow, 9, now(0));
    assert_eq!(charge(shared(&mut set), &newcomer, scale), Charge::Evicts);
    assert!(
        set.words.iter().all(|word| slot_of(*word) == 0),
        "the fast one made room"
    );
}

#[test]
fn a_full_bucket_makes_room_before_an_active_one() {
    let rate = Rate::new(10, SECOND, 100, 1).unwrap();
    let mut set = Set::default();
    for source in 1..=8 {
        let then = if source == 5 { now(0) } else { now(SECOND) };
        charge(shared(&mut set), &packet(&rate, source, then), |_| {
            rate.scale
        });
    }
    let newcomer = packet(&rate, 9, now(SECOND));
    assert_eq!(
        charge(shared(&mut set), &newcomer, |_| rate.scale),
        Charge::Conforms
    );
    let tags: Vec<_> = set
        .words
        .iter()
        .map(|word| word >> RING_BITS & 0xf_ffff)
        .collect();
    assert!(!tags.contains(&5), "{tags:?}");
    assert_eq!(words(&set), 8);
}

#[test]
fn two_buckets_of_one_source_admit_nothing_until_one_is_gone() {
    let rate = Rate::new(1, SECOND, 10, 1).unwrap();
    let mut set = Set::default();
    charge(shared(&mut set), &packet(&rate, 1, now(0)), |_| rate.scale);
    set.words[5] = set.words[0];
    let probe = packet(&rate, 1, now(1));
    assert!(!conforms(shared(&mut set), &probe));
    assert_eq!(
        charge(shared(&mut set), &probe, |_| rate.scale),
        Charge::Contended
    );
    let later = packet(&rate, 1, now(2 * SECOND));
    assert!(conforms(shared(&mut set), &later));
    assert_eq!(
        charge(shared(&mut set), &later, |_| rate.scale),
        Charge::Conforms
    );
}
