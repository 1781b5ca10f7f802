//! What may be meant as it stands and probably is not: no error, so that whoever means it can have it, but said by
//! `abuser check`, by `abuser run` and at each reload.

use super::{AllowEntry, Api, Config};
use crate::policy::exempts_many;

impl Config {
    /// What is probably a mistake, each in a sentence.
    pub fn doubts(&self) -> Vec<String> {
        let unlimited = self.limits.is_empty().then(|| {
            "no [[limit]]: nothing is rate limited, and nobody is banned for going over a limit; the \
             limits that hold without a configuration are in deploy/abuser.toml, to be copied"
                .to_owned()
        });
        let exempt = self.allow.iter().filter_map(|entry| match entry {
            AllowEntry::Prefix(prefix) if exempts_many(prefix) => Some(format!(
                "[allow] addresses: {prefix} is so wide that hardly anybody is limited or banned; name the \
                 networks that you mean"
            )),
            _ => None,
        });
        unlimited.into_iter().chain(exempt).collect()
    }
}

impl Api {
    /// What is wrong with listening where it says, if others than this host can come there.
    pub fn exposure(&self) -> Option<String> {
        let address = self.listen?;
        (!address.ip().to_canonical().is_loopback()).then(|| {
            format!(
                "whoever is on the way to {address} can read the token: it is plain HTTP; set [api] \
                 listen to a loopback address, and put a proxy with TLS in front"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    fn config(text: &str) -> Config {
        config::parse(text, Path::new("test.toml")).unwrap()
    }

    #[test]
    fn what_limits_nobody_is_doubted() {
        let limit = "[[limit]]\nname = \"api\"\nrate = \"1/s\"\n";
        let allow = |prefix: &str| format!("{limit}[allow]\naddresses = [\"{prefix}\"]\n");
        for (text, phrase) in [
            (
                "interfaces = [\"eth0\"]",
                "no [[limit]]: nothing is rate limited",
            ),
            (&allow("0.0.0.0/0"), "0.0.0.0/0 is so wide"),
            (&allow("::/0"), "::/0 is so wide"),
        ] {
            let doubts = config(text).doubts();
            assert_eq!(doubts.len(), 1, "{doubts:?}");
            assert!(doubts[0].contains(phrase), "{doubts:?}");
        }
        assert!(config(&allow("10.0.0.0/8")).doubts().is_empty());
        assert!(Config::builtin().doubts().is_empty());
    }

    #[test]
    fn a_token_that_others_can_see_on_its_way_is_doubted() {
        for (listen, exposed) in [
            ("127.0.0.1:9090", false),
            ("[::1]:9090", false),
            ("[::ffff:127.0.0.1]:9090", false),
            ("0.0.0.0:9090", true),
            ("192.0.2.1:9090", true),
        ] {
            let text = format!("[api]\nlisten = \"{listen}\"\ntoken_file = \"/t\"\n");
            assert_eq!(config(&text).api.exposure().is_some(), exposed, "{listen}");
        }
        assert_eq!(Api::default().exposure(), None);
    }
}
