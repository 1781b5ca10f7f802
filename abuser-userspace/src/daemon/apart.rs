//! Work that takes long, on another thread: the engine, the API and all who talk to others share one.

use tokio::{
    runtime::Handle,
    task::{JoinError, spawn_blocking},
};

/// Does it there, and waits for it without holding up anybody else.
pub async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work)
        .await
        .map_err(JoinError::try_into_panic)
    {
        Ok(value) => value,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // The runtime ends, and who waits with it.
        Err(Err(_)) => std::future::pending().await,
    }
}

/// Lets go of what may be large: to free a million of something takes a while, too.
pub fn drop_apart<T: Send + 'static>(large: T) {
    // Without a runtime nobody else is held up.
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn_blocking(move || drop(large));
    }
}
