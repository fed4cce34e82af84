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
use russet_engine::{Engine, EngineError};
use russet_http::{AddressRange, BindError, ConnectionLimits, Server, ServerSettings, Transport};
use tokio_util::sync::CancellationToken;

use crate::config::Metrics;

/// Upper ends of the buckets for durations, in seconds: polls take less than a millisecond, directories seconds.
const BUCKETS: [f64; 12] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 10.0,
];

/// How often what was measured is folded together, so that it does not grow where nobody asks.
const UPKEEP: Duration = Duration::from_secs(10);

/// How long ago a node may have reported to count as one that runs.
const LATELY: Duration = Duration::from_secs(30);

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
    // Shown before it grows, so that its growth is seen.
    metrics::counter!("russet_log_lines_lost_total").increment(0);
    Ok(RECORDER.get_or_init(|| handle).clone())
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!(
        "russet_requests_total",
        "Requests that were answered, by route and status."
    );
    describe_histogram!("russet_request_seconds", "How long answers took, by route.");
    describe_counter!(
        "russet_log_lines_lost_total",
        "Lines of the log that could not be written."
    );
    describe_gauge!(
        "russet_push_certificate_days",
        "Whole days until a push certificate ends, by tenant and topic."
    );
    describe_gauge!(
        "russet_database_up",
        "1 if the database answered this question, 0 if not."
    );
    describe_gauge!("russet_nodes", "Servers on this database that reported lately.");
    describe_gauge!("russet_pushes_due", "Pushes that are due and not on their way.");
    describe_gauge!(
        "russet_push_delay_seconds",
        "How long the longest waiting of them is due."
    );
    describe_gauge!(
        "russet_pushes_refused",
        "Pushes that APNs refused or that could not be sent, tried again later."
    );
    describe_gauge!(
        "russet_commands_stuck",
        "Commands that a device never answers, once for each device."
    );
    describe_gauge!("russet_commands_held", "Commands that wait for an approval.");
    describe_gauge!("russet_events_waiting", "Events that observers have still to take.");
    describe_gauge!("russet_events_parked", "Events that were given up.");
    describe_gauge!("russet_schedules_parked", "Scheduled work that was given up.");
    describe_gauge!(
        "russet_plugins_halted",
        "Plugins in quarantine without a revision to go back to."
    );
    describe_gauge!(
        "russet_decisions_unchained",
        "Decisions that have not joined their chain."
    );
}

struct Shown {
    handle: PrometheusHandle,
    engine: Engine,
}

/// Takes over what the store knows.
async fn read(engine: &Engine, now: Timestamp) -> Result<(), EngineError> {
    let figures = engine.store().figures(now).await?;
    let delay = figures.push_due_since.map(|since| now.duration_since(since));
    for (name, figure) in [
        ("russet_pushes_due", figures.pushes_due as f64),
        (
            "russet_push_delay_seconds",
            delay.map_or(0.0, |delay| delay.as_secs_f64()),
        ),
        ("russet_pushes_refused", figures.pushes_refused as f64),
        ("russet_commands_stuck", figures.stuck_entries as f64),
        ("russet_commands_held", figures.held_commands as f64),
        ("russet_events_waiting", figures.events_waiting as f64),
        ("russet_events_parked", figures.events_parked as f64),
        ("russet_schedules_parked", figures.schedules_parked as f64),
        ("russet_plugins_halted", figures.plugins_halted as f64),
        ("russet_decisions_unchained", figures.decisions_unchained as f64),
    ] {
        metrics::gauge!(name).set(figure);
    }
    let nodes = engine.store().nodes(LATELY, now).await?;
    metrics::gauge!("russet_nodes").set(nodes.len() as f64);
    for certificate in engine.ending_push_certificates(SignedDuration::MAX, now).await? {
        let labels = [("tenant", certificate.tenant), ("topic", certificate.topic)];
        metrics::gauge!("russet_push_certificate_days", &labels).set(certificate.days_left as f64);
    }
    Ok(())
}

async fn show(State(shown): State<Arc<Shown>>) -> Response {
    // What is read here changes slowly, and nobody has to write it while nobody asks.
    let read = read(&shown.engine, Timestamp::now()).await;
    metrics::gauge!("russet_database_up").set(if read.is_ok() { 1.0 } else { 0.0 });
    if let Err(error) = read {
        tracing::warn!(error = %error, "the figures of the store are shown as they were before");
    }
    let format = "text/plain; version=0.0.4; charset=utf-8";
    ([(CONTENT_TYPE, format)], shown.handle.render()).into_response()
}
