//! What jails say that has no like here, or another one: it is listed.

use super::{
    Import, Jail, is_true,
    words::{action_names, allowed, is_loopback},
};

impl Import<'_> {
    /// What else a jail says, most of which has no like here.
    pub(super) fn rest(&mut self, jail: &Jail<'_>) -> Result<(), String> {
        let says = |option: &str| -> Result<Option<String>, String> {
            let value = jail.get(option)?;
            Ok(value
                .map(|value| value.trim().to_owned())
                .filter(|value| !value.is_empty()))
        };
        if let Some(ignored) = says("ignoreip")? {
            self.ignore(&ignored, jail);
        }
        if says("ignoreself")?.is_some_and(|value| !is_true(&value)) {
            self.passed_over(jail, "ignoreself", "false", "a host never bans itself here");
        }
        if let Some(command) = says("ignorecommand")? {
            let why = "no command is run for a line; the detector only alerts until those whom it \
                       spares are under [allow]";
            self.passed_over(jail, "ignorecommand", &command, why);
        }
        if let Some(dns) = says("usedns")?.filter(|dns| dns != "no") {
            let why = "names in logs are not looked up: who forges them would choose who is banned";
            self.passed_over(jail, "usedns", &dns, why);
        }
        for option in ["logencoding", "logtimezone"] {
            let usual = ["auto", "utf-8", "ascii"];
            let value = says(option)?;
            if let Some(value) =
                value.filter(|value| !usual.contains(&value.to_lowercase().as_str()))
            {
                let why = "logs are read as UTF-8, and times without a zone as those of this host";
                self.passed_over(jail, option, &value, why);
            }
        }
        if let Some(port) = says("port")?.filter(|_| jail.places.own(jail.name, "port").is_some()) {
            self.passed_over(jail, "port", &port, "a ban holds for all ports");
        }
        if jail
            .get("filter")?
            .is_some_and(|filter| filter.trim().starts_with("recidive"))
        {
            let why = "it reads fail2ban's own log, which ends with fail2ban; bans grow for who comes \
                       back with increment = true under [ban] or in a [[policy]]";
            self.passed_over(jail, "filter", "recidive", why);
        }
        // An action that cannot be read is one that is not taken.
        let banaction = says("banaction").unwrap_or_default().unwrap_or_default();
        if !banaction.is_empty() {
            let why = "bans are made at the network card instead";
            self.passed_over(jail, "banaction", &banaction, why);
        }
        let actions = says("action").unwrap_or_default().unwrap_or_default();
        let others: Vec<_> = action_names(&actions)
            .filter(|name| *name != banaction)
            .collect();
        if !others.is_empty() {
            let why = "only bans are made, nothing else is done about an offence";
            self.passed_over(jail, "action", &others.join(", "), why);
        }
        Ok(())
    }

    fn passed_over(&mut self, jail: &Jail<'_>, option: &str, value: &str, why: &str) {
        let place = jail.at(option);
        let is_own = jail.places.own(jail.name, option).is_some();
        let section = if is_own { jail.name } else { "DEFAULT" };
        let value = value.lines().next().unwrap_or_default();
        self.imported
            .note(place, format!("[{section}] {option} = {value}"), why);
    }

    /// Adds to the allow list whom a jail ignores.
    fn ignore(&mut self, ignored: &str, jail: &Jail<'_>) {
        let words = ignored.split([',', ' ', '\t', '\n']).map(str::trim);
        for word in words.filter(|word| !word.is_empty()) {
            let Some(entry) = allowed(word) else {
                let why = "it is no address, prefix or name; write under [allow] whom it means";
                self.passed_over(jail, "ignoreip", word, why);
                continue;
            };
            if is_loopback(&entry) {
                continue;
            }
            if jail.places.own(jail.name, "ignoreip").is_some() {
                let why = "[allow] holds for all detectors and limits, not for this jail alone";
                self.passed_over(jail, "ignoreip", &entry, why);
            }
            if !self.allow.contains(&entry) {
                self.allow.push(entry);
            }
        }
    }
}
