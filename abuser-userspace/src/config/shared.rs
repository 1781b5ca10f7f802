//! Causes of bans that others can be told of: those that this host has decided itself or was told of by
//! somebody, not those that a list of others calls for.

use abuser_common::layout::BanCause;

/// They, by the names that the configuration has for them.
pub(super) const SHARED: [(&str, BanCause); 6] = [
    ("limit", BanCause::Limit),
    ("detector", BanCause::Detector),
    ("application", BanCause::Application),
    ("rollup", BanCause::Rollup),
    ("manual", BanCause::Manual),
    ("import", BanCause::Import),
];

/// Those that others are told of unless the configuration says which: what was imported came from others.
pub(super) fn by_default() -> Vec<BanCause> {
    let causes = SHARED.iter().map(|(_, cause)| *cause);
    causes.filter(|cause| *cause != BanCause::Import).collect()
}
