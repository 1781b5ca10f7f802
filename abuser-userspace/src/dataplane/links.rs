//! Being told when network interfaces, addresses or routes change.
//!
//! A notification only wakes up whoever waits, who then asks the kernel how things stand. So a
//! burst of them is one question, and one that the kernel lost for want of room harms nobody.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, stream::Stream};
use rtnetlink::{MulticastGroup, packet_core::NetlinkPayload};
use tokio::{sync::Notify, task::JoinSet};

use super::error::DataplaneError;

/// The shortest time from one wake-up to the next; the first of a burst waits for nothing.
const PAUSE: Duration = Duration::from_millis(50);

/// The longest time between two: the kernel says nothing when a program goes whose interface
/// stays.
const RECHECK: Duration = Duration::from_secs(10);

/// Changes of this network namespace, as netlink tells them.
pub struct NetlinkChanges {
    changed: Arc<Notify>,
    /// Ends with this value.
    _follower: JoinSet<()>,
}

impl NetlinkChanges {
    /// Begins to follow those of interfaces. Must be called within a tokio runtime.
    pub fn of_links() -> Result<Self, DataplaneError> {
        Self::follow(&[MulticastGroup::Link], "network interfaces")
    }

    /// Begins to follow those that these groups are told of, which the log calls `what`. Must be
    /// called within a tokio runtime.
    pub fn follow(
        groups: &'static [MulticastGroup],
        what: &'static str,
    ) -> Result<Self, DataplaneError> {
        let mut subscription = Some(subscribe(groups)?);
        let changed = Arc::new(Notify::new());
        let notify = Arc::clone(&changed);
        let mut follower = JoinSet::new();
        follower.spawn(async move {
            loop {
                if let Some((connection, notifications)) = subscription.take() {
                    forward(connection, notifications, &notify, what).await;
                    tracing::warn!(
                        "the kernel's notifications of {what} (netlink) ended; subscribing again"
                    );
                }
                tokio::time::sleep(RECHECK).await;
                notify.notify_one();
                match subscribe(groups) {
                    Ok(renewed) => subscription = Some(renewed),
                    Err(error) => tracing::warn!(%error, "cannot subscribe; trying again"),
                }
            }
        });
        Ok(Self {
            changed,
            _follower: follower,
        })
    }

    /// Waits until something may have changed since the last call, or since the kernel was
    /// asked to tell. Dropping the future loses nothing.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// What drives a netlink connection.
type Connection = Pin<Box<dyn Future<Output = ()> + Send>>;
/// The notifications that come of it; `true` stands for some that the kernel had no room for.
type Notifications = Box<dyn Stream<Item = bool> + Send + Unpin>;

fn subscribe(groups: &[MulticastGroup]) -> Result<(Connection, Notifications), DataplaneError> {
    let (connection, _, messages) = rtnetlink::new_multicast_connection(groups)
        .map_err(|error| DataplaneError::Netlink(error.to_string()))?;
    let notifications =
        messages.map(|(message, _)| matches!(message.payload, NetlinkPayload::Overrun(_)));
    Ok((Box::pin(connection), Box::new(notifications)))
}

/// Wakes up `changed` now and at each notification, until the connection ends.
async fn forward(
    mut connection: Connection,
    mut notifications: Notifications,
    changed: &Notify,
    what: &str,
) {
    loop {
        changed.notify_one();
        // Meanwhile the connection is not driven: the kernel's buffer bounds what gathers.
        tokio::time::sleep(PAUSE).await;
        let mut lost = tokio::select! {
            () = &mut connection => return,
            notification = notifications.next() => match notification {
                Some(lost) => lost,
                None => return,
            },
            () = tokio::time::sleep(RECHECK) => false,
        };
        while let Some(Some(also)) = notifications.next().now_or_never() {
            lost |= also;
        }
        if lost {
            tracing::info!(
                "{what} change faster than the kernel can tell (netlink); looking at them anew"
            );
        }
    }
}
