//! Whether the server lives, and whether it can do its work.

use axum::Router;
use axum::extract::State;
use axum::routing::get;

use crate::Api;
use crate::failure::Failure;

pub(crate) const ALIVE: &str = "/healthz";
pub(crate) const READY: &str = "/readyz";

pub(crate) fn routes() -> Router<Api> {
    Router::new()
        .route(ALIVE, get(|| async { "ok\n" }))
        .route(READY, get(ready))
}

async fn ready(State(api): State<Api>) -> Result<&'static str, Failure> {
    match api.engine.store().ping().await {
        Ok(()) => Ok("ready\n"),
        Err(error) => Err(Failure::unavailable("the database does not answer")
            .caused_by(error)
            .in_text()),
    }
}
