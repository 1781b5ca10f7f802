//! The token: whoever comes over TCP and knows it may do everything.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use subtle::ConstantTimeEq as _;

use super::answer::Failure;
use crate::{
    config,
    files::{SHORTEST_SECRET, SecretError, read_secret},
};

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file does not have one.
    #[error("[api] token_file: {0}")]
    Secret(#[from] SecretError),
    /// The configuration names no file; it says so itself where it is read.
    #[error("[api] listen needs a token; add token_file = \"/etc/abuser/token\"")]
    NoFile,
}

/// A secret that stands in for a user.
pub struct Token(Vec<u8>);

impl Token {
    /// The one that `[api]` needs, if it has the daemon listen for TCP; its file is one that nobody else can
    /// read.
    ///
    /// # Errors
    ///
    /// See [`TokenError`].
    pub fn of(api: &config::Api) -> Result<Option<Self>, TokenError> {
        if api.listen.is_none() {
            return Ok(None);
        }
        let path = api.token_file.as_deref().ok_or(TokenError::NoFile)?;
        let token = read_secret(path, SHORTEST_SECRET)?;
        Ok(Some(Self(token.into_bytes())))
    }

    /// Whether a request brings it; how long this takes tells nothing of it but its length.
    fn is_in(&self, headers: &HeaderMap) -> bool {
        let brought = headers.get(header::AUTHORIZATION).and_then(|value| {
            let (scheme, token) = value.as_bytes().split_at_checked(7)?;
            scheme
                .eq_ignore_ascii_case(b"bearer ")
                .then(|| token.trim_ascii())
        });
        brought.is_some_and(|brought| bool::from(brought.ct_eq(&self.0)))
    }
}

/// Lets only requests with the token through.
pub(super) async fn require(
    State(token): State<Arc<Token>>,
    request: Request,
    next: Next,
) -> Response {
    if token.is_in(request.headers()) {
        return next.run(request).await;
    }
    let failure = Failure::new(
        StatusCode::UNAUTHORIZED,
        "over TCP every request needs the token of [api] token_file: send `Authorization: Bearer \
         TOKEN`",
    );
    let challenge = (header::WWW_AUTHENTICATE, "Bearer realm=\"abuser\"");
    ([challenge], failure).into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    #[test]
    fn only_a_bearer_with_all_of_the_token_is_let_in() {
        let token = Token(TOKEN.as_bytes().to_owned());
        let brings = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            token.is_in(&headers)
        };
        assert!(brings("Bearer 0123456789abcdef"));
        assert!(brings("bearer  0123456789abcdef"));
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdeF",
            "Bearer 0123456789abcdef0",
            "Basic 0123456789abcdef",
            "0123456789abcdef",
        ] {
            assert!(!brings(wrong), "{wrong}");
        }
        assert!(!token.is_in(&HeaderMap::new()));
    }
}
