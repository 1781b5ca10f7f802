//! What the kernel says of network interfaces, through netlink.

use abuser_common::layout::PROGRAM;
use aya::programs::loaded_programs;
use futures_util::TryStreamExt as _;
use nix::errno::Errno;
use rtnetlink::{
    Error, LinkGetRequest,
    packet_route::link::{
        LinkAttribute, LinkFlags, LinkLayerType, LinkMessage, LinkXdp, XdpAttached,
    },
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
    /// Whether it is switched on.
    pub up: bool,
    /// The largest packet that it sends, in bytes.
    pub mtu: u32,
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

    /// The connection itself, for what else the kernel can be asked.
    pub(crate) fn handle(&self) -> &rtnetlink::Handle {
        &self.handle
    }

    /// The interface with this name.
    pub async fn interface(&self, name: &str) -> Result<Interface, DataplaneError> {
        // All of them in one dump: the error names the ones that exist.
        let links = all(self.handle.link().get()).await?;
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

    /// The interface with this name, if it is there; an alternative name does not count.
    pub async fn by_name(&self, name: &str) -> Result<Option<Interface>, DataplaneError> {
        let found = one(self.handle.link().get().match_name(name)).await?;
        Ok(found.filter(|interface| interface.name == name))
    }

    /// Names of the interfaces that a program of abuser's is on by itself, whoever put it there.
    pub async fn with_own_program(&self) -> Result<Vec<String>, DataplaneError> {
        let links = all(self.handle.link().get()).await?;
        let has_own = |link: &Interface| {
            link.xdp
                .is_some_and(|xdp| program_name(xdp.program) == PROGRAM)
        };
        let found = links.iter().filter_map(interface).filter(has_own);
        Ok(found.map(|interface| interface.name).collect())
    }

    /// The interface with this index, if it is there.
    pub async fn by_index(&self, index: u32) -> Result<Option<Interface>, DataplaneError> {
        one(self.handle.link().get().match_index(index)).await
    }

    /// Indexes of the interfaces that have the one with this index for their controller.
    pub async fn ports(&self, controller: u32) -> Result<Vec<u32>, DataplaneError> {
        let is_port = |link: &LinkMessage| {
            let mut attributes = link.attributes.iter();
            attributes.any(|attribute| *attribute == LinkAttribute::Controller(controller))
        };
        // The kernel is asked for these alone, since there may be thousands of others.
        let mut request = self.handle.link().get();
        let message = request.message_mut();
        message
            .attributes
            .push(LinkAttribute::Controller(controller));
        let links = all(request).await?;
        let ports = links.iter().filter(|link| is_port(link));
        Ok(ports.map(|link| link.header.index).collect())
    }
}

/// All that the kernel answers.
async fn all(request: LinkGetRequest) -> Result<Vec<LinkMessage>, DataplaneError> {
    let links = request.execute().try_collect().await;
    links.map_err(|error: Error| DataplaneError::Netlink(chain(&error)))
}

async fn one(request: LinkGetRequest) -> Result<Option<Interface>, DataplaneError> {
    match request.execute().try_next().await {
        Ok(link) => Ok(link.as_ref().and_then(interface)),
        Err(Error::NetlinkError(error)) if error.raw_code() == -(Errno::ENODEV as i32) => Ok(None),
        Err(error) => Err(DataplaneError::Netlink(chain(&error))),
    }
}

/// The name that a message about an interface gives it.
pub(crate) fn name(link: &LinkMessage) -> Option<String> {
    let mut attributes = link.attributes.iter();
    attributes.find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}

fn interface(link: &LinkMessage) -> Option<Interface> {
    let name = name(link)?;
    let mtu = link
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        });
    Some(Interface {
        name,
        index: link.header.index,
        ethernet: matches!(
            link.header.link_layer_type,
            LinkLayerType::Ether | LinkLayerType::Loopback
        ),
        up: link.header.flags.contains(LinkFlags::Up),
        mtu: mtu.unwrap_or_default(),
        xdp: attached_to(link),
    })
}

/// The program that a message about an interface says is on it.
pub(super) fn attached_to(link: &LinkMessage) -> Option<AttachedXdp> {
    let mut attributes = link.attributes.iter();
    attributes.find_map(|attribute| match attribute {
        LinkAttribute::Xdp(xdp) => attached(xdp),
        _ => None,
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
