//! What must hold for any answer of a local API of `CrowdSec`.

use std::collections::BTreeMap;

use abuser::{
    crowdsec::{
        decisions::{Changes, Decision, Decisions},
        element::Ignored,
        wire::{Answer, Reading},
    },
    policy::is_wide,
};
use abuser_common::{layout::BanCause, prefix::PrefixKey};
use ipnet::IpNet;

use crate::shown;

/// A line between one answer and the next, which tells of changes.
const NEXT: &[u8] = b"\n----\n";

/// Reads answers as they come in: the first is all that there is. The first byte says how.
///
/// # Panics
///
/// If a decision is taken that is none, an error is none that can be shown, or what is told of changes
/// does not add up to what there is.
pub fn crowdsec(bytes: &[u8]) {
    let [how, bytes @ ..] = bytes else {
        return;
    };
    let force = how & 1 != 0;
    let mut decisions = Decisions::default();
    let mut known: BTreeMap<(PrefixKey, u64), u64> = BTreeMap::new();
    let mut told: BTreeMap<PrefixKey, u64> = BTreeMap::new();
    for (number, text) in split(bytes).enumerate() {
        let whole = number == 0;
        let reading = Reading {
            force,
            whole,
            ..Reading::default()
        };
        let answer = match reading.read(text) {
            Ok(answer) => answer,
            Err(error) => {
                shown::is_one_plain_line(&error);
                continue;
            }
        };
        is_sound(&answer, force);
        let ends = |decision: &Decision| ((decision.source, decision.id), decision.expires_ns);
        if whole {
            known = answer.new.iter().map(ends).collect();
            decisions.replace(answer.new);
            told = decisions
                .all()
                .into_iter()
                .map(|listed| (listed.source, listed.expires_ns))
                .collect();
        } else {
            known.extend(answer.new.iter().map(ends));
            for key in &answer.over {
                known.remove(key);
            }
            let Changes { named, dropped } = decisions.change(answer.new, &answer.over);
            for source in dropped {
                assert!(told.remove(&source).is_some(), "dropped, and never named");
            }
            told.extend(
                named
                    .iter()
                    .map(|listed| (listed.source, listed.expires_ns)),
            );
        }
        let mut expected: BTreeMap<PrefixKey, u64> = BTreeMap::new();
        for ((source, _), end) in &known {
            let longest = expected.entry(*source).or_insert(*end);
            // 0 is for good.
            let is_longer = *longest != 0 && (*end == 0 || *end > *longest);
            *longest = if is_longer { *end } else { *longest };
        }
        assert_eq!(told, expected, "after answer {number}");
    }
}

fn split(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = text.windows(NEXT.len()).position(|window| window == NEXT);
        rest = end.map(|end| &text[end + NEXT.len()..]);
        Some(end.map_or(text, |end| &text[..end]))
    })
    .take(4)
}

fn is_sound(answer: &Answer, force: bool) {
    for decision in &answer.new {
        let address = decision.source.address().expect("a prefix");
        let length = u8::try_from(decision.source.length).expect("a length");
        let net = IpNet::new(address, length).expect("a prefix");
        assert_eq!(net.network(), address, "bits of a host in {net}");
        assert!(force || !is_wide(&net), "{net}");
        assert_eq!(decision.note.cause, BanCause::Crowdsec);
    }
    assert!(answer.shown.len() <= 5);
    let wrong = [Ignored::Wide, Ignored::Malformed];
    let wrong = wrong.iter().filter_map(|why| answer.ignored.get(why));
    assert!(answer.shown.len() as u64 <= wrong.sum());
}
