//! The interfaces that are to be protected, those that are, and how one comes after the other
//! while interfaces come and go.
//!
//! What is configured is a name. The interface that bears it is attached to; if it vanishes,
//! the name is waited for. An interface that is renamed keeps its filter, because its packets
//! are still those that were to be filtered, and an interface that takes over the name gets
//! one, too. One that moves to another network namespace is let go.

use super::{
    attach::{self, Attachment, mode_name},
    dispatcher::Standing,
    error::DataplaneError,
    interfaces::{Interface, Netlink},
    pins::PinDir,
    program::Programs,
};
use crate::config::How;

/// The attachments, and the names that they are made for.
#[derive(Debug, Default)]
pub struct Protected {
    wanted: Vec<Wanted>,
    attachments: Vec<Attachment>,
    how: How,
}

/// A name that is to be protected.
#[derive(Debug)]
struct Wanted {
    name: String,
    /// The last interface of this name that could not be attached to, and why. It is tried
    /// again when it has changed.
    refused: Option<(Interface, String)>,
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
        interfaces: &[Interface],
        how: How,
    ) -> Result<(), DataplaneError> {
        self.how = how;
        for interface in interfaces {
            let attachment = attach::attach(programs, pins, interface, how)?;
            self.attachments.push(attachment);
            self.wanted.push(Wanted {
                name: interface.name.clone(),
                refused: None,
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

    /// The names that are to be protected.
    pub fn wanted(&self) -> Vec<String> {
        self.wanted
            .iter()
            .map(|wanted| wanted.name.clone())
            .collect()
    }

    /// Takes all attachments out.
    pub fn take_attachments(&mut self) -> Vec<Attachment> {
        std::mem::take(&mut self.attachments)
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

    /// Gives up one interface by its name, or a name that is waited for; `false` if it is
    /// neither.
    pub fn detach(&mut self, name: &str) -> bool {
        let position = self
            .attachments
            .iter()
            .position(|attachment| attachment.name == name)
            .or_else(|| self.attachments.iter().position(|a| a.configured == name));
        let given_up = if let Some(position) = position {
            let attachment = self.attachments.swap_remove(position);
            let configured = attachment.configured.clone();
            attachment.detach();
            configured
        } else {
            name.to_owned()
        };
        let before = self.wanted.len();
        if !self.covers(&given_up) {
            self.wanted.retain(|wanted| wanted.name != given_up);
        }
        position.is_some() || self.wanted.len() < before
    }

    /// Brings the attachments in line with the interfaces that there are now. Says whether any
    /// came, went or changed its name; what cannot be attached to is logged once.
    pub async fn follow(
        &mut self,
        programs: &mut Programs,
        pins: &PinDir,
        netlink: &Netlink,
    ) -> Result<bool, DataplaneError> {
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

        let attachments = std::mem::take(&mut self.attachments);
        for (mut attachment, interface) in attachments.into_iter().zip(now) {
            let Some((interface, moved)) = still_on(&mut attachment, interface.as_ref()) else {
                attachment.detach();
                changed = true;
                continue;
            };
            changed |= moved;
            changed |= self.rename(&mut attachment, &interface.name);
            self.attachments.push(attachment);
        }

        for position in 0..self.wanted.len() {
            let interface = named.get_mut(position).and_then(Option::take);
            changed |= self.seek(position, interface, programs, pins);
        }
        Ok(changed)
    }

    /// Attaches to the interface that bears a wanted name, unless that is done already.
    fn seek(
        &mut self,
        position: usize,
        interface: Option<Interface>,
        programs: &mut Programs,
        pins: &PinDir,
    ) -> bool {
        let Self {
            wanted,
            attachments,
            how,
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
        if matches!(&wanted.refused, Some((refused, _)) if *refused == interface) {
            return false;
        }
        let attached = attach::check_usable(pins, &interface, *how)
            .and_then(|()| attach::attach(programs, pins, &interface, *how));
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

/// The interface of an attachment, if the program is still on it, and whether it was moved there.
fn still_on<'a>(
    attachment: &mut Attachment,
    interface: Option<&'a Interface>,
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
    match attachment.standing(interface) {
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
