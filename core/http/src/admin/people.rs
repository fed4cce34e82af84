//! People, as the directory knows them.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use russet_hooks::Person;
use serde::Deserialize;

use super::auth::AtTenant;
use super::input::Named;
use crate::Api;
use crate::failure::Failure;

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/people/{user_name}", get(find))
}

#[derive(Deserialize)]
struct UserName {
    user_name: String,
}

async fn find(
    State(api): State<Api>,
    at: AtTenant,
    Named(UserName { user_name }): Named<UserName>,
) -> Result<Json<Person>, Failure> {
    let request = at.begin(&api).await?;
    let person = api.engine.find_person(&request, &user_name, Timestamp::now()).await?;
    person.map(Json).ok_or_else(|| Failure::not_found("person"))
}
