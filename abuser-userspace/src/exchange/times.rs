//! Until when, as formats without a notion of their own say it: a time, or how long.

use crate::{config::parse_duration, policy::BanTime};

use super::Expiry;

/// What `expires` and `duration` say together; a time that is said wins.
pub(super) fn expiry(expires: Option<&str>, duration: Option<&str>) -> Result<Expiry, String> {
    match (expires, duration) {
        (Some(time), _) if time.eq_ignore_ascii_case("never") => Ok(Expiry::Never),
        (Some(time), _) => humantime::parse_rfc3339_weak(time)
            .map(Expiry::At)
            .map_err(|_| format!("{time:?} is no time; write one such as 2026-11-24T12:00:00Z")),
        (None, Some(duration)) => match parse_duration(duration) {
            Ok(BanTime::Permanent) => Ok(Expiry::Never),
            Ok(BanTime::For(time)) => Ok(Expiry::In(time)),
            Err(error) => Err(error.to_string()),
        },
        (None, None) => Ok(Expiry::Unsaid),
    }
}
