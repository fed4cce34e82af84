//! Who calls the admin API, and for which tenant.

use axum::extract::{FromRequestParts, RawPathParams};
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use russet_engine::{Administrator, EngineError, Request, TenantRef};

use crate::context::Context;
use crate::failure::Failure;
use crate::throttle::client_address;
use crate::{Api, Peer};

/// An administrator whose token is good. Says nothing yet about a tenant.
pub(super) struct Admin(pub(super) Administrator);

impl FromRequestParts<Api> for Admin {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Failure> {
        let Ok(context) = Context::from_request_parts(parts, api).await;
        let token = parts.headers.get(AUTHORIZATION).and_then(bearer);
        let token = token.ok_or_else(|| unauthorized("send the token as: Authorization: Bearer <token>"))?;
        // The store is asked for the token's digest; nothing compares secrets here.
        let administrator = api.engine.administrator(token).await?;
        let Some(administrator) = administrator else {
            if api.engine.importer(token).await?.is_some() {
                return Err(forbidden("the token is good for imports only"));
            }
            return Err(refused(parts, api));
        };
        context.note().administrator = Some(administrator.name.clone());
        Ok(Self(administrator))
    }
}

impl Admin {
    /// Refuses tokens that are good for one tenant only.
    pub(super) fn of_server(&self) -> Result<(), Failure> {
        match self.0.tenant {
            None => Ok(()),
            Some(_) => Err(forbidden("this takes a token of the whole server")),
        }
    }
}

/// An administrator, at a tenant that they may act on.
pub(super) struct AtTenant {
    pub(super) administrator: Administrator,
    pub(super) tenant: TenantRef,
    context: Context,
}

impl AtTenant {
    /// Begins a request that may ask hooks.
    pub(super) async fn begin(&self, api: &Api) -> Result<Request, Failure> {
        Ok(api.engine.begin(&self.tenant.name, &self.context.id).await?)
    }
}

impl FromRequestParts<Api> for AtTenant {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Failure> {
        let Admin(administrator) = Admin::from_request_parts(parts, api).await?;
        at_tenant(parts, api, administrator).await
    }
}

/// Somebody whose token is good, at the tenant that the path names.
pub(super) async fn at_tenant(parts: &mut Parts, api: &Api, administrator: Administrator) -> Result<AtTenant, Failure> {
    let Ok(context) = Context::from_request_parts(parts, api).await;
    let params = RawPathParams::from_request_parts(parts, api)
        .await
        .map_err(|_| Failure::not_found("tenant"))?;
    let name = params.iter().find(|(key, _)| *key == "tenant").map(|(_, name)| name);
    let tenant = match api.engine.tenant(name.unwrap_or_default()).await {
        Ok(tenant) => tenant,
        // Which other tenants there are is none of theirs.
        Err(EngineError::UnknownTenant) if administrator.tenant.is_some() => return Err(other_tenant()),
        Err(error) => return Err(error.into()),
    };
    if !administrator.may_act_on(&tenant) {
        return Err(other_tenant());
    }
    context.note().tenant = Some(tenant.name.clone());
    Ok(AtTenant {
        administrator,
        tenant,
        context,
    })
}

/// The answer to a token that is nobody's; it counts.
pub(super) fn refused(parts: &Parts, api: &Api) -> Failure {
    let peer = parts.extensions.get::<Peer>();
    let client = client_address(&api.settings.proxy, peer, &parts.headers);
    match api.throttles.wrong_token(client) {
        Ok(()) => unauthorized("the token is not known here, or was revoked"),
        Err(too_many) => too_many,
    }
}

fn other_tenant() -> Failure {
    forbidden("the token is good for another tenant")
}

fn forbidden(message: &'static str) -> Failure {
    Failure::new(StatusCode::FORBIDDEN, "forbidden", message)
}

pub(super) fn unauthorized(message: &'static str) -> Failure {
    Failure::new(StatusCode::UNAUTHORIZED, "unauthorized", message).authenticate(HeaderValue::from_static("Bearer"))
}

pub(super) fn bearer(header: &HeaderValue) -> Option<&str> {
    let (scheme, token) = header.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
