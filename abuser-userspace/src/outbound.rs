//! What connections to elsewhere have in common.

use std::sync::Once;

/// Sees to it that TLS has a provider of its arithmetic; to be called before anything connects.
pub fn install_crypto() {
    static INSTALLED: Once = Once::new();
    // Whoever has installed one before has installed the same.
    INSTALLED.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}
