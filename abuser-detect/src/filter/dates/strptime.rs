//! From the parts of a date to a moment. What a date does not say is guessed as fail2ban does: this
//! year or the last, today or yesterday.

use jiff::{
    ToSpan as _,
    civil::{Date, DateTime},
    tz::TimeZone,
};

use super::Clock;
use crate::filter::pattern::Pattern;

/// Abbreviations of time zones, by their minutes east of Greenwich.
const ZONES: [(i32, &str); 38] = [
    (-720, "Y"),
    (-660, "X NUT SST"),
    (-600, "W CKT HAST HST TAHT TKT"),
    (-570, "MART MIT"),
    (-540, "V AKST GAMT GIT HADT HNY"),
    (-480, "U AKDT CIST HAY HNP PST PT"),
    (-420, "T HAP HNR MST PDT"),
    (-360, "S CST EAST GALT HAR HNC MDT"),
    (-300, "R CDT COT EASST ECT EST ET HAC HNE PET"),
    (-270, "HLV VET"),
    (-240, "Q AST BOT CLT COST EDT FKT GYT HAE HNA PYT"),
    (-210, "HNT NST NT"),
    (
        -180,
        "P ADT ART BRT CLST FKST GFT HAA PMST PYST SRT UYT WGT",
    ),
    (-150, "HAT NDT"),
    (-120, "O BRST FNT PMDT UYST WGST"),
    (-60, "N AZOT CVT EGT"),
    (0, "Z EGST GMT UTC WET WT"),
    (60, "A CET DFT WAT WEDT WEST"),
    (120, "B CAT CEDT CEST EET SAST WAST"),
    (180, "C EAT EEDT EEST IDT MSK"),
    (210, "IRST"),
    (240, "D AMT AZT GET GST KUYT MSD MUT RET SAMT SCT"),
    (270, "AFT IRDT"),
    (
        300,
        "E AMST AQTT AZST HMT MAWT MVT PKT TFT TJT TMT UZT YEKT",
    ),
    (330, "SLT"),
    (345, "NPT"),
    (360, "F ALMT BIOT BTT IOT KGT NOVT OMST YEKST"),
    (390, "CCT MMT"),
    (420, "G CXT DAVT HOVT ICT KRAT NOVST OMSST THA WIB"),
    (
        480,
        "H ACT AWST BDT BNT CAST HKT IRKT KRAST MYT PHT SGT ULAT WITA WST",
    ),
    (540, "I AWDT IRKST JST KST PWT TLT WDT WIT YAKT"),
    (570, "ACST"),
    (600, "K AEST ChST PGT VLAT YAKST YAPT"),
    (630, "ACDT LHST"),
    (660, "L AEDT LHDT MAGT NCT PONT SBT VLAST VUT"),
    (690, "NFT"),
    (
        720,
        "M ANAST ANAT FJT GILT MAGST MHT NZST PETST PETT TVT WFT",
    ),
    (780, "FJST NZDT"),
];

/// The minutes east of Greenwich that `CET`, `+0100`, `UTC-05:30` and the like stand for.
pub(super) fn offset(zone: &str) -> Option<i32> {
    let split = zone.find(['+', '-']).unwrap_or(zone.len());
    let (name, shift) = zone.split_at_checked(split)?;
    let base = if name.is_empty() {
        0
    } else {
        let known = ZONES
            .iter()
            .find(|(_, names)| names.split(' ').any(|other| other == name));
        known?.0
    };
    if shift.is_empty() {
        return Some(base);
    }
    let sign = if shift.starts_with('-') { -1 } else { 1 };
    let hours: i32 = shift.get(1..3)?.parse().ok()?;
    let rest = shift.get(3..)?;
    let rest = rest.strip_prefix(':').unwrap_or(rest);
    let minutes: i32 = if rest.is_empty() {
        0
    } else {
        rest.parse().ok()?
    };
    if hours > 19 || rest.len() > 2 {
        return None;
    }
    Some(base + sign * (hours * 60 + minutes))
}

/// Which groups of a template are which parts of a date.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields(Vec<(u8, usize)>);

impl Fields {
    /// The parts that an expression has: the groups whose name is one letter.
    pub(super) fn of(pattern: &Pattern) -> Self {
        let parts = pattern
            .names()
            .filter_map(|(name, group)| match name.as_bytes() {
                [letter] => Some((*letter, group)),
                _ => None,
            });
        Self(parts.collect())
    }

    /// The moment that the groups say, in milliseconds; `None` if there is none such.
    pub(super) fn time<'t>(
        &self,
        group: &dyn Fn(usize) -> Option<&'t str>,
        clock: &Clock<'_>,
    ) -> Option<u64> {
        let mut parts = Parts::default();
        for &(letter, number) in &self.0 {
            if let Some(text) = group(number) {
                parts.set(letter, text)?;
            }
        }
        parts.time(clock)
    }
}

#[derive(Default)]
struct Parts {
    year: Option<i16>,
    month: Option<i8>,
    day: Option<i8>,
    hour: i8,
    afternoon: Option<bool>,
    twelve: bool,
    minute: i8,
    second: i8,
    /// From Monday, 0.
    weekday: Option<i8>,
    yearday: Option<i16>,
    week: Option<(i16, bool)>,
    /// Minutes east of Greenwich.
    offset: Option<i32>,
}

impl Parts {
    fn set(&mut self, letter: u8, text: &str) -> Option<()> {
        let number = || text.trim_start().parse::<i16>().ok();
        let small = || text.trim_start().parse::<i8>().ok();
        // The names differ in their first three letters, and each is followed by a bar.
        let in_list = |list: &str| -> Option<i8> {
            let start = text.as_bytes().get(..3)?;
            let same = |name: &[u8]| {
                name.get(..3)
                    .is_some_and(|name| name.eq_ignore_ascii_case(start))
            };
            i8::try_from(list.as_bytes().chunks(4).position(same)?).ok()
        };
        match letter {
            b'y' => {
                let year = number()?;
                self.year = Some(if year <= 2000 { year + 2000 } else { year });
            }
            b'Y' => self.year = Some(number()?),
            b'm' => self.month = Some(small()?),
            b'b' | b'B' => self.month = Some(in_list(super::template::MONTHS)? + 1),
            b'd' => self.day = Some(small()?),
            b'H' => self.hour = small()?,
            b'I' => (self.hour, self.twelve) = (small()?, true),
            b'p' => self.afternoon = Some(starts_with_fold(text, "p")),
            b'M' => self.minute = small()?,
            b'S' => self.second = small()?,
            b'a' | b'A' => self.weekday = Some(in_list(super::template::DAYS)?),
            b'w' => self.weekday = Some((small()? + 6) % 7),
            b'j' => self.yearday = Some(number()?),
            b'U' => self.week = Some((number()?, false)),
            b'W' => self.week = Some((number()?, true)),
            b'z' | b'Z' => self.offset = Some(offset(text)?),
            _ => {}
        }
        Some(())
    }

    fn time(mut self, clock: &Clock<'_>) -> Option<u64> {
        if self.twelve {
            self.hour %= 12;
            if self.afternoon == Some(true) {
                self.hour += 12;
            }
        }
        let now = clock.local();
        let no_year = self.year.is_none();
        let year = self.year.unwrap_or(now.year());
        if (self.month.is_none() || self.day.is_none())
            && let Some(date) = self.by_day_of_year(year)
        {
            self.year = Some(date.year());
            (self.month, self.day) = (Some(date.month()), Some(date.day()));
        }
        let no_day = self.month.is_none() && self.day.is_none();
        if no_day {
            (self.month, self.day) = (Some(now.month()), Some(now.day()));
        }
        // A leap second is no second that Python knows either.
        let date = Date::new(self.year.unwrap_or(year), self.month?, self.day?).ok()?;
        let time = jiff::civil::Time::new(self.hour, self.minute, self.second, 0).ok()?;
        let mut when = date.to_datetime(time);
        let offset = self.offset.or(clock.offset);
        if let Some(offset) = offset {
            when = when.checked_sub(i64::from(offset).minutes()).ok()?;
        }
        if no_day && when > now {
            when = when.checked_sub(1.day()).ok()?;
        }
        if no_year && when > now.checked_add(1.day()).ok()? {
            // With the day as it was written: that of another zone would be a day off.
            when = Date::new(year - 1, self.month?, self.day?)
                .ok()?
                .to_datetime(when.time());
        }
        let zone = if offset.is_some() {
            &TimeZone::UTC
        } else {
            clock.zone
        };
        millis(when, zone)
    }

    fn by_day_of_year(&self, year: i16) -> Option<Date> {
        let first = Date::new(year, 1, 1).ok()?;
        let ordinal = match (self.yearday, self.week, self.weekday) {
            (Some(day), ..) => i64::from(day),
            (None, Some((week, from_monday)), Some(weekday)) => {
                // Days since the week began.
                let monday = i64::from(first.weekday().to_monday_zero_offset());
                let (first_weekday, weekday) = if from_monday {
                    (monday, i64::from(weekday))
                } else {
                    ((monday + 1) % 7, (i64::from(weekday) + 1) % 7)
                };
                let week_0 = (7 - first_weekday) % 7;
                if week == 0 {
                    1 + weekday - first_weekday
                } else {
                    1 + week_0 + 7 * (i64::from(week) - 1) + weekday
                }
            }
            _ => return None,
        };
        first.checked_add((ordinal - 1).days()).ok()
    }
}

fn millis(when: DateTime, zone: &TimeZone) -> Option<u64> {
    let zoned = when.to_zoned(zone.clone()).ok()?;
    u64::try_from(zoned.timestamp().as_millisecond()).ok()
}

fn starts_with_fold(text: &str, name: &str) -> bool {
    text.get(..name.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(name))
}
