//! The boundary: what lies around every route. An identifier and one line of log per request, an answer where the
//! program panics, and the guard that keeps 401 away from devices.

use std::any::Any;
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use http::header::{WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;

use crate::Peer;
use crate::context::Context;
use crate::failure::{Failure, Logged};

/// The response header with the identifier that the log has for the request.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Puts the boundary around routes: those of this crate, and a vendor's own. Unknown paths are answered with 404.
///
/// The guard against 401 looks at `/mdm`, `/checkin` and paths that begin with `/mdm/` or `/t/<tenant>/mdm/`; a layer that
/// is put around the result is outside of its reach.
pub fn boundary(routes: Router) -> Router {
    routes
        .fallback(|| async { Failure::not_found("page") })
        .method_not_allowed_fallback(|| async {
            Failure::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "this address does not take this method",
            )
        })
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(keep_enrolled_by_path))
        .layer(from_fn(observe))
}

/// A defect of this program. The panic hook has written where; the value itself may hold anything and is not logged.
fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    #[derive(Debug, thiserror::Error)]
    #[error("the handler panicked; the panic message before this line says where")]
    struct Panicked;
    Failure::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "the server failed; its log says more",
    )
    .caused_by(Panicked)
    .into_response()
}

/// Makes sure that no device message is answered with 401: a device that reads it removes its profile.
pub(crate) async fn keep_enrolled(request: Request, next: Next) -> Response {
    without_401(next.run(request).await)
}

async fn keep_enrolled_by_path(request: Request, next: Next) -> Response {
    let of_device = is_device_path(request.uri().path());
    let response = next.run(request).await;
    if of_device { without_401(response) } else { response }
}

fn is_device_path(path: &str) -> bool {
    let path = match path.strip_prefix("/t/") {
        Some(rest) => rest.find('/').map_or("", |slash| &rest[slash..]),
        None => path,
    };
    path.starts_with("/mdm/") || matches!(path, "/mdm" | "/checkin")
}

fn without_401(mut response: Response) -> Response {
    if response.status() == StatusCode::UNAUTHORIZED {
        tracing::error!("something answered a device message with 401; 400 is sent instead, so that it stays enrolled");
        *response.status_mut() = StatusCode::BAD_REQUEST;
        response.headers_mut().remove(WWW_AUTHENTICATE);
    }
    response
}

/// Gives the request its identifier, and writes its line of log when it is answered.
async fn observe(mut request: Request, next: Next) -> Response {
    let context = Context::new();
    let span = tracing::info_span!("request", request.id = %context.id);
    let mut line = Line {
        started: Instant::now(),
        method: request.method().clone(),
        // Never the address itself: its query may hold a SCEP message.
        route: request.extensions().get::<MatchedPath>().cloned(),
        client: request.extensions().get::<Peer>().map(|peer| peer.address.ip()),
        context: context.clone(),
        answered: false,
    };
    let id = HeaderValue::from_str(&context.id);
    request.extensions_mut().insert(context);
    async {
        let mut response = next.run(request).await;
        line.write(&response);
        let headers = response.headers_mut();
        // Answers quote policies and plugins: nobody shall take one for a page.
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Ok(id) = id {
            headers.insert(REQUEST_ID, id);
        }
        response
    }
    .instrument(span)
    .await
}

/// The line of log of one request.
struct Line {
    started: Instant,
    method: Method,
    route: Option<MatchedPath>,
    client: Option<std::net::IpAddr>,
    context: Context,
    answered: bool,
}

impl Line {
    fn route(&self) -> &str {
        self.route.as_ref().map_or("unknown", MatchedPath::as_str)
    }

    fn write(&mut self, response: &Response) {
        self.answered = true;
        let status = response.status().as_u16();
        let logged = response.extensions().get::<Logged>();
        let error = logged.map(describe);
        let notes = self.context.note().clone();
        let (tenant, enrollment) = (notes.tenant.as_deref(), notes.enrollment.as_deref());
        let administrator = notes.administrator.as_deref();
        let client = self.client.map(tracing::field::display);
        let duration_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let (method, route) = (self.method.as_str(), self.route());
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    http.method = method,
                    http.route = route,
                    http.status = status,
                    tenant.name = tenant,
                    enrollment.key = enrollment,
                    administrator,
                    client,
                    duration_us,
                    error,
                    "request"
                )
            };
        }
        match status {
            500.. => line!(error),
            // Probes come every few seconds.
            _ if route == crate::health::ALIVE || route == crate::health::READY => line!(debug),
            _ => line!(info),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.answered {
            tracing::info!(
                http.method = self.method.as_str(),
                http.route = self.route(),
                "the client went away before the answer"
            );
        }
    }
}

/// The error with everything that caused it.
fn describe(logged: &Logged) -> String {
    let mut text = format!("{}: {}", logged.code, logged.message);
    let mut cause: Option<&dyn Error> = logged.cause.as_ref().map(|cause| Arc::as_ref(cause) as &dyn Error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::is_device_path;

    #[test]
    fn device_paths_are_told_from_others() {
        for path in [
            "/mdm/checkin",
            "/mdm/connect",
            "/mdm/other",
            "/mdm",
            "/checkin",
            "/t/acme/mdm/connect",
        ] {
            assert!(is_device_path(path), "{path}");
        }
        for path in [
            "/",
            "/enroll",
            "/mdmx",
            "/t/acme/enroll",
            "/t/acme",
            "/v1/tenants/mdm/devices",
            "/t/mdm/",
        ] {
            assert!(!is_device_path(path), "{path}");
        }
    }
}
