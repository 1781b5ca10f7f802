//! Who gets banned, and for how long.
//!
//! Everything here is pure: the clock and the dice are arguments, nothing is read or
//! written. That makes the rules testable in microseconds and lets a replay of
//! old events come to the same bans.
//!
//! The words and the arithmetic are fail2ban's, because that is what operators know:
//! `maxretry` offences within `findtime` ban for `bantime`, and who comes back is banned
//! for longer. [`BanPolicy`] holds the numbers, [`Offenders`] the memory of who did what, [`Rollups`] how
//! many hosts of a prefix are banned.

mod allow;
mod ban;
mod doubts;
pub mod ends;
mod moved;
mod offenders;
mod rollup;
mod spared;

pub use allow::{WIDEST_ALLOWED_IPV4, WIDEST_ALLOWED_IPV6, exempts_many};
pub use ban::{
    BanPolicy, BanTime, DEFAULT_POLICY, MAX_BAN, Rollup, WIDEST_IPV4, WIDEST_IPV6, is_wide, overlap,
};
pub use doubts::Doubts;
pub use moved::Moved;
pub use offenders::{MAX_OFFENDERS, Offence, Offenders, Record, Sentence, Subject, with_repeats};
pub use rollup::Rollups;
pub use spared::Spared;
