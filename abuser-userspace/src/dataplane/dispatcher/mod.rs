//! abuser as one of several XDP programs on an interface: a component of a dispatcher, by the
//! protocol of libxdp.
//!
//! An interface has one XDP program. Under the protocol that is a dispatcher, which calls its
//! components one after the other. Whoever comes or goes builds a new dispatcher with all components,
//! puts it in the place of the old one at once, and then takes the old one apart. So abuser's program is
//! moved by others, too, and stays in force while they do; `Membership` is what the daemon knows of where it
//! is.
//!
//! Which components are abuser's is told by pins in its own folder: one for each program that it had made a
//! component, named after the interface's index and the program's id. The pin is made before the dispatcher
//! is on the interface, and removed after it is not. So wherever a crash cuts this short, the next start
//! finds every component that is its own, and puts its program in the place of them all.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `build` | a dispatcher, from its components to the interface |
//! | `folder` | where all who speak the protocol pin components, and the lock |
//! | `found` | what is on an interface |
//! | `member` | coming, going, and being moved |

mod build;
mod folder;
mod found;
mod member;

pub(crate) use self::folder::{PATIENCE, RETRY, root as pin_root};
pub use self::{
    build::OBJECT,
    folder::{Access, LockError},
    member::{Chain, Kept},
};
pub(super) use self::{
    found::Found,
    member::{Membership, Standing, join, leave},
};
