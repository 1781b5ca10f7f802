//! Times as logs write them.
//!
//! A busy log has thousands of lines in a second, and a million in a day: the last second and the last
//! day are remembered, so that the calendar is looked at once a day.

use std::time::Duration;

use jiff::{Timestamp, civil, tz::TimeZone};

use crate::time::Time;

/// The length of `10/Oct/2000:13:55:36 -0700`.
pub(super) const COMBINED: usize = 26;

/// The length of `2024/01/15 10:00:00`.
pub(super) const NGINX_ERROR: usize = 19;

const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// Reads times, and remembers the last one.
#[derive(Debug)]
pub(super) struct Clock {
    /// Of times that name none.
    zone: TimeZone,
    /// The last combined time, and what it is.
    combined: ([u8; COMBINED], Time),
    /// Its date and its offset, and when that day begins; in seconds.
    day: ([u8; 11], [u8; 5], i64),
    /// The last local time to the second, and what it is.
    local: (civil::DateTime, Time),
    /// About when the lines were written, for times that name no year.
    now: Option<Time>,
}

impl Clock {
    /// For logs of a time zone.
    pub(super) fn new(zone: TimeZone) -> Self {
        Self {
            zone,
            combined: ([0; COMBINED], Time(0)),
            day: ([0; 11], [0; 5], 0),
            local: (civil::DateTime::MIN, Time(0)),
            now: None,
        }
    }

    /// Says about when the lines that follow are read: times without a year are of the year before
    /// that.
    pub(super) fn set_now(&mut self, now: Time) {
        self.now = Some(now);
    }

    /// Reads syslog's `Jan  5 10:00:00` (RFC 3164, 4.1.2), which is local and has no year.
    fn syslog(&mut self, text: &str) -> Option<Time> {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        let [month @ .., b' ', d1, d2, b' ', _, _, _, _, _, _, _, _] = text.as_bytes() else {
            return None;
        };
        let month = MONTHS
            .iter()
            .zip(1..)
            .find(|(name, _)| name.as_slice() == month)?
            .1;
        let day = digits(&[if *d1 == b' ' { b'0' } else { *d1 }, *d2])?;
        let hms = text.get(7..)?;
        let now = self.now?;
        let today = Timestamp::from_millisecond(i64::try_from(now.0).ok()?).ok()?;
        let year = i64::from(self.zone.to_datetime(today).year());
        // Tomorrow's line may be from another zone; one from later is a year old.
        [year + 1, year, year - 1]
            .into_iter()
            .filter_map(|year| self.local(year, month, day, hms))
            .find(|time| *time <= now + DAY)
    }

    /// Reads `10/Oct/2000:13:55:36 -0700`.
    #[inline]
    pub(super) fn combined(&mut self, text: &str) -> Option<Time> {
        let bytes: &[u8; COMBINED] = text.as_bytes().try_into().ok()?;
        if *bytes == self.combined.0 {
            return Some(self.combined.1);
        }
        let (date, rest) = bytes.split_first_chunk::<11>()?;
        let (hms, offset) = rest.split_last_chunk::<5>()?;
        let [b':', hms @ .., b' '] = hms else {
            return None;
        };
        if *date != self.day.0 || *offset != self.day.1 {
            self.day = (*date, *offset, day_begins(date, *offset)?);
        }
        let time = from_seconds(self.day.2 + seconds_of_day(hms)?)?;
        self.combined = (*bytes, time);
        Some(time)
    }

    /// Reads `2024/01/15 10:00:00`, which is local.
    pub(super) fn nginx_error(&mut self, text: &str) -> Option<Time> {
        let (date, hms) = text.split_once(' ')?;
        let [y1, y2, y3, y4, b'/', m1, m2, b'/', d1, d2] = date.as_bytes() else {
            return None;
        };
        let year = digits(&[*y1, *y2, *y3, *y4])?;
        self.local(year, digits(&[*m1, *m2])?, digits(&[*d1, *d2])?, hms)
    }

    /// Reads `06/Feb/2009:12:14:14.655`, which is local.
    pub(super) fn haproxy(&mut self, text: &str) -> Option<Time> {
        let (date, hms) = text.split_once(':')?;
        let (year, month, day) = date_with_name(date.as_bytes().try_into().ok()?)?;
        self.local(year, month, day, hms)
    }

    /// A local time from its parts; `hms` is `10:00:00` with or without a fraction.
    fn local(&mut self, year: i64, month: i64, day: i64, hms: &str) -> Option<Time> {
        let (hms, fraction) = hms.split_once(['.', ',']).unwrap_or((hms, ""));
        let second = seconds_of_day(hms.as_bytes())?;
        let midnight = date(year, month, day)?.at(0, 0, 0, 0);
        let local = midnight
            .checked_add(jiff::SignedDuration::from_secs(second))
            .ok()?;
        if local != self.local.0 {
            self.local = (local, self.resolve(local)?);
        }
        Some(Time(self.local.1.0 + millis(fraction)?))
    }

    fn resolve(&self, local: civil::DateTime) -> Option<Time> {
        from_timestamp(self.zone.to_timestamp(local).ok()?)
    }

    /// Reads a time in any of the ways that logs have: RFC 3339, with or without a zone, those
    /// above, and seconds, milliseconds and so on since 1970.
    pub(super) fn any(&mut self, text: &str) -> Option<Time> {
        let text = text.trim_matches(['[', ']', ' ']);
        match text.as_bytes().get(..5)? {
            [_, _, b'/', ..] if text.len() == COMBINED => self.combined(text),
            [_, _, b'/', ..] => self.haproxy(text),
            [_, _, _, _, b'/'] => self.nginx_error(text),
            [b'A'..=b'Z', _, _, b' ', _] => self.syslog(text),
            [_, _, _, _, b'-'] => {
                if let Ok(time) = text.parse::<Timestamp>() {
                    return from_timestamp(time);
                }
                self.resolve(text.parse().ok()?)
            }
            _ => text.parse::<u64>().map_or_else(
                |_| from_float(text.parse().ok()?),
                |number| Some(from_whole(number)),
            ),
        }
    }
}

/// A time since 1970, whose size says whether it is in seconds, in milliseconds, in microseconds
/// or in nanoseconds: seconds until the year 5138, and none of the others before 1973.
pub(super) fn from_whole(number: u64) -> Time {
    match number {
        0..100_000_000_000 => Time(number * 1000),
        100_000_000_000..100_000_000_000_000 => Time(number),
        100_000_000_000_000..100_000_000_000_000_000 => Time(number / 1000),
        _ => Time(number / 1_000_000),
    }
}

/// The same with a fraction.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast keeps to what fits"
)]
pub(super) fn from_float(number: f64) -> Option<Time> {
    if !number.is_finite() || number < 0.0 {
        return None;
    }
    if number < 100_000_000_000.0 {
        return Some(Time((number * 1000.0).round() as u64));
    }
    Some(from_whole(number as u64))
}

fn from_timestamp(timestamp: Timestamp) -> Option<Time> {
    u64::try_from(timestamp.as_millisecond()).ok().map(Time)
}

fn from_seconds(seconds: i64) -> Option<Time> {
    u64::try_from(seconds).ok()?.checked_mul(1000).map(Time)
}

/// When a day begins that is written `10/Oct/2000`, in a zone that is written `-0700`.
fn day_begins(date_text: &[u8; 11], offset: [u8; 5]) -> Option<i64> {
    let (year, month, day) = date_with_name(date_text)?;
    let days = date(year, month, day)?.duration_since(civil::date(1970, 1, 1));
    let [sign, h1, h2, m1, m2] = offset;
    let offset = digits(&[h1, h2])? * 3600 + digits(&[m1, m2])? * 60;
    let offset = match sign {
        b'+' => offset,
        b'-' => -offset,
        _ => return None,
    };
    Some(days.as_secs() - offset)
}

/// Year, month and day of `10/Oct/2000`.
fn date_with_name(text: &[u8; 11]) -> Option<(i64, i64, i64)> {
    let [d1, d2, b'/', month @ .., b'/', y1, y2, y3, y4] = text else {
        return None;
    };
    let month = MONTHS.iter().zip(1..).find(|(name, _)| **name == month)?.1;
    Some((digits(&[*y1, *y2, *y3, *y4])?, month, digits(&[*d1, *d2])?))
}

fn date(year: i64, month: i64, day: i64) -> Option<civil::Date> {
    let year = i16::try_from(year).ok()?;
    civil::Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()
}

/// The seconds of `13:55:36`; a leap second is the next one.
fn seconds_of_day(text: &[u8]) -> Option<i64> {
    let [h1, h2, b':', m1, m2, b':', s1, s2] = text else {
        return None;
    };
    let hours = digits(&[*h1, *h2])?;
    let minutes = digits(&[*m1, *m2])?;
    let seconds = digits(&[*s1, *s2])?;
    (hours < 24 && minutes < 60 && seconds <= 60).then_some(hours * 3600 + minutes * 60 + seconds)
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |number, digit| {
        digit
            .is_ascii_digit()
            .then(|| number * 10 + i64::from(digit - b'0'))
    })
}

/// The milliseconds of what follows a decimal point.
fn millis(fraction: &str) -> Option<u64> {
    let mut digits = fraction.bytes();
    if !digits.clone().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let first_three = [(); 3].map(|()| u64::from(digits.next().unwrap_or(b'0') - b'0'));
    Some(
        first_three
            .iter()
            .fold(0, |millis, digit| millis * 10 + digit),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> Clock {
        // Without daylight saving, so that the expected values can be had from `date -u`.
        Clock::new(TimeZone::fixed(jiff::tz::offset(2)))
    }

    #[test]
    fn combined_times_are_read_across_days_zones_and_leap_seconds() {
        let mut clock = clock();
        for (text, seconds) in [
            ("10/Oct/2000:13:55:36 -0700", 971_211_336),
            ("10/Oct/2000:13:55:37 -0700", 971_211_337),
            ("10/Oct/2000:13:55:37 -0700", 971_211_337),
            ("10/Oct/2000:13:55:37 +0000", 971_186_137),
            ("11/Oct/2000:00:00:00 +0530", 971_202_600),
            ("29/Feb/2024:23:59:59 +0000", 1_709_251_199),
            ("31/Dec/2016:23:59:60 +0000", 1_483_228_800),
        ] {
            assert_eq!(clock.combined(text), Some(Time(seconds * 1000)), "{text}");
        }
        for text in [
            "",
            "10/Oct/2000:13:55:36",
            "10/Foo/2000:13:55:36 -0700",
            "30/Feb/2024:00:00:00 +0000",
            "10/Oct/2000:24:00:00 +0000",
            "10/Oct/2000:13:60:00 +0000",
            "10/Oct/2000 13:55:36 -0700",
            "10/Oct/2000:13:55:36 x0700",
            "10/Oct/1960:13:55:36 +0000",
            "1\u{fc}/Oct/2000:13:55:36 +000",
        ] {
            assert_eq!(clock.combined(text), None, "{text}");
        }
    }

    #[test]
    fn times_without_a_zone_are_local() {
        let mut clock = clock();
        let time = Some(Time(1_705_305_600_000));
        assert_eq!(clock.nginx_error("2024/01/15 10:00:00"), time);
        assert_eq!(clock.nginx_error("2024/01/15 10:00:00"), time);
        assert_eq!(clock.haproxy("15/Jan/2024:10:00:00.000"), time);
        let later = Some(Time(1_705_305_600_655));
        assert_eq!(clock.haproxy("15/Jan/2024:10:00:00.655"), later);
        for text in [
            "2024-01-15T10:00:00.655",
            "2024-01-15 10:00:00,655",
            "2024-01-15T08:00:00.655Z",
            "2024-01-15T08:00:00.655123+00:00",
            "2024-01-15T08:00:00.655+0000",
            "2024/01/15 10:00:00.655",
            "15/Jan/2024:10:00:00.655",
            "[15/Jan/2024:10:00:00.655]",
            "1705305600.655",
            "1705305600655",
            "1705305600655123",
            "1705305600655123456",
        ] {
            assert_eq!(clock.any(text), later, "{text}");
        }
        assert_eq!(clock.any("15/Jan/2024:10:00:00 +0200"), time);
        assert_eq!(clock.any("1705305600"), time);
        for text in [
            "",
            "soon",
            "2024",
            "2024-13-01T00:00:00Z",
            "nan12",
            "-1000000",
        ] {
            // A short number is a second of 1970.
            let expected = (text == "2024").then_some(Time(2_024_000));
            assert_eq!(
                clock.any(text),
                expected.filter(|_| text.len() > 4),
                "{text}"
            );
        }
    }

    #[test]
    fn a_time_without_a_year_is_the_last_such_time() {
        let mut clock = clock();
        assert_eq!(clock.any("Jan  5 10:00:00"), None);
        // 2024-01-05T08:00:00Z is ten o'clock there.
        let new_year = 1_704_441_600_000;
        clock.set_now(Time(new_year));
        for (text, expected) in [
            ("Jan  5 10:00:00", Some(new_year)),
            ("Jan  6 09:59:59", Some(new_year + 86_399_000)),
            ("Jan 07 10:00:00", Some(new_year - 363 * 86_400_000)),
            ("Dec 31 10:00:00", Some(new_year - 5 * 86_400_000)),
            ("Feb 29 10:00:00", None),
            ("Foo  5 10:00:00", None),
            ("Jan 32 10:00:00", None),
        ] {
            assert_eq!(clock.any(text), expected.map(Time), "{text}");
        }
    }

    #[test]
    fn a_time_that_the_clocks_skip_or_repeat_is_still_one() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a zone");
        let mut clock = Clock::new(zone);
        assert_eq!(
            clock.nginx_error("2024/03/31 02:30:00"),
            Some(Time(1_711_848_600_000))
        );
        assert_eq!(
            clock.nginx_error("2024/10/27 02:30:00"),
            Some(Time(1_729_989_000_000))
        );
    }
}
