//! The token: whoever comes over TCP and knows it may do everything.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use subtle::ConstantTimeEq as _;

use super::answer::Failure;
use crate::secret::{self, SecretError};

/// The shortest token, in bytes: no less can be trusted not to be guessed.
const SHORTEST: usize = 16;
/// The longest, in bytes; more is another file.
const LONGEST: usize = 4096;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error(
        "cannot read the token in {path}: {source}; write one, as in `(umask 077; openssl rand -hex 32 \
         > {path})`, or leave out [api] listen"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others can read it, too.
    #[error(
        "the token in {path} is no secret: its mode is {mode:o} and its owner user {owner}; run \
         `chmod 600 {path}`, `chown root {path}`, and write a new one ([api] token_file)"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// Whose it is.
        owner: u32,
    },
    /// It is none.
    #[error(
        "{path} holds no token: {problem}; write one, as in `openssl rand -hex 32 > {path}` ([api] \
         token_file)"
    )]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// A secret that stands in for a user.
pub struct Token(Vec<u8>);

impl Token {
    /// Reads it from a file that nobody else can read.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let unfit = |problem: String| TokenError::Unfit {
            path: path.to_owned(),
            problem,
        };
        let bytes = secret::read(path).map_err(|error| match error {
            SecretError::Read { path, source } => TokenError::Read { path, source },
            SecretError::Open { path, mode, owner } => TokenError::Open { path, mode, owner },
            SecretError::Unfit { problem, .. } => unfit(problem.to_owned()),
        })?;
        Self::new(&bytes).map_err(unfit)
    }

    fn new(bytes: &[u8]) -> Result<Self, String> {
        let token = bytes.trim_ascii();
        if token.len() < SHORTEST {
            return Err(format!(
                "it has {} bytes, and {SHORTEST} are the least",
                token.len()
            ));
        }
        if bytes.len() > LONGEST {
            return Err(format!("it has more than {LONGEST} bytes"));
        }
        // Anything else does not go through a header unharmed.
        if !token.iter().all(u8::is_ascii_graphic) {
            return Err("it has other characters than ASCII letters, digits and signs".to_owned());
        }
        Ok(Self(token.to_owned()))
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
    use std::{
        fs::{self, Permissions},
        os::unix::fs::PermissionsExt as _,
    };

    use axum::http::HeaderValue;

    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn read(content: &str, mode: u32) -> Result<Token, TokenError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        Token::read(&path)
    }

    #[test]
    fn a_token_is_what_a_private_file_holds_without_the_space_around_it() {
        assert_eq!(
            read(" 0123456789abcdef\n", 0o600).unwrap().0,
            TOKEN.as_bytes()
        );
        assert!(read(&"x".repeat(LONGEST), 0o400).is_ok());
    }

    #[test]
    fn a_file_that_others_can_read_holds_no_secret() {
        for mode in [0o640, 0o604, 0o660, 0o620, 0o777] {
            let error = read(TOKEN, mode).err().unwrap();
            assert!(matches!(error, TokenError::Open { .. }), "{error}");
            assert!(error.to_string().contains(&format!("mode is {mode:o}")));
        }
    }

    #[test]
    fn what_is_too_short_too_long_or_does_not_fit_a_header_is_no_token() {
        for (content, phrase) in [
            ("", "0 bytes"),
            ("0123456789abcde\n\n\n", "15 bytes"),
            (&"x".repeat(LONGEST + 1), "more than 4096"),
            ("0123456789 abcdef", "other characters"),
            ("0123456789abcd\u{e9}", "other characters"),
        ] {
            let error = read(content, 0o600).err().unwrap().to_string();
            assert!(error.contains(phrase), "{error}");
        }
        let error = Token::read(Path::new("/nowhere/token")).err().unwrap();
        assert!(error.to_string().contains("/nowhere/token"), "{error}");
    }

    #[test]
    fn only_a_bearer_with_all_of_the_token_is_let_in() {
        let token = Token::new(TOKEN.as_bytes()).unwrap();
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
