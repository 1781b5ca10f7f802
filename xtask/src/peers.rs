//! Getting the programs of others that the tests run, [`testkit::peers::PEERS`], and the Debian that
//! the package is installed on.

use anyhow::{Context as _, Result};
use testkit::{
    machine,
    peers::{self, PEERS, Way},
};

use crate::debian;

/// Gets those that are missing, where that is known how; a test that lacks its program says so.
pub(crate) fn ensure() -> Result<()> {
    if !debian::is_here() {
        return Ok(());
    }
    let install = missing(Way::Installed);
    if !install.is_empty() {
        debian::install(&install).with_context(|| format!("install {}", install.join(", ")))?;
    }
    let unpack = missing(Way::Unpacked);
    if !unpack.is_empty() {
        let folder = peers::folder();
        debian::unpack(&unpack, &folder)
            .with_context(|| format!("unpack {} into {}", unpack.join(", "), folder.display()))?;
    }
    let tree = machine::tree();
    if !tree.exists() {
        debian::make_tree(&tree).with_context(|| format!("make {}", tree.display()))?;
    }
    Ok(())
}

/// The packages of those that are not there.
fn missing(way: Way) -> Vec<&'static str> {
    let mut packages: Vec<_> = PEERS
        .iter()
        .filter(|peer| peer.way == way && peer.find().is_none())
        .map(|peer| peer.package)
        .collect();
    packages.dedup();
    packages
}
