//! The admin API, below `/v1`: JSON over bearer tokens, one file per noun.
//!
//! What is only read comes straight from the store, through views that say what of a record is shown; everything else
//! is a call of the engine or of the plugin manager.

mod assigned;
mod assignments;
mod auth;
mod certificates;
mod commands;
mod decisions;
mod declarations;
mod devices;
mod escrow;
mod events;
mod groups;
mod import;
mod input;
mod page;
mod people;
mod plugin_data;
mod plugin_rollouts;
mod plugin_secrets;
mod plugins;
mod profiles;
mod publishers;
mod push_certificates;
mod tenants;
mod tokens;

use axum::Router;

use crate::Api;

pub(crate) fn routes() -> Router<Api> {
    let of_tenant = Router::new()
        .merge(assignments::routes())
        .merge(certificates::routes())
        .merge(commands::routes())
        .merge(decisions::routes())
        .merge(declarations::routes())
        .merge(devices::routes())
        .merge(escrow::routes())
        .merge(events::routes())
        .merge(groups::routes())
        .merge(import::routes())
        .merge(people::routes())
        .merge(plugin_data::routes())
        .merge(plugin_rollouts::routes())
        .merge(plugin_secrets::routes())
        .merge(plugins::routes())
        .merge(profiles::routes())
        .merge(publishers::routes())
        .merge(push_certificates::routes());
    Router::new()
        .merge(tenants::routes())
        .merge(tokens::routes())
        .nest("/v1/tenants/{tenant}", of_tenant)
}
