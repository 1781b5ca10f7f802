//! How many hosts of each prefix are banned: the state behind `rollup`.

use std::collections::HashMap;

use abuser_common::prefix::PrefixKey;

use super::ban::Rollup;

/// Counts of banned hosts by the prefix that they would roll up into, for each policy by its
/// number. There is one for each ban at most, so the ban table's size bounds them.
#[derive(Debug, Default)]
pub struct Rollups {
    banned: HashMap<(u16, PrefixKey), u32>,
}

impl Rollups {
    /// Notes that `host` is banned under the policy with this number and rule, and returns the
    /// prefix that holds enough of them now.
    pub fn banned(&mut self, policy: u16, rule: Rollup, host: &PrefixKey) -> Option<PrefixKey> {
        let prefix = prefix_of(rule, host)?;
        let count = self.banned.entry((policy, prefix)).or_default();
        *count = count.saturating_add(1);
        (*count >= rule.hosts).then_some(prefix)
    }

    /// Notes that `host`, which was banned under this policy, is not any more.
    pub fn unbanned(&mut self, policy: u16, rule: Rollup, host: &PrefixKey) {
        let Some(prefix) = prefix_of(rule, host) else {
            return;
        };
        if let Some(count) = self.banned.get_mut(&(policy, prefix)) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.banned.remove(&(policy, prefix));
            }
        }
    }

    /// Forgets all counts, as before they are taken anew under other rules.
    pub fn clear(&mut self) {
        self.banned.clear();
    }
}

/// The prefix that `host` rolls up into; `None` if it is as wide itself.
fn prefix_of(rule: Rollup, host: &PrefixKey) -> Option<PrefixKey> {
    let length = if host.family == 4 {
        rule.ipv4_prefix
    } else {
        rule.ipv6_prefix
    };
    if u32::from(length) >= host.length {
        return None;
    }
    PrefixKey::new(host.address()?, length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const RULE: Rollup = Rollup {
        hosts: 3,
        ipv4_prefix: 24,
        ipv6_prefix: 48,
    };

    fn key(address: &str, length: u8) -> PrefixKey {
        PrefixKey::new(address.parse().unwrap(), length).unwrap()
    }

    #[test]
    fn a_prefix_is_named_from_the_host_on_that_makes_them_enough() {
        let mut rollups = Rollups::default();
        let mut ban = |policy, address, length| rollups.banned(policy, RULE, &key(address, length));
        assert_eq!(ban(0, "203.0.113.1", 32), None);
        assert_eq!(ban(0, "203.0.113.2", 32), None);
        assert_eq!(ban(0, "203.0.112.3", 32), None, "a neighbour's");
        assert_eq!(ban(1, "203.0.113.3", 32), None, "another policy's");
        assert_eq!(ban(0, "203.0.113.0", 24), None, "as wide itself");
        assert_eq!(ban(0, "203.0.113.4", 32), Some(key("203.0.113.0", 24)));
        assert_eq!(ban(0, "2001:db8:0:1::", 64), None);
        assert_eq!(ban(0, "2001:db8:0:2::", 64), None);
        assert_eq!(ban(0, "2001:db8:0:3::", 64), Some(key("2001:db8::", 48)));
    }

    proptest! {
        /// After any bans and unbans the counts are those of the hosts that are left.
        #[test]
        fn counts_are_exact_and_none_is_left_behind(
            steps in prop::collection::vec((any::<bool>(), 0_u8..8), 0..200),
        ) {
            let mut rollups = Rollups::default();
            let mut hosts = BTreeSet::new();
            for (ban, number) in steps {
                let host = key(&format!("203.0.{}.{number}", number % 2), 32);
                if ban && hosts.insert(host) {
                    let same = hosts.iter().filter(|other| other.address[2] == host.address[2]);
                    let enough = same.count() >= 3;
                    prop_assert_eq!(rollups.banned(0, RULE, &host).is_some(), enough);
                } else if !ban && hosts.remove(&host) {
                    rollups.unbanned(0, RULE, &host);
                }
            }
            let total: u32 = rollups.banned.values().sum();
            prop_assert_eq!(usize::try_from(total).unwrap(), hosts.len());
            prop_assert!(rollups.banned.values().all(|count| *count > 0));
        }
    }
}
