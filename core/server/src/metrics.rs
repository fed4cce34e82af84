//! Figures for monitoring: kept in memory, shown on a listener of their own, and partly read from the store when somebody
//! asks.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::{SignedDuration, Timestamp};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use russet_engine::Engine;
use russet_http::{AddressRange, BindError, ConnectionLimits, Server, ServerSettings, Transport};
use tokio_util::sync::CancellationToken;

use crate::config::Metrics;

/// Upper ends of the buckets for durations, in seconds: polls take less than a millisecond, directories seconds.
const BUCKETS: [f64; 12] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 10.0,
];

/// How often what was measured is folded together, so that it does not grow where nobody asks.
const UPKEEP: Duration = Duration::from_secs(10);

/// How many clients may ask at once. One monitoring asks now and then.
const CONNECTIONS: usize = 32;

/// Of the whole process: the facade has one place for it.
static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Why figures can not be kept or shown.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// Another part of the process keeps them already.
    #[error("figures are kept by another part of this process already; leave metrics.listen out")]
    Recorder(#[source] BuildError),
    /// The address is taken.
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// Keeps figures from here on and shows them until `stop` is cancelled. Does nothing where no address is set.
pub(crate) async fn serve(config: &Metrics, engine: &Engine, stop: &CancellationToken) -> Result<(), MetricsError> {
    let Some(address) = config.listen else { return Ok(()) };
    let allowed = config.allowed.iter();
    let settings = ServerSettings {
        address,
        transport: Transport::Plain {
            trusted: allowed
                .filter_map(|range| AddressRange::new(range.address(), range.prefix()))
                .collect(),
        },
        limits: ConnectionLimits {
            connections: CONNECTIONS,
            ..ConnectionLimits::default()
        },
    };
    let listener = Server::bind(settings).await?;
    let handle = recorder()?;
    tracing::info!(address = %listener.address(), "showing metrics");
    tokio::spawn({
        let (handle, stop) = (handle.clone(), stop.clone());
        async move {
            while tokio::time::timeout(UPKEEP, stop.cancelled()).await.is_err() {
                handle.run_upkeep();
            }
        }
    });
    let shown = Shown {
        handle,
        engine: engine.clone(),
    };
    let router = Router::new().route("/metrics", get(show)).with_state(Arc::new(shown));
    tokio::spawn(listener.serve(router, stop.clone()));
    Ok(())
}

fn recorder() -> Result<PrometheusHandle, MetricsError> {
    if let Some(handle) = RECORDER.get() {
        return Ok(handle.clone());
    }
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)
        .map_err(MetricsError::Recorder)?;
    let handle = builder.install_recorder().map_err(MetricsError::Recorder)?;
    describe();
    Ok(RECORDER.get_or_init(|| handle).clone())
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!(
        "russet_requests_total",
        "Requests that were answered, by route and status."
    );
    describe_histogram!("russet_request_seconds", "How long answers took, by route.");
    describe_gauge!(
        "russet_push_certificate_days",
        "Whole days until a push certificate ends, by tenant and topic."
    );
}

struct Shown {
    handle: PrometheusHandle,
    engine: Engine,
}

async fn show(State(shown): State<Arc<Shown>>) -> Response {
    // What is read here changes slowly, and nobody has to write it while nobody asks.
    match shown
        .engine
        .ending_push_certificates(SignedDuration::MAX, Timestamp::now())
        .await
    {
        Ok(certificates) => {
            for certificate in certificates {
                let labels = [("tenant", certificate.tenant), ("topic", certificate.topic)];
                metrics::gauge!("russet_push_certificate_days", &labels).set(certificate.days_left as f64);
            }
        }
        Err(error) => tracing::warn!(error = %error, "the figures are shown without those of the store"),
    }
    let format = "text/plain; version=0.0.4; charset=utf-8";
    ([(CONTENT_TYPE, format)], shown.handle.render()).into_response()
}
