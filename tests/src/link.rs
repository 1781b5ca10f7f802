//! Interfaces inside namespaces: virtual cables, addresses, neighbours, XDP programs.

use std::{
    fs, io,
    net::{IpAddr, Ipv6Addr},
    os::fd::AsRawFd as _,
    thread,
    time::{Duration, Instant},
};

use abuser_netlink::request;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage},
    link::{
        InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp,
        State, XdpAttached,
    },
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
};

use crate::{Namespace, context};

/// How long the kernel may take to notice a cable or an address; it looks once a second at the latest.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// Lays a virtual Ethernet cable between two namespaces, both ends up and ready to carry frames.
///
/// Each end is made in its namespace from the start, so names never clash with the
/// machine's own. Names have at most 15 characters.
pub fn veth(
    a: &Namespace,
    name_a: &str,
    b: &Namespace,
    name_b: &str,
) -> io::Result<(Interface, Interface)> {
    let mut peer = LinkMessage::default();
    peer.attributes = vec![
        LinkAttribute::IfName(name_b.to_owned()),
        LinkAttribute::NetNsFd(b.fd().as_raw_fd()),
    ];
    let mut link = LinkMessage::default();
    link.attributes = vec![
        LinkAttribute::IfName(name_a.to_owned()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ];
    a.run(|| {
        request(
            RouteNetlinkMessage::NewLink(link),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    })
    .map_err(|error| {
        context(
            &error,
            format!("cannot make the veth pair {name_a}, {name_b} (is the kernel's veth there?)"),
        )
    })?;
    let ends = (a.interface(name_a)?, b.interface(name_b)?);
    ends.0.up()?;
    ends.1.up()?;
    for end in [&ends.0, &ends.1] {
        end.wait_until_operational()?;
    }
    Ok(ends)
}

/// Makes a bridge without ports: Ethernet, with no native XDP.
pub fn bridge(namespace: &Namespace, name: &str) -> io::Result<Interface> {
    let mut link = LinkMessage::default();
    link.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
    ];
    namespace
        .run(|| {
            request(
                RouteNetlinkMessage::NewLink(link),
                NLM_F_CREATE | NLM_F_EXCL,
            )
        })
        .map_err(|error| {
            context(
                &error,
                format!("cannot make the bridge {name} (is the kernel's bridge there?)"),
            )
        })?;
    let bridge = namespace.interface(name)?;
    bridge.up()?;
    Ok(bridge)
}

/// An XDP program that the kernel reports on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpAttachment {
    /// The program's id, as `bpftool prog` shows it.
    pub program_id: u32,
    /// In the driver, before a socket buffer exists; otherwise it is generic XDP.
    pub native: bool,
}

/// An interface inside a namespace.
#[derive(Clone, Debug)]
pub struct Interface {
    namespace: Namespace,
    name: String,
    index: u32,
    mac: [u8; 6],
}

impl Interface {
    pub(crate) fn find(namespace: Namespace, name: &str) -> io::Result<Self> {
        let mut interface = Self {
            namespace,
            name: name.to_owned(),
            index: 0,
            mac: [0; 6],
        };
        let link = interface.get()?;
        interface.index = link.header.index;
        for attribute in link.attributes {
            if let LinkAttribute::Address(address) = attribute {
                interface.mac = address.try_into().unwrap_or_default();
            }
        }
        Ok(interface)
    }

    /// The name, such as `veth-server`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of the interface within its namespace.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The hardware address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// The namespace that the interface is in.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Brings the interface up.
    pub fn up(&self) -> io::Result<()> {
        self.set_flags(LinkFlags::Up)
    }

    /// Waits until the kernel has taken note that the cable is in: until then it drops what is sent, and
    /// on a busy machine that may be the first packets of a test.
    fn wait_until_operational(&self) -> io::Result<()> {
        let up = LinkAttribute::OperState(State::Up);
        self.wait_until("operational", || Ok(self.get()?.attributes.contains(&up)))
    }

    /// Waits until the interface listens to who asks for the hardware address of `ip`. The kernel does
    /// so a moment after it has the address; who asks before asks again after a second.
    fn wait_until_solicited(&self, ip: Ipv6Addr) -> io::Result<()> {
        let [.., a, b, c] = ip.octets();
        // RFC 4291, 2.7.1: the solicited-node address.
        let group = format!("ff0200000000000000000001ff{a:02x}{b:02x}{c:02x}");
        self.wait_until("in the IPv6 group of its address", || {
            let read = || fs::read_to_string("/proc/thread-self/net/igmp6");
            let groups = self.namespace.run(read)?;
            Ok(groups.lines().any(|line| {
                let mut words = line.split_whitespace().skip(1);
                words.next() == Some(&self.name) && words.next() == Some(&group)
            }))
        })
    }

    fn wait_until(&self, what: &str, is_so: impl Fn() -> io::Result<bool>) -> io::Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        while !is_so()? {
            if Instant::now() > deadline {
                let name = &self.name;
                return Err(io::Error::other(format!(
                    "{name} is not {what} after {READY_WITHIN:?}"
                )));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Takes the interface down.
    pub fn down(&self) -> io::Result<()> {
        self.set_flags(LinkFlags::empty())
    }

    /// Sets the largest packet that the interface sends, in bytes.
    pub fn set_mtu(&self, mtu: u32) -> io::Result<()> {
        self.set(LinkAttribute::Mtu(mtu), "set the MTU of")
    }

    /// Gives the interface another name. It goes down and comes up again: kernels before 6.2
    /// rename no interface that is up.
    pub fn rename(&mut self, name: &str) -> io::Result<()> {
        self.down()?;
        self.set(LinkAttribute::IfName(name.to_owned()), "rename")?;
        name.clone_into(&mut self.name);
        self.up()
    }

    /// Moves the interface to another namespace, where it is down, without addresses, and may
    /// have another number.
    pub fn move_to(self, namespace: &Namespace) -> io::Result<Self> {
        self.set(LinkAttribute::NetNsFd(namespace.fd().as_raw_fd()), "move")?;
        namespace.interface(&self.name)
    }

    fn set(&self, attribute: LinkAttribute, verb: &str) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = self.index;
        link.attributes = vec![attribute];
        self.request(RouteNetlinkMessage::SetLink(link), 0, verb)?;
        Ok(())
    }

    fn set_flags(&self, flags: LinkFlags) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = self.index;
        link.header.flags = flags;
        link.header.change_mask = LinkFlags::Up;
        self.request(RouteNetlinkMessage::SetLink(link), 0, "change")?;
        Ok(())
    }

    /// Adds an IPv4 or IPv6 address with its prefix, such as `192.0.2.1/24`; usable at once.
    ///
    /// # Panics
    /// If the text is not an address with a prefix length.
    pub fn add_address(&self, address: &str) -> io::Result<()> {
        let (ip, prefix_len) = parse_prefix(address);
        let mut message = AddressMessage::default();
        message.header.family = family(ip);
        message.header.prefix_len = prefix_len;
        message.header.flags = AddressHeaderFlags::Nodad;
        message.header.index = self.index;
        message.attributes = vec![
            AddressAttribute::Address(ip),
            AddressAttribute::Local(ip),
            AddressAttribute::Flags(AddressFlags::Nodad),
        ];
        self.request(
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_CREATE | NLM_F_EXCL,
            &format!("add the address {address} to"),
        )?;
        let IpAddr::V6(ip) = ip else {
            return Ok(());
        };
        let flags = self.get()?.header.flags;
        // Nobody asks for the address of a loopback, or of who is not there.
        if flags.contains(LinkFlags::Loopback) || !flags.contains(LinkFlags::Up) {
            return Ok(());
        }
        self.wait_until_solicited(ip)
    }

    /// Fixes the hardware address behind `ip`, so that no ARP or neighbour discovery is
    /// needed: for sources that exist only in forged packets.
    pub fn set_neighbour(&self, ip: IpAddr, mac: [u8; 6]) -> io::Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(ip);
        message.header.ifindex = self.index;
        message.header.state = NeighbourState::Permanent;
        message.attributes = vec![
            NeighbourAttribute::Destination(match ip {
                IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
                IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
            }),
            NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
        ];
        self.request(
            RouteNetlinkMessage::NewNeighbour(message),
            NLM_F_CREATE | NLM_F_REPLACE,
            &format!("set the neighbour {ip} of"),
        )?;
        Ok(())
    }

    /// Deletes the interface, and with it a veth's other end.
    pub fn delete(self) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = self.index;
        self.request(RouteNetlinkMessage::DelLink(link), 0, "delete")?;
        Ok(())
    }

    /// The XDP program on the interface, if the kernel reports one.
    pub fn xdp(&self) -> io::Result<Option<XdpAttachment>> {
        let attributes = self
            .get()?
            .attributes
            .into_iter()
            .find_map(|attribute| match attribute {
                LinkAttribute::Xdp(xdp) => Some(xdp),
                _ => None,
            });
        let attributes = attributes.unwrap_or_default();
        let native = attributes
            .iter()
            .any(|xdp| matches!(xdp, LinkXdp::Attached(XdpAttached::Driver)));
        Ok(attributes.into_iter().find_map(|xdp| match xdp {
            LinkXdp::ProgId(program_id) => Some(XdpAttachment { program_id, native }),
            _ => None,
        }))
    }

    /// Takes off the XDP program that runs in the driver, as `ip link set dev NAME xdpdrv off` does.
    pub fn take_xdp_off(&self) -> io::Result<()> {
        // linux/if_link.h: XDP_FLAGS_DRV_MODE
        const DRV_MODE: u32 = 1 << 2;
        let xdp = vec![LinkXdp::Fd(-1), LinkXdp::Flags(DRV_MODE)];
        let mut link = LinkMessage::default();
        link.header.index = self.index;
        link.attributes.push(LinkAttribute::Xdp(xdp));
        self.request(RouteNetlinkMessage::SetLink(link), 0, "take XDP off")?;
        Ok(())
    }

    /// Packets that the interface has received, as the kernel counts them.
    pub fn received(&self) -> io::Result<u64> {
        self.get()?
            .attributes
            .into_iter()
            .find_map(|attribute| match attribute {
                LinkAttribute::Stats64(stats) => Some(stats.rx_packets),
                _ => None,
            })
            .ok_or_else(|| io::Error::other(format!("no statistics of interface {}", self.name)))
    }

    fn get(&self) -> io::Result<LinkMessage> {
        let mut link = LinkMessage::default();
        link.attributes = vec![LinkAttribute::IfName(self.name.clone())];
        self.request(RouteNetlinkMessage::GetLink(link), 0, "find")?
            .into_iter()
            .find_map(|answer| match answer {
                RouteNetlinkMessage::NewLink(link) => Some(link),
                _ => None,
            })
            .ok_or_else(|| io::Error::other(format!("no answer about interface {}", self.name)))
    }

    fn request(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
        verb: &str,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.namespace
            .run(|| request(message, flags))
            .map_err(|error| context(&error, format!("cannot {verb} interface {}", self.name)))
    }
}

fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn parse_prefix(text: &str) -> (IpAddr, u8) {
    text.split_once('/')
        .and_then(|(ip, length)| Some((ip.parse().ok()?, length.parse().ok()?)))
        .unwrap_or_else(|| panic!("{text} is not an address with a prefix length"))
}
