//! What tells a receiver that a request is from here, and not an old one over again.
//!
//! `t=SECONDS,v1=HEX`: HMAC-SHA256 of the time, a point and the body, under a secret that both
//! know. A receiver computes it again, and refuses a time that is minutes off.

use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// The header that it stands in.
pub(super) const HEADER: &str = "x-abuser-signature";

/// The signature of a body that is sent `now`.
pub(super) fn sign(secret: &str, now: SystemTime, body: &[u8]) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let code = match Hmac::<Sha256>::new_from_slice(secret.as_bytes()) {
        Ok(mut mac) => {
            mac.update(format!("{seconds}.").as_bytes());
            mac.update(body);
            mac.finalize().into_bytes()
        }
        Err(_) => unreachable!("HMAC takes keys of any length (RFC 2104)"),
    };
    format!("t={seconds},v1={code:x}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_signature_is_what_openssl_makes_of_time_and_body() {
        // printf '1492774577.{"a":1}' | openssl dgst -sha256 -hmac 0123456789abcdef
        let now = UNIX_EPOCH + Duration::from_millis(1_492_774_577_999);
        assert_eq!(
            sign("0123456789abcdef", now, b"{\"a\":1}"),
            "t=1492774577,v1=eb010c8dacd6d9e8a36ec89f2afa2be5fddad82812adcf504e1bb65c57aa8080"
        );
    }
}
