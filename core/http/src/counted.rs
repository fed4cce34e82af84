//! Requests as figures, for servers that keep figures. What keeps them is for whoever starts the server.

use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::middleware::{Next, from_fn};
use axum::response::Response;

/// Counts what routes answer, and how long they take. Goes around the [boundary](crate::boundary()), so that what it answers
/// is counted as well; where nobody keeps figures it is better left out.
pub fn counted(routes: Router) -> Router {
    routes.layer(from_fn(count))
}

/// Routes are few; what clients choose is no label.
async fn count(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or_else(|| "unknown".to_owned(), |route| route.as_str().to_owned());
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    metrics::histogram!("russet_request_seconds", "route" => route.clone()).record(started.elapsed());
    metrics::counter!("russet_requests_total", "route" => route, "status" => status).increment(1);
    response
}
