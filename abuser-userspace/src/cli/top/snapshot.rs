//! All that the view shows, as the daemon tells it at one time; `abuser top --json` prints it.

use std::net::IpAddr;

use serde::Serialize;

use crate::api::{
    client::{Client, ClientError},
    types::{BanInfo, Detection, LimitStatus, Status, Top},
};

/// Bans that are asked for at most: those that end first.
pub(super) const BANS: usize = 200;

/// Sources that are asked for at most.
pub(super) const SOURCES: usize = 100;

/// How it stands.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Snapshot {
    pub(super) status: Status,
    pub(super) limits: Vec<LimitStatus>,
    pub(super) top: Top,
    /// Some of the bans: [`Status::bans`] says how many there are.
    pub(super) bans: Vec<BanInfo>,
    pub(super) detection: Detection,
}

impl Snapshot {
    /// Asks the daemon. The bans that hold for `address`, if one is looked for, come first.
    pub(super) async fn fetch(
        client: &mut Client,
        address: Option<IpAddr>,
    ) -> Result<Self, ClientError> {
        let some = format!("/v1/bans?order=ends&limit={BANS}");
        let mut bans: Vec<BanInfo> = client.get(&some).await?;
        if let Some(address) = address {
            let path = format!("/v1/bans/covering/{address}");
            let covering: Vec<BanInfo> = client.get(&path).await?;
            bans.retain(|ban| covering.iter().all(|other| other.id != ban.id));
            bans.splice(0..0, covering);
        }
        Ok(Self {
            status: client.get("/v1/status").await?,
            limits: client.get("/v1/limits").await?,
            top: client.get(&format!("/v1/top?limit={SOURCES}")).await?,
            bans,
            detection: client.get("/v1/detection").await?,
        })
    }
}
