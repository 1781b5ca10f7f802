//! What the kernel says of network interfaces, through netlink.

use aya::programs::loaded_programs;
use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::link::{
    LinkAttribute, LinkLayerType, LinkMessage, LinkXdp, XdpAttached,
};

use super::error::{DataplaneError, chain};

/// A connection to the kernel's routing netlink.
pub struct Netlink {
    handle: rtnetlink::Handle,
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Whether its frames begin with an Ethernet header, as the program expects.
    pub ethernet: bool,
    /// The XDP program that is on it, if any.
    pub xdp: Option<AttachedXdp>,
}

/// An XDP program on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachedXdp {
    /// The program's id.
    pub program: u32,
    /// Whether the network stack runs it instead of the driver.
    pub generic: bool,
}

impl Netlink {
    /// Connects. Must be called within a tokio runtime.
    pub fn connect() -> Result<Self, DataplaneError> {
        let (connection, handle, _) = rtnetlink::new_connection()
            .map_err(|error| DataplaneError::Netlink(error.to_string()))?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// The interface with this name.
    pub async fn interface(&self, name: &str) -> Result<Interface, DataplaneError> {
        // All of them in one dump: the error names the ones that exist.
        let links: Vec<LinkMessage> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|error| DataplaneError::Netlink(chain(&error)))?;
        let interfaces: Vec<_> = links.iter().filter_map(interface).collect();
        interfaces
            .iter()
            .find(|interface| interface.name == name)
            .cloned()
            .ok_or_else(|| {
                let existing: Vec<_> = interfaces.iter().map(|i| i.name.as_str()).collect();
                DataplaneError::NoInterface {
                    name: name.to_owned(),
                    existing: existing.join(", "),
                }
            })
    }
}

fn interface(link: &LinkMessage) -> Option<Interface> {
    let name = link
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        })?;
    let xdp = link
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Xdp(xdp) => attached(xdp),
            _ => None,
        });
    Some(Interface {
        name,
        index: link.header.index,
        ethernet: matches!(
            link.header.link_layer_type,
            LinkLayerType::Ether | LinkLayerType::Loopback
        ),
        xdp,
    })
}

fn attached(xdp: &[LinkXdp]) -> Option<AttachedXdp> {
    let generic = xdp
        .iter()
        .any(|xdp| matches!(xdp, LinkXdp::Attached(XdpAttached::SocketBuffer)));
    let program = xdp.iter().find_map(|xdp| match xdp {
        LinkXdp::ProgId(id)
        | LinkXdp::DrvProgId(id)
        | LinkXdp::SkbProgId(id)
        | LinkXdp::HwProgId(id)
            if *id != 0 =>
        {
            Some(*id)
        }
        _ => None,
    })?;
    Some(AttachedXdp { program, generic })
}

/// The name of the loaded program with this id; empty if it is gone or has none.
pub fn program_name(id: u32) -> String {
    loaded_programs()
        .filter_map(Result::ok)
        .find(|program| program.id() == id)
        .and_then(|program| program.name_as_str().map(str::to_owned))
        .unwrap_or_default()
}
