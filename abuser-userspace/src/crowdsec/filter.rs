//! Of which decisions the configuration has us take note.
//!
//! The local API leaves out the others by itself, and with them those that this daemon has pushed: then
//! nobody would hear that somebody has deleted one. So whoever pushes asks for more, and leaves it out here.

use super::machine::ORIGIN;
use crate::config::CrowdsecConfig;

/// What decisions are asked for, and which of them are taken.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    origins: Vec<String>,
    containing: Vec<String>,
    not_containing: Vec<String>,
    /// Whether it is done here.
    here: bool,
}

impl Filter {
    /// What the configuration says; `pushes`: whether own decisions are there to be heard of.
    pub fn new(config: &CrowdsecConfig, pushes: bool) -> Self {
        Self {
            origins: config.origins.clone(),
            containing: config.scenarios_containing.clone(),
            not_containing: config.scenarios_not_containing.clone(),
            here: pushes,
        }
    }

    /// The parameters of a question.
    pub(super) fn query(&self) -> Vec<(&'static str, String)> {
        let mut origins = self.origins.clone();
        let is_there = origins.iter().any(|origin| origin == ORIGIN);
        if self.here && !origins.is_empty() && !is_there {
            origins.push(ORIGIN.to_owned());
        }
        let scenarios = |words: &[String]| {
            // Own ones are named after limits, detectors and causes, which may contain anything.
            let words = if self.here { &[] } else { words };
            words.join(",")
        };
        let query = [
            ("origins", origins.join(",")),
            ("scenarios_containing", scenarios(&self.containing)),
            ("scenarios_not_containing", scenarios(&self.not_containing)),
        ];
        let query = query.into_iter();
        query.filter(|(_, words)| !words.is_empty()).collect()
    }

    /// Whether a new decision of this origin and scenario is to be taken.
    pub(super) fn takes(&self, origin: &str, scenario: &str) -> bool {
        // As the local API does it: origins are equal, scenarios contain, however they are written.
        let contains = |word: &String| {
            let (scenario, word) = (scenario.to_lowercase(), word.to_lowercase());
            scenario.contains(&word)
        };
        !self.here
            || ((self.origins.is_empty() || self.origins.iter().any(|known| known == origin))
                && (self.containing.is_empty() || self.containing.iter().any(contains))
                && !self.not_containing.iter().any(contains))
    }

    /// Whether decisions of this origin may be own ones.
    pub(super) fn may_be_own(&self, origin: &str) -> bool {
        self.here && origin == ORIGIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn filter(here: bool) -> Filter {
        Filter {
            origins: words(&["cscli", "lists"]),
            containing: words(&["SSH", "http"]),
            not_containing: words(&["slow"]),
            here,
        }
    }

    #[test]
    fn who_pushes_nothing_has_the_local_api_leave_out_the_others() {
        assert_eq!(
            filter(false).query(),
            [
                ("origins", "cscli,lists".to_owned()),
                ("scenarios_containing", "SSH,http".to_owned()),
                ("scenarios_not_containing", "slow".to_owned()),
            ]
        );
        assert!(filter(false).takes("CAPI", "anything"), "it was asked for");
        assert_eq!(Filter::default().query(), []);
    }

    #[test]
    fn who_pushes_hears_of_own_decisions_and_takes_no_more_than_otherwise() {
        let filter = filter(true);
        let asked = [("origins", "cscli,lists,abuser".to_owned())];
        assert_eq!(filter.query(), asked);
        for (origin, scenario, expected) in [
            ("cscli", "crowdsecurity/ssh-bf", true),
            ("lists", "a/HTTP-probing", true),
            ("cscli", "crowdsecurity/ssh-slow-bf", false),
            ("cscli", "manual", false),
            ("CAPI", "crowdsecurity/ssh-bf", false),
            ("abuser", "abuser/ssh", false),
        ] {
            let taken = filter.takes(origin, scenario);
            assert_eq!(taken, expected, "{origin} {scenario}");
        }
        assert!(filter.may_be_own("abuser") && !filter.may_be_own("cscli"));
        let all = Filter {
            here: true,
            ..Filter::default()
        };
        assert_eq!(all.query(), [], "all origins, its own among them");
        assert!(all.takes("abuser", "abuser/ssh"), "of another host");
        let asked = Filter {
            origins: words(&["abuser"]),
            ..all
        };
        assert_eq!(asked.query(), [("origins", "abuser".to_owned())]);
    }
}
