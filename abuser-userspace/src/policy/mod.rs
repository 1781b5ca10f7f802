//! Who gets banned, and for how long.
//!
//! Everything here is pure: the clock and the dice are arguments, nothing is read or
//! written. That makes the rules testable in microseconds and lets a replay of
//! old events come to the same bans.
//!
//! The words and the arithmetic are fail2ban's, because that is what operators know:
//! `maxretry` offences within `findtime` ban for `bantime`, and who comes back is banned
//! for longer. [`BanPolicy`] holds the numbers, [`Offenders`] the memory of who did what.

mod ban;
mod doubts;
mod offenders;

pub use ban::{BanPolicy, BanTime, MAX_BAN};
pub use doubts::Doubts;
pub use offenders::{Offenders, Sentence};
