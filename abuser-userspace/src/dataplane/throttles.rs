//! Who is throttled, by which limits and until when, as the program reads it.
//!
//! People know a limit by its name, the program by its number in the bank that is in use. So an
//! entry says for each bank which limits it means: before a bank is switched to, all entries are
//! written for it, and no packet meets a limit that is not meant.

use std::{collections::BTreeMap, sync::Arc};

use abuser_common::{
    gcra::KernelTime,
    layout::{Ban, Term, Throttle},
    prefix::PrefixKey,
};

use super::{error::DataplaneError, hints::Hints, kernel_now, prefixes::PrefixTable};
use crate::config::{LimitConfig, Scope};

/// A limit that a source is throttled by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Throttling {
    /// Its name.
    pub limit: Arc<str>,
    /// When that ends, in nanoseconds of kernel time; 0: never.
    pub expires_ns: u64,
}

/// Who is throttled, each by [`MAX_TERMS`](abuser_common::layout::MAX_TERMS) limits at the most.
pub type Throttled = BTreeMap<PrefixKey, Vec<Throttling>>;

/// The bit of the limit with this name, if it is for throttled sources; else none.
fn bit(limits: &[&LimitConfig], name: &str) -> u64 {
    let mut limits = limits.iter();
    let number = limits.position(|limit| limit.name == name && limit.only == Scope::Throttled);
    let number = number.and_then(|number| u32::try_from(number).ok());
    number
        .and_then(|number| 1_u64.checked_shl(number))
        .unwrap_or(0)
}

/// The entry of a source in a bank that holds these limits; nothing in the other one.
pub fn entry<'a>(
    throttling: &[Throttling],
    limits: impl IntoIterator<Item = &'a LimitConfig>,
    bank: u32,
) -> Throttle {
    let limits: Vec<_> = limits.into_iter().collect();
    let mut entry = Throttle::default();
    for (term, throttling) in entry.terms.iter_mut().zip(throttling) {
        let bit = bit(&limits, &throttling.limit);
        *term = Term {
            expires_ns: throttling.expires_ns,
            limits: if bank == 0 { [bit, 0] } else { [0, bit] },
        };
    }
    entry
}

/// Whether an entry says the same as the one that is expected, as far as packets meet it now.
pub fn is_same(found: &Throttle, expected: &Throttle, bank: u32) -> bool {
    let said = |throttle: &Throttle| {
        throttle.terms.map(|term| {
            let [zero, one] = term.limits;
            (term.expires_ns, if bank == 0 { zero } else { one })
        })
    };
    said(found) == said(expected)
}

/// Writes the entries of all who are `throttled` for a bank that is about to be switched to, and
/// holds `limits`. Until then each source has the limits that it had.
pub(super) fn prepare(
    table: &mut PrefixTable<Throttle>,
    hints: &mut Hints,
    throttled: &Throttled,
    limits: &[LimitConfig],
    bank: u32,
) -> Result<(), DataplaneError> {
    let now = kernel_now();
    let mut there: BTreeMap<_, _> = table.entries()?.into_iter().collect();
    let entries = throttled.iter().map(|(key, throttling)| {
        let mut entry = entry(throttling, limits, bank);
        if let Some(before) = there.remove(key) {
            keep(&mut entry, &before, bank, now);
        }
        (*key, entry)
    });
    let mut entries: Vec<_> = entries.collect();
    // Those that nobody knows of: in the new bank their bits would mean something else.
    entries.extend(there.into_iter().map(|(key, mut entry)| {
        for term in &mut entry.terms {
            let [zero, one] = &mut term.limits;
            *(if bank == 0 { zero } else { one }) = 0;
        }
        (key, entry)
    }));
    table.insert(hints, &entries)
}

/// Gives all terms of an entry what holds now in the bank that is not `bank`: whatever became of
/// the order of terms, their union is what the source had.
fn keep(entry: &mut Throttle, before: &Throttle, bank: u32, now: KernelTime) {
    let in_use = 1 - bank.min(1);
    let limits = before.limits(in_use, now.0);
    let unexpired = |term: &&mut Term| !Ban::expired(term.expires_ns, now.0);
    for term in entry.terms.iter_mut().filter(unexpired) {
        let [zero, one] = &mut term.limits;
        *(if in_use == 0 { zero } else { one }) = limits;
    }
}

#[cfg(test)]
mod tests {
    use abuser_common::layout::MAX_TERMS;

    use super::*;

    fn limits(text: &str) -> Vec<LimitConfig> {
        let config = crate::config::parse(text, std::path::Path::new("test.toml"));
        config.unwrap().limits
    }

    fn throttling(limits: &[(&str, u64)]) -> Vec<Throttling> {
        let limits = limits.iter().map(|(limit, expires_ns)| Throttling {
            limit: (*limit).into(),
            expires_ns: *expires_ns,
        });
        limits.collect()
    }

    const LIMITS: &str = r#"
        [[limit]]
        name = "all"
        rate = "10/s"
        [[limit]]
        name = "slow"
        rate = "1/s"
        only = "throttled"
        [[limit]]
        name = "slower"
        rate = "1/m"
        only = "throttled"
    "#;

    #[test]
    fn an_entry_names_limits_for_throttled_sources_by_their_number_in_the_bank() {
        let limits = limits(LIMITS);
        let terms = throttling(&[("slower", 9), ("all", 9), ("gone", 9), ("slow", 0)]);
        for bank in [0, 1] {
            let entry = entry(&terms, &limits, bank);
            assert_eq!(entry.limits(bank, 5), 0b110, "bank {bank}");
            assert_eq!(entry.limits(bank, 9), 0b010, "one has ended");
            assert_eq!(entry.limits(1 - bank, 5), 0);
        }
    }

    #[test]
    fn what_a_source_had_holds_until_the_bank_is_switched() {
        let limits = limits(LIMITS);
        let before = entry(&throttling(&[("slow", 0), ("slower", 9)]), &limits, 0);
        let mut after = entry(&throttling(&[("slower", 20)]), &limits, 1);
        keep(&mut after, &before, 1, KernelTime(5));
        assert_eq!(after.limits(0, 5), before.limits(0, 5));
        assert_eq!(after.limits(1, 5), 0b100);
        let fresh = entry(&throttling(&[("slower", 20)]), &limits, 1);
        assert!(is_same(&after, &fresh, 1), "packets meet the new bank only");
        assert!(!is_same(&after, &fresh, 0));
    }

    #[test]
    fn no_more_limits_than_an_entry_has_room_for() {
        let limits = limits(LIMITS);
        let terms = throttling(&[("slow", 0); MAX_TERMS + 1]);
        assert_eq!(entry(&terms, &limits, 0).limits(0, 1), 0b010);
    }
}
