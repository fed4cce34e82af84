//! The routers: what the server answers, without where it listens.

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use russet_engine::Engine;
use russet_plugin_host::PluginManager;

use crate::throttle::Throttles;
use crate::{HttpSettings, admin, boundary, device, enroll, health, scep, throttle};

/// What the routes work with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Api {
    /// Does what devices and administrators ask.
    pub engine: Engine,
    /// Installs plugins.
    pub plugins: Arc<PluginManager>,
    /// What the operator set.
    pub settings: Arc<HttpSettings>,
    pub(crate) throttles: Arc<Throttles>,
}

impl Api {
    /// The routes' state.
    pub fn new(engine: Engine, plugins: Arc<PluginManager>, settings: HttpSettings) -> Self {
        Self {
            engine,
            plugins,
            throttles: Arc::new(Throttles::new(&settings.rates)),
            settings: Arc::new(settings),
        }
    }
}

/// What devices talk to: `/enroll`, `/scep`, `/mdm/…`, the same below `/t/{tenant}`, and `/healthz` and `/readyz`.
/// Without the boundary: see [`boundary`](crate::boundary()).
pub fn device_router(api: &Api) -> Router {
    let open_to_strangers = enroll::routes()
        .merge(scep::routes())
        .route_layer(from_fn_with_state(api.clone(), throttle::strangers));
    open_to_strangers
        .merge(device::routes())
        .merge(health::routes())
        .with_state(api.clone())
}

/// The admin API, below `/v1`. Without the boundary: see [`boundary`](crate::boundary()).
pub fn admin_router(api: &Api) -> Router {
    admin::routes().with_state(api.clone())
}

/// All of it, with the boundary around it.
///
/// A vendor who adds routes or layers takes the parts instead, so that the boundary is around theirs too:
/// `boundary(device_router(&api).merge(admin_router(&api)).merge(own))`.
pub fn router(api: &Api) -> Router {
    boundary::boundary(device_router(api).merge(admin_router(api)))
}
