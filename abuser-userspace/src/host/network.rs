//! Own addresses and gateways, as the kernel tells them.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use futures_util::TryStreamExt as _;
use rtnetlink::{
    RouteMessageBuilder,
    packet_route::{
        address::AddressAttribute,
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteVia},
    },
};

use super::Role;
use crate::dataplane::{
    DataplaneError,
    error::chain,
    interfaces::{self, Netlink},
};

/// Every address of this network namespace, and every next hop.
pub(super) async fn read(netlink: &Netlink) -> Result<Vec<(IpAddr, Role)>, DataplaneError> {
    let handle = netlink.handle();
    let error = |error: rtnetlink::Error| DataplaneError::Netlink(chain(&error));
    let mut names = HashMap::new();
    let mut links = handle.link().get().execute();
    while let Some(link) = links.try_next().await.map_err(error)? {
        names.insert(
            link.header.index,
            interfaces::name(&link).unwrap_or_default(),
        );
    }
    let name = |index: u32| {
        let known = names.get(&index).cloned();
        known.unwrap_or_else(|| format!("interface {index}"))
    };
    let mut found = Vec::new();
    let mut addresses = handle.address().get().execute();
    while let Some(message) = addresses.try_next().await.map_err(error)? {
        // On a point-to-point link `Address` is the other end's.
        let local = message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                AddressAttribute::Local(address) => Some(*address),
                _ => None,
            });
        let address = message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            });
        if let Some(address) = local.or(address) {
            found.push((address, Role::Own(name(message.header.index))));
        }
    }
    let v4 = RouteMessageBuilder::<std::net::Ipv4Addr>::new().build();
    let v6 = RouteMessageBuilder::<std::net::Ipv6Addr>::new().build();
    for family in [v4, v6] {
        let mut routes = handle.route().get(family).execute();
        // A router may have a million routes, by a few hops.
        let mut hops = BTreeSet::new();
        while let Some(route) = routes.try_next().await.map_err(error)? {
            hops.extend(gateways(&route));
        }
        let hops = hops.into_iter();
        found.extend(hops.map(|(address, index)| (address, Role::Gateway(name(index)))));
    }
    Ok(found)
}

/// The next hops of a route, and the interfaces that they are behind.
fn gateways(route: &RouteMessage) -> Vec<(IpAddr, u32)> {
    let mut found: Vec<_> = next_hop(&route.attributes, 0).into_iter().collect();
    for attribute in &route.attributes {
        if let RouteAttribute::MultiPath(hops) = attribute {
            let hops = hops.iter();
            found.extend(hops.filter_map(|hop| next_hop(&hop.attributes, hop.interface_index)));
        }
    }
    found
}

fn next_hop(attributes: &[RouteAttribute], index: u32) -> Option<(IpAddr, u32)> {
    let interface = attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    });
    let address = attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(address))
        | RouteAttribute::Via(RouteVia::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Gateway(RouteAddress::Inet6(address))
        | RouteAttribute::Via(RouteVia::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })?;
    Some((address, interface.unwrap_or(index)))
}
