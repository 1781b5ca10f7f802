//! How the connection is.
//!
//! The client tells of a connection that came or went by events, which are lost where too many wait. So
//! they only say that it is time to look, which is done now and then without them, too: what the client is
//! and the number that the server gave the connection say which one it is.

use std::time::SystemTime;

use async_nats::{Client, connection::State};

/// What a look at the connection shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// What it showed before.
    None,
    /// There is a connection, another one than before.
    Connected,
    /// There is none any more.
    Lost,
}

/// How the connection is.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// The name of the server that there is a connection to.
    pub(super) server: Option<String>,
    pub(super) since: Option<SystemTime>,
    pub(super) complete: bool,
    pub(super) error: Option<String>,
    /// Why nothing could be written; what servers say of it themselves says more.
    pub(super) write_error: Option<String>,
    /// The last connection: the server's key and the number it gave the connection.
    last: Option<(String, u64)>,
}

impl Link {
    /// Looks at what the client has now.
    pub(super) fn look(&mut self, client: &Client) -> Turn {
        let info = client.server_info();
        let is_connected = client.connection_state() == State::Connected;
        self.follow(
            is_connected,
            &info.server_name,
            (info.server_id, info.client_id),
        )
    }

    fn follow(&mut self, is_connected: bool, server: &str, connection: (String, u64)) -> Turn {
        if !is_connected {
            return self.lose();
        }
        // Until the client has what the new server says, it shows what the last one said.
        let is_new = connection.1 != 0 && self.last.as_ref() != Some(&connection);
        if !is_new {
            return Turn::None;
        }
        self.last = Some(connection);
        self.server = Some(server.to_owned());
        self.since = Some(SystemTime::now());
        self.complete = false;
        self.error = None;
        Turn::Connected
    }

    /// There is no connection.
    pub(super) fn lose(&mut self) -> Turn {
        if self.server.take().is_none() {
            return Turn::None;
        }
        self.since = Some(SystemTime::now());
        self.complete = false;
        Turn::Lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn see(link: &mut Link, connection: Option<(&str, u64)>) -> Turn {
        let (server, number) = connection.unwrap_or(("gone", 99));
        link.follow(connection.is_some(), server, (server.to_owned(), number))
    }

    #[test]
    fn connections_are_told_from_each_other_whether_or_not_somebody_told_of_their_ends() {
        let mut link = Link::default();
        assert_eq!(see(&mut link, None), Turn::None);
        assert_eq!(see(&mut link, Some(("a", 5))), Turn::Connected);
        assert_eq!(link.server.as_deref(), Some("a"));
        link.complete = true;
        assert_eq!(see(&mut link, Some(("a", 5))), Turn::None);
        // One was lost and another made, and nobody has said so.
        assert_eq!(see(&mut link, Some(("a", 6))), Turn::Connected);
        assert!(!link.complete);
        assert_eq!(see(&mut link, Some(("b", 6))), Turn::Connected);
        assert_eq!(see(&mut link, None), Turn::Lost);
        assert_eq!(see(&mut link, None), Turn::None);
    }

    #[test]
    fn what_the_server_before_has_said_makes_no_connection() {
        let mut link = Link::default();
        assert_eq!(see(&mut link, Some(("", 0))), Turn::None);
        assert_eq!(see(&mut link, Some(("a", 5))), Turn::Connected);
        assert_eq!(see(&mut link, None), Turn::Lost);
        assert_eq!(see(&mut link, Some(("a", 5))), Turn::None);
        assert_eq!(link.server, None);
        assert_eq!(see(&mut link, Some(("a", 6))), Turn::Connected);
    }
}
