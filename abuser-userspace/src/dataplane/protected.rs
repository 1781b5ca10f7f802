//! The interfaces that are to be protected, those that are, and how one comes after the other
//! while interfaces come and go.
//!
//! What is configured is a name. The interface that bears it is attached to; if it vanishes,
//! the name is waited for. An interface that is renamed keeps its filter, because its packets
//! are still those that were to be filtered, and an interface that takes over the name gets
//! one, too. One that moves to another network namespace is let go.

use std::time::{Duration, Instant};

use super::{
    attach::{self, Attachment, mode_name},
    dispatcher::{Access, PATIENCE, RETRY, Standing},
    error::DataplaneError,
    interfaces::{Interface, Netlink},
    outcomes::PacketCounters,
    pins::PinDir,
    program::Programs,
};
use crate::config::How;

/// How long whoever has switched a dispatcher off may take to remove its pins. libxdp does so only then, and
/// fails if somebody else was faster.
const APART: Duration = Duration::from_secs(1);

/// The attachments, and the names that they are made for.
#[derive(Debug, Default)]
pub struct Protected {
    wanted: Vec<Wanted>,
    attachments: Vec<Attachment>,
    /// Those whose interface has let them go, and that are to be cleared away, since then.
    lost: Vec<(Attachment, Instant)>,
    /// When to look again.
    retry: Option<Instant>,
    how: How,
}

/// A name that is to be protected.
#[derive(Debug)]
struct Wanted {
    name: String,
    /// The last interface of this name that could not be attached to, and why. It is tried
    /// again when it has changed.
    refused: Option<(Interface, String)>,
    /// Since when somebody else's lock is in the way.
    waiting: Option<Instant>,
}

/// How it stands with one interface.
#[derive(Debug, Clone, Copy)]
pub enum Protection<'a> {
    /// The program is on it.
    Attached(&'a Attachment),
    /// There is no interface of this name.
    Missing {
        /// The configured name.
        name: &'a str,
    },
    /// There is one that could not be attached to.
    Refused {
        /// The interface.
        interface: &'a Interface,
        /// Why not.
        error: &'a str,
    },
}

impl Protected {
    /// Attaches to interfaces that are usable, as at the start. Those before the first that
    /// fails stay attached.
    pub fn attach(
        &mut self,
        programs: &mut Programs,
        pins: &PinDir,
        packets: &mut PacketCounters,
        interfaces: &[Interface],
        how: How,
        access: &mut Access,
    ) -> Result<(), DataplaneError> {
        self.how = how;
        for interface in interfaces {
            let attachment = attach_counted(programs, pins, packets, interface, how, access)?;
            self.attachments.push(attachment);
            self.wanted.push(Wanted {
                name: interface.name.clone(),
                refused: None,
                waiting: None,
            });
        }
        Ok(())
    }

    /// Clears away what earlier daemons left that this one does not go on with: links of interfaces
    /// that it does not protect, and all that is of another layout. From here on there is no way
    /// back to that.
    pub fn settle(&mut self, pins: &PinDir) {
        attach::forget_stale(pins, &self.attachments);
        for layout in pins.others() {
            let moved = self.attachments.iter();
            let moved = moved.filter(|a| a.other_layout() == Some(layout.version()));
            let names: Vec<_> = moved.map(|a| a.name.as_str()).collect();
            layout.clear();
            if names.is_empty() {
                tracing::info!("cleared away what layout v{} had left", layout.version());
            } else {
                let names = names.join(", ");
                tracing::info!("took over from layout v{} on {names}", layout.version());
            }
        }
        for attachment in &mut self.attachments {
            attachment.settle(pins);
        }
    }

    /// The attachments.
    pub fn attachments(&self) -> &[Attachment] {
        &self.attachments
    }

    /// The attachments, to have them pinned.
    pub(super) fn attachments_mut(&mut self) -> &mut [Attachment] {
        &mut self.attachments
    }

    /// The names that are to be protected.
    pub fn wanted(&self) -> Vec<String> {
        self.wanted
            .iter()
            .map(|wanted| wanted.name.clone())
            .collect()
    }

    /// Takes all attachments out, those that were lost among them.
    pub fn take_attachments(&mut self) -> Vec<Attachment> {
        let lost = self.lost.drain(..).map(|(attachment, _)| attachment);
        self.attachments.drain(..).chain(lost).collect()
    }

    /// Whether there is nothing to protect and nothing to wait for.
    pub fn is_empty(&self) -> bool {
        self.attachments.is_empty() && self.wanted.is_empty()
    }

    /// How it stands with each interface: the attachments, then the names without one.
    pub fn states(&self) -> impl Iterator<Item = Protection<'_>> {
        let attached = self.attachments.iter().map(Protection::Attached);
        let others = self
            .wanted
            .iter()
            .filter_map(|wanted| match &wanted.refused {
                Some((interface, error)) => Some(Protection::Refused { interface, error }),
                None if self.covers(&wanted.name) => None,
                None => Some(Protection::Missing { name: &wanted.name }),
            });
        attached.chain(others)
    }

    /// Takes the lock that [`Protected::detach`] will want for one of these interfaces, so that nothing has
    /// changed if somebody else has it.
    pub fn prepare_detach<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
        access: &mut Access,
    ) -> Result<(), DataplaneError> {
        let attached = names.into_iter().filter_map(|name| self.position(name));
        let component = attached
            .filter_map(|position| self.attachments.get(position))
            .find(|attachment| attachment.is_component());
        component.map_or(Ok(()), |component| component.prepare_detach(access))
    }

    /// Where the attachment is that goes by this name.
    fn position(&self, name: &str) -> Option<usize> {
        let mut attachments = self.attachments.iter();
        attachments
            .position(|attachment| attachment.name == name)
            .or_else(|| self.attachments.iter().position(|a| a.configured == name))
    }

    /// Gives up one interface by its name, or a name that is waited for; `false` if it is
    /// neither. An error says why the program is still on it; then it is not given up.
    pub fn detach(
        &mut self,
        name: &str,
        packets: &mut PacketCounters,
        access: &mut Access,
    ) -> Result<bool, DataplaneError> {
        let position = self.position(name);
        let given_up = if let Some(position) = position {
            let attachment = self.attachments.swap_remove(position);
            let configured = attachment.configured.clone();
            let index = attachment.index;
            if let Err(kept) = attachment.detach(access) {
                let (attachment, error) = *kept;
                self.attachments.push(attachment);
                return Err(error);
            }
            packets.end(index);
            configured
        } else {
            name.to_owned()
        };
        let before = self.wanted.len();
        if !self.covers(&given_up) {
            self.wanted.retain(|wanted| wanted.name != given_up);
        }
        Ok(position.is_some() || self.wanted.len() < before)
    }

    /// When to [`Protected::follow`] again although nothing has changed, because somebody else's lock was
    /// in the way.
    pub fn retry(&self) -> Option<Instant> {
        self.retry
    }

    /// Notes whether somebody else's lock was in the way, and not for long.
    fn note_retry(&mut self) {
        let lost = self.lost.iter();
        let lost = lost.map(|(attachment, since)| (is_taken_apart(attachment, *since), *since));
        let waiting = self.wanted.iter().filter_map(|wanted| wanted.waiting);
        let now = Instant::now();
        self.retry = lost
            .chain(waiting.map(|since| (false, since)))
            .filter(|(_, since)| now.duration_since(*since) < PATIENCE)
            .map(|(taken_apart, since)| {
                if taken_apart {
                    since + APART
                } else {
                    now + RETRY
                }
            })
            .min();
    }

    /// Brings the attachments in line with the interfaces that there are now. Says whether any
    /// came, went or changed its name; what cannot be attached to is logged once.
    pub async fn follow(
        &mut self,
        programs: &mut Programs,
        pins: &PinDir,
        netlink: &Netlink,
        packets: &mut PacketCounters,
    ) -> Result<bool, DataplaneError> {
        self.retry = None;
        let mut changed = false;
        // Whatever the kernel cannot be asked about stays as it is.
        let mut now = Vec::new();
        for attachment in &self.attachments {
            now.push(netlink.by_index(attachment.index).await?);
        }
        let mut named = Vec::new();
        for wanted in &self.wanted {
            named.push(netlink.by_name(&wanted.name).await?);
        }

        // The engine has more to do than to wait for whoever changes dispatchers.
        let mut access = Access::at_once();
        let attachments = std::mem::take(&mut self.attachments);
        for (mut attachment, interface) in attachments.into_iter().zip(now) {
            let on = still_on(&mut attachment, interface.as_ref(), &mut access);
            let Some((interface, moved)) = on else {
                packets.end(attachment.index);
                self.lost.push((attachment, Instant::now()));
                changed = true;
                continue;
            };
            changed |= moved;
            changed |= self.rename(&mut attachment, &interface.name);
            self.attachments.push(attachment);
        }
        self.clear_lost(&mut access);

        for position in 0..self.wanted.len() {
            let interface = named.get_mut(position).and_then(Option::take);
            changed |= self.seek(position, interface, programs, pins, packets, &mut access);
        }
        self.note_retry();
        if let Err(error) = self.follow_ports(netlink, packets).await {
            tracing::warn!(%error, "cannot tell which interfaces are ports of others; their packets are counted apart");
        }
        Ok(changed)
    }

    /// Finds out which interfaces run the program for another, as the ports of a bond do. None does in
    /// generic mode.
    async fn follow_ports(
        &self,
        netlink: &Netlink,
        packets: &mut PacketCounters,
    ) -> Result<(), DataplaneError> {
        for attachment in self.attachments.iter().filter(|a| !a.generic) {
            let ports = netlink.ports(attachment.index).await?;
            packets.set_ports(attachment.index, &ports);
        }
        Ok(())
    }

    /// Clears away what those left that were lost.
    fn clear_lost(&mut self, access: &mut Access) {
        for (attachment, since) in std::mem::take(&mut self.lost) {
            if is_taken_apart(&attachment, since) {
                self.lost.push((attachment, since));
                continue;
            }
            let Err(kept) = attachment.detach(access) else {
                continue;
            };
            let (attachment, error) = *kept;
            if error.is_passing() && since.elapsed() < PATIENCE {
                self.lost.push((attachment, since));
            } else {
                tracing::error!(
                    interface = attachment.name,
                    "{error}; `abuser detach` clears it away, too"
                );
            }
        }
    }

    /// Attaches to the interface that bears a wanted name, unless that is done already.
    fn seek(
        &mut self,
        position: usize,
        interface: Option<Interface>,
        programs: &mut Programs,
        pins: &PinDir,
        packets: &mut PacketCounters,
        access: &mut Access,
    ) -> bool {
        let Self {
            wanted,
            attachments,
            lost,
            how,
            ..
        } = self;
        let Some(wanted) = wanted.get_mut(position) else {
            return false;
        };
        let Some(interface) = interface else {
            wanted.refused = None;
            return false;
        };
        if attachments.iter().any(|a| a.index == interface.index) {
            wanted.refused = None;
            return false;
        }
        // It is attached to again when what it left there is cleared away.
        let is_on_it = |lost: &Attachment| lost.is_component() && lost.index == interface.index;
        if lost.iter().any(|(lost, _)| is_on_it(lost)) {
            return false;
        }
        let waiting = wanted.waiting.take();
        if waiting.is_none()
            && matches!(&wanted.refused, Some((refused, _)) if *refused == interface)
        {
            return false;
        }
        let attached = attach::check_usable(pins, &interface, *how)
            .and_then(|()| attach_counted(programs, pins, packets, &interface, *how, access));
        match attached {
            Ok(attachment) => {
                tracing::info!(
                    interface = attachment.name,
                    index = attachment.index,
                    "protecting {} again ({})",
                    attachment.name,
                    mode_name(attachment.generic)
                );
                attachments.push(attachment);
                wanted.refused = None;
                true
            }
            Err(error) => {
                if error.is_passing() {
                    let since = *wanted.waiting.insert(waiting.unwrap_or_else(Instant::now));
                    if since.elapsed() < PATIENCE {
                        return false;
                    }
                }
                let error = error.to_string();
                if !matches!(&wanted.refused, Some((_, told)) if *told == error) {
                    tracing::error!(
                        interface = interface.name,
                        "{} is not protected: {error}; trying again when it changes",
                        interface.name
                    );
                }
                wanted.refused = Some((interface, error));
                false
            }
        }
    }

    /// Notes the name that an attachment's interface has now.
    fn rename(&self, attachment: &mut Attachment, name: &str) -> bool {
        if attachment.name == name {
            return false;
        }
        tracing::warn!(
            interface = name,
            "interface {} is now called {name}; its packets are filtered as before",
            attachment.name
        );
        name.clone_into(&mut attachment.name);
        if self.wanted.iter().any(|wanted| wanted.name == name) {
            name.clone_into(&mut attachment.configured);
        }
        true
    }

    /// Whether an attachment was made for this name.
    fn covers(&self, name: &str) -> bool {
        self.attachments.iter().any(|a| a.configured == name)
    }
}

/// Attaches to an interface whose packets are counted by themselves from the first one on.
fn attach_counted(
    programs: &mut Programs,
    pins: &PinDir,
    packets: &mut PacketCounters,
    interface: &Interface,
    how: How,
    access: &mut Access,
) -> Result<Attachment, DataplaneError> {
    let goes_on = attach::is_left_on(pins, interface);
    packets.begin(interface.index, goes_on)?;
    let attached = attach::attach(programs, pins, interface, how, access);
    // If it fails, what an earlier daemon left stays on, and goes on counting.
    if attached.is_err() && !goes_on {
        packets.take_back(interface.index);
    }
    attached
}

/// Whether others may be taking apart the dispatcher that this was in.
fn is_taken_apart(lost: &Attachment, since: Instant) -> bool {
    lost.is_component() && since.elapsed() < APART
}

/// The interface of an attachment, if the program is still on it, and whether it was moved there.
fn still_on<'a>(
    attachment: &mut Attachment,
    interface: Option<&'a Interface>,
    access: &mut Access,
) -> Option<(&'a Interface, bool)> {
    let name = &attachment.name;
    let Some(interface) = interface else {
        tracing::warn!(
            interface = name,
            "interface {name} is gone; {} is protected again as soon as there is one",
            attachment.configured
        );
        return None;
    };
    match attachment.standing(interface, access) {
        Standing::Same => Some((interface, false)),
        Standing::Moved => {
            tracing::info!(
                interface = attachment.name,
                "another XDP program came or went on {}; abuser's is called as before",
                attachment.name
            );
            Some((interface, true))
        }
        // The name may be another's by now.
        Standing::Out => {
            let name = &attachment.name;
            tracing::warn!(
                interface = name,
                "the XDP program on interface {name} (index {}) is not abuser's any more",
                attachment.index
            );
            None
        }
    }
}
