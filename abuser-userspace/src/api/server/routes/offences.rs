//! Offences that applications tell of.

use axum::{Extension, extract::State};

use super::super::{
    Api,
    answer::{Answer, JsonBody},
    peer::Peer,
};
use crate::{
    api::{
        openapi::refusals,
        types::{OffencesRequest, OffencesTaken},
    },
    daemon::engine::Command,
};

/// Tells of offences that an application met.
///
/// Each counts under its policy as one that a log tells of: `maxretry` of them within `findtime` ban
/// the source. One of who is allowed, or of a proxy that a `[[source]]` trusts, is refused: a ban
/// would cut off all whom the proxy speaks for.
#[utoipa::path(
    post, path = "/v1/offences", tag = "offences", operation_id = "report_offences",
    request_body = OffencesRequest,
    responses(
        (status = 200, description = "What became of them; bans are in force and on disk.", body = OffencesTaken),
        refusals::Senseless, refusals::Write, refusals::Body, refusals::Any,
    ),
)]
pub(super) async fn report(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    JsonBody(request): JsonBody<OffencesRequest>,
) -> Answer<OffencesTaken> {
    let by = peer.name().await;
    api.ask(|reply| Command::Offences(request, by, reply)).await
}
