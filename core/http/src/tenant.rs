//! The tenant of a device's request: named by its path, or the default one.

use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;
use russet_engine::Request;
use russet_engine::store::DEFAULT_TENANT;

use crate::Api;
use crate::context::Context;
use crate::failure::Failure;

/// A request of a device, begun at its tenant: the generation of its hooks is pinned from here on.
pub(crate) struct Begun(pub(crate) Request);

impl FromRequestParts<Api> for Begun {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Failure> {
        let Ok(context) = Context::from_request_parts(parts, api).await;
        let tenant = match RawPathParams::from_request_parts(parts, api).await {
            Ok(params) => params
                .iter()
                .find(|(name, _)| *name == "tenant")
                .map_or_else(|| DEFAULT_TENANT.to_owned(), |(_, value)| value.to_owned()),
            Err(_) => return Err(Failure::not_found("tenant")),
        };
        let request = api.engine.begin(&tenant, &context.id).await?;
        context.note().tenant = Some(request.tenant.name.clone());
        Ok(Self(request))
    }
}
