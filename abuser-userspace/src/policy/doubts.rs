//! Sources in whose name somebody forges.
//!
//! Under a limit of packets or bytes an offence is verified by the one packet that is looked
//! at. Who is forged while it has a connection has its own packets looked at now and then,
//! and must not pay for the forger's. So an offence that is not verified casts doubt on its
//! subject for a while, and while there is doubt no offence counts. Whoever really sends over
//! its connections is verified by nearly all of its offences.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use abuser_common::prefix::PrefixKey;

/// How long an offence that is not verified casts doubt.
const DOUBT: Duration = Duration::from_secs(10);

/// Subjects that share a slot share doubts; their number is a power of two.
const SLOTS: usize = 1 << 16;

/// When each subject was last in doubt, in bounded memory whoever is forged.
#[derive(Debug)]
pub struct Doubts {
    hasher: RandomState,
    /// The end of the doubt, in whole seconds of the clock that offences have.
    until: Vec<u64>,
}

impl Default for Doubts {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            until: vec![0; SLOTS],
        }
    }
}

impl Doubts {
    fn slot(&self, subject: &PrefixKey) -> usize {
        let hash = self.hasher.hash_one(subject);
        usize::try_from(hash % SLOTS as u64).unwrap_or(0)
    }

    /// An offence in the name of `subject` was not verified.
    pub fn cast(&mut self, subject: &PrefixKey, now: Duration) {
        let slot = self.slot(subject);
        if let Some(until) = self.until.get_mut(slot) {
            *until = (now + DOUBT).as_secs();
        }
    }

    /// Whether an offence is its subject's own, by all that is known: `verified` is what the
    /// program found out, and `of_connections` whether the limit counts those.
    pub fn is_own(
        &mut self,
        verified: bool,
        of_connections: bool,
        subject: &PrefixKey,
        now: Duration,
    ) -> bool {
        // A SYN belongs to no connection: what is known is that its source has spoken.
        if of_connections {
            return verified;
        }
        if !verified {
            self.cast(subject, now);
            return false;
        }
        !self.contains(subject, now)
    }

    /// Whether one was not long ago.
    pub fn contains(&self, subject: &PrefixKey, now: Duration) -> bool {
        let until = self.until.get(self.slot(subject));
        until.is_some_and(|until| now.as_secs() < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubt_lasts_ten_seconds_and_is_about_one_subject() {
        let subject = |n| PrefixKey::new([203, 0, 113, n].into(), 32).unwrap();
        let mut doubts = Doubts::default();
        let now = Duration::from_secs(1000);
        assert!(!doubts.contains(&subject(7), now));
        doubts.cast(&subject(7), now);
        assert!(doubts.contains(&subject(7), now + Duration::from_secs(9)));
        assert!(!doubts.contains(&subject(7), now + Duration::from_secs(10)));
        let others = (8..108).filter(|n| doubts.contains(&subject(*n), now));
        assert!(others.count() < 3);
    }

    #[test]
    fn an_offence_is_one_s_own_if_it_is_verified_and_nobody_forges() {
        let subject = PrefixKey::new([203, 0, 113, 7].into(), 32).unwrap();
        let mut doubts = Doubts::default();
        let now = Duration::from_secs(1000);
        assert!(doubts.is_own(true, false, &subject, now));
        assert!(
            !doubts.is_own(false, true, &subject, now),
            "a SYN of anyone"
        );
        assert!(doubts.is_own(true, false, &subject, now), "and no doubt");
        assert!(!doubts.is_own(false, false, &subject, now));
        assert!(!doubts.is_own(true, false, &subject, now), "in doubt");
        assert!(
            doubts.is_own(true, true, &subject, now),
            "that is of packets"
        );
    }
}
