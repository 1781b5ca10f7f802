//! What the daemon gives up once it runs, so that who takes it over has little of it.
//!
//! It starts as root, or with what a service manager leaves it. When the program is attached, the sockets
//! listen and the store is open, hardly anything of that is needed any more: four capabilities for the
//! kernel's tables and other users' logs, and writing in a few folders. The rest is given up, for all
//! threads and for good. What a kernel has not is left out and told; nothing here keeps a daemon
//! from starting.
//!
//! | module | what is given up |
//! | --- | --- |
//! | `capabilities` | what root may do |
//! | `places` | making and writing files elsewhere (Landlock) |
//! | `calls` | system calls that it never makes (seccomp) |
//! | `threads` | how all threads are reached |
//! | `children` | what programs are run with |
//!
//! Commands of `[[notify]]` are the administrator's own, run as root and for whatever he likes: restarting
//! a service, sending mail by a program that changes its user. What is given up for good is lost to
//! them, too. So unless `[security] sandbox` is `"on"`, a daemon that has commands gives up only its own
//! capabilities, which the kernel gives back to what root runs.

mod calls;
mod capabilities;
pub(crate) mod children;
mod places;
mod threads;

use std::{
    collections::BTreeSet,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use caps::{CapSet, CapsHashSet};
use nix::{
    sys::prctl,
    unistd::{Gid, Group, getegid, getgroups, setgroups},
};

use self::{capabilities::Need, threads::Shed};
use crate::{
    api::types::{SandboxState, SecurityStatus},
    config::{Api, Config, NotifyTarget, Sandbox},
    sources::{Kind, Listen},
    store::IN_MEMORY,
};

/// Whether programs that the daemon runs are to have less than the daemon.
static CONFINED: AtomicBool = AtomicBool::new(false);

/// What a configuration says that the sandbox depends on; it is settled at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    state: SandboxState,
    /// Sockets that the daemon makes, and may have to make again.
    sockets: BTreeSet<PathBuf>,
    /// Groups that they are opened to.
    groups: BTreeSet<String>,
    store: Option<PathBuf>,
    pin_dir: PathBuf,
}

impl Plan {
    /// What this configuration asks for.
    pub fn of(config: &Config) -> Self {
        let has_commands = config
            .notify
            .iter()
            .any(|notify| matches!(notify.target, NotifyTarget::Command(_)));
        let state = match config.security.sandbox {
            Sandbox::Off => SandboxState::Off,
            Sandbox::Auto if has_commands => SandboxState::Commands,
            Sandbox::Auto | Sandbox::On => SandboxState::On,
        };
        let mut sockets = BTreeSet::from([config.api.socket.clone()]);
        let mut groups = BTreeSet::from([group_of(config.api.group.as_ref())]);
        for (path, group) in syslog_sockets(config) {
            sockets.insert(path.clone());
            groups.insert(group);
        }
        let store = &config.store.path;
        Self {
            state,
            sockets,
            groups,
            store: (store != Path::new(IN_MEMORY)).then(|| store.clone()),
            pin_dir: config.xdp.pin_dir.clone(),
        }
    }

    /// The settings that ask for more than what was settled by this, which only a restart can give; or for less.
    pub fn outgrown_by(&self, config: &Config) -> [(&'static str, bool); 4] {
        let after = Self::of(config);
        let differs = self.state != after.state;
        // Between its two other states only the commands decide.
        let by_commands = differs
            && ![self.state, after.state].contains(&SandboxState::Off)
            && config.security.sandbox == Sandbox::Auto;
        let is_confined = self.state == SandboxState::On;
        [
            ("[security] sandbox", differs && !by_commands),
            ("[[notify]] command", by_commands),
            (
                "[[source]] syslog",
                is_confined && !after.sockets.is_subset(&self.sockets),
            ),
            (
                "[[source]] syslog_group",
                self.state != SandboxState::Off
                    && syslog_sockets(config).any(|(_, group)| !self.groups.contains(&group)),
            ),
        ]
    }
}

/// The sockets that messages of syslog are taken at, and the groups that they are opened to.
fn syslog_sockets(config: &Config) -> impl Iterator<Item = (&PathBuf, String)> {
    config.sources.iter().filter_map(|source| {
        let Kind::Syslog(syslog) = &source.reads.kind else {
            return None;
        };
        let Listen::Unix(path) = &syslog.listen else {
            return None;
        };
        Some((path, group_of(syslog.group.as_ref())))
    })
}

fn group_of(configured: Option<&String>) -> String {
    configured.map_or_else(|| Api::DEFAULT_GROUP.to_owned(), Clone::clone)
}

/// What the start has found.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// A dispatcher calls the program somewhere, or may have to be made.
    pub is_joined: bool,
    /// The store can be written.
    pub has_store: bool,
}

/// Gives up what is not needed any more, and says what that has come to.
pub fn enter(plan: &Plan, found: Found) -> SecurityStatus {
    let mut status = SecurityStatus {
        sandbox: plan.state,
        ..SecurityStatus::default()
    };
    match plan.state {
        SandboxState::Off => {}
        // Whoever set this has said what the commands may do, and they would lose what is given up here.
        SandboxState::Commands if has_no_new_privileges() => {}
        SandboxState::Commands => {
            join_groups(&plan.groups);
            shed(&Shed::own(kept(plan, found)));
        }
        SandboxState::On => {
            join_groups(&plan.groups);
            let kept = kept(plan, found);
            let ruleset = restrict_places(plan, found);
            let fd = ruleset.as_ref().map(OwnedFd::as_raw_fd);
            let is_done = shed(&Shed::for_good(kept, fd));
            status.landlock = fd.filter(|_| is_done).and_then(|_| places::version());
            status.seccomp = restrict_calls();
            CONFINED.store(true, Ordering::Relaxed);
        }
    }
    status.no_new_privileges = has_no_new_privileges();
    status.capabilities = names(&caps::read(None, CapSet::Permitted).unwrap_or_default());
    status
}

/// The capabilities that it has to keep.
fn kept(plan: &Plan, found: Found) -> u64 {
    let folders = plan.store.iter().chain(&plan.sockets);
    let mut folders = folders.filter_map(|path| path.parent());
    let needs = [
        (found.is_joined, Need::JoinsOthers),
        (folders.any(capabilities::is_others), Need::WritesForOthers),
        (!is_member_of_all(&plan.groups), Need::Chowns),
        (plan.state == SandboxState::Commands, Need::HasCommands),
    ];
    let needs = needs.into_iter().filter(|(is_so, _)| *is_so);
    capabilities::kept(needs.map(|(_, need)| need))
}

fn shed(shed: &Shed) -> bool {
    match threads::shed(shed) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(
                "cannot give up what root may do in all threads: {error}; the daemon goes on with it"
            );
            false
        }
    }
}

fn restrict_places(plan: &Plan, found: Found) -> Option<OwnedFd> {
    if places::version().is_none() {
        tracing::info!(
            "this kernel has no Landlock (Linux 5.13, and \"landlock\" in its parameter lsm=): what the daemon \
             may write is not restricted to its own folders"
        );
        return None;
    }
    if !found.has_store && plan.store.is_some() {
        // Its file system may be mounted later, and no rule can be made for what is not there.
        tracing::warn!(
            "what the daemon may write is not restricted to its own folders, since the store cannot be written; start it \
             again when it can"
        );
        return None;
    }
    let folder = plan.store.as_deref().and_then(Path::parent);
    if let Some(folder) = folder.filter(|folder| places::is_mounted(folder)) {
        // A disk that fails is mounted anew, and rules are for the file system that was there.
        tracing::info!(
            "what the daemon may write is not restricted to its own folders, since a file system is mounted at {}: when \
             it is mounted anew the store must be written there",
            folder.display()
        );
        return None;
    }
    match places::ruleset(plan) {
        Ok(ruleset) => ruleset,
        Err(error) => {
            tracing::warn!("cannot restrict what the daemon may write (Landlock): {error}");
            None
        }
    }
}

fn restrict_calls() -> bool {
    match calls::refuse() {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!("cannot refuse system calls that are not needed (seccomp): {error}");
            false
        }
    }
}

fn has_no_new_privileges() -> bool {
    prctl::get_no_new_privs().unwrap_or(false)
}

/// The names of capabilities, in the kernel's order.
fn names(capabilities: &CapsHashSet) -> Vec<String> {
    let mut sorted: Vec<_> = capabilities.iter().copied().collect();
    sorted.sort_unstable_by_key(caps::Capability::index);
    sorted.iter().map(ToString::to_string).collect()
}

/// Whoever is in a group may give it what he owns; others need `CAP_CHOWN` for that, and root's
/// would be enough to take over any file.
fn join_groups(groups: &BTreeSet<String>) {
    let (Ok(mut joined), own) = (getgroups(), getegid()) else {
        return;
    };
    let before = joined.len();
    for group in known(groups) {
        if group != own && !joined.contains(&group) {
            joined.push(group);
        }
    }
    if joined.len() == before {
        return;
    }
    if let Err(error) = setgroups(&joined) {
        tracing::debug!(%error, "cannot join the groups that sockets are opened to");
    }
}

fn is_member_of_all(groups: &BTreeSet<String>) -> bool {
    let joined = getgroups().unwrap_or_default();
    let own = getegid();
    known(groups).all(|group| group == own || joined.contains(&group))
}

/// Those that there are.
fn known(groups: &BTreeSet<String>) -> impl Iterator<Item = Gid> {
    let found = groups
        .iter()
        .filter_map(|name| Group::from_name(name).ok().flatten());
    found.map(|group| group.gid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn parsed(text: &str) -> Config {
        config::parse(text, Path::new("test.toml")).expect("a configuration")
    }

    fn outgrown(before: &str, after: &str) -> Vec<&'static str> {
        let outgrown = Plan::of(&parsed(before)).outgrown_by(&parsed(after));
        let outgrown = outgrown.into_iter().filter(|(_, is_so)| *is_so);
        outgrown.map(|(name, _)| name).collect()
    }

    const COMMAND: &str = "[[notify]]\nname = \"hook\"\ncommand = [\"/bin/true\"]\n";

    #[test]
    fn commands_keep_what_they_are_run_with_unless_the_configuration_says_otherwise() {
        let state = |sandbox: &str, rest: &str| {
            Plan::of(&parsed(&format!("{rest}\n[security]\n{sandbox}\n"))).state
        };
        assert_eq!(state("", ""), SandboxState::On);
        assert_eq!(state("", COMMAND), SandboxState::Commands);
        assert_eq!(state("sandbox = \"auto\"", COMMAND), SandboxState::Commands);
        assert_eq!(state("sandbox = \"on\"", COMMAND), SandboxState::On);
        assert_eq!(state("sandbox = \"off\"", ""), SandboxState::Off);
    }

    #[test]
    fn what_asks_for_more_or_less_than_was_given_up_waits_for_a_restart() {
        let off = "[security]\nsandbox = \"off\"\n";
        let on = "[security]\nsandbox = \"on\"\n";
        let syslog = "[[source]]\nname = \"s\"\nsyslog = \"/run/s.sock\"\nparser = \"json\"\n";
        assert!(outgrown("", "").is_empty());
        assert!(outgrown("", on).is_empty());
        assert_eq!(outgrown("", off), ["[security] sandbox"]);
        assert_eq!(outgrown(off, ""), ["[security] sandbox"]);
        assert_eq!(outgrown("", COMMAND), ["[[notify]] command"]);
        assert_eq!(outgrown(COMMAND, ""), ["[[notify]] command"]);
        let both = format!("{COMMAND}{on}");
        assert_eq!(outgrown(COMMAND, &both), ["[security] sandbox"]);
        assert!(outgrown("", &both).is_empty());
        assert_eq!(outgrown("", syslog), ["[[source]] syslog"]);
        assert!(outgrown(syslog, "").is_empty());
        assert!(outgrown(off, &format!("{off}{syslog}")).is_empty());
        let grouped = syslog.replace("parser", "syslog_group = \"adm\"\nparser");
        assert_eq!(outgrown(syslog, &grouped), ["[[source]] syslog_group"]);
        // That of the API is told by its own name.
        assert!(outgrown("", "[api]\ngroup = \"adm\"\n").is_empty());
    }
}
