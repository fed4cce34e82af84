//! A vendor's own server: the core as a library, with an enrollment gate in native Rust and a page of its own.
//!
//! `vendor-server russet.toml` serves like `russet serve --config russet.toml`, plugins included. On top of that,
//! devices that the vendor lent out may not enroll, and `GET /vendor/hello` tells how many devices are enrolled.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use russet::Server;
use russet::axum::extract::State;
use russet::axum::routing::get;
use russet::axum::{Json, Router};
use russet::config::Config;
use russet::engine::Engine;
use russet::hooks::{Ask, Denial, EnrollmentGate, GateHook, GateVerdict, HookSet, PluginFault};
use russet::store::{EnrollmentFilter, EnrollmentState, StoreError};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

/// Keeps the vendor's rental pool out of customers' hands. It is asked before any plugin; the strictest answer counts.
struct NotFromTheRentalPool;

#[async_trait]
impl EnrollmentGate for NotFromTheRentalPool {
    async fn check(&self, ask: &Ask<GateHook>) -> Result<GateVerdict, PluginFault> {
        let rented = ask
            .request
            .device
            .serial_number
            .as_deref()
            .is_some_and(|serial| serial.starts_with("RENT"));
        Ok(match rented {
            false => GateVerdict::Allow(BTreeMap::new()),
            true => GateVerdict::Deny(Denial {
                reason: "rental-pool".to_owned(),
                message: "This device is lent out; bring it back to your dealer.".to_owned(),
            }),
        })
    }
}

/// The engine, which is there once the server has started.
type Started = Arc<OnceLock<Engine>>;

async fn hello(State(started): State<Started>) -> Json<Value> {
    let Some(engine) = started.get() else {
        return Json(json!({"hello": "starting"}));
    };
    match enrolled(engine).await {
        Ok(devices) => Json(json!({"hello": "from the vendor", "devices": devices})),
        Err(_) => Json(json!({"hello": "from the vendor", "devices": null})),
    }
}

/// How many devices of the default tenant are enrolled.
async fn enrolled(engine: &Engine) -> Result<usize, StoreError> {
    let (store, active) = (
        engine.store(),
        EnrollmentFilter {
            state: Some(EnrollmentState::Active),
            ..Default::default()
        },
    );
    let (mut devices, mut cursor) = (0, None);
    loop {
        let page = store
            .enrollments(store.default_tenant(), &active, cursor, 1_000)
            .await?;
        devices += page.items.len();
        match page.next {
            None => return Ok(devices),
            next => cursor = next,
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args_os()
        .nth(1)
        .map(PathBuf::from)
        .ok_or("usage: vendor-server CONFIGURATION-FILE")?;
    let config = Config::load(Some(&file), std::env::vars())?;
    russet::logging::init(&config.log)?;
    let started = Started::default();
    let server = Server::builder(config)
        .native_hooks(HookSet::builder().gate("rental-pool", NotFromTheRentalPool).build())
        .route(
            "/vendor",
            Router::new()
                .route("/hello", get(hello))
                .with_state(Arc::clone(&started)),
        )
        .start()
        .await?;
    let _ = started.set(server.engine().clone());
    // In the words of `russet serve`, for scripts that wait for them.
    writeln!(
        std::io::stdout(),
        "russet serves at {} (listening on {})",
        server.public_url(),
        server.address()
    )?;
    signal(SignalKind::terminate())?.recv().await;
    server.shutdown().await;
    Ok(())
}
