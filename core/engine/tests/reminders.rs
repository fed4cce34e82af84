//! Reminders of push certificates that end: without one no device can be woken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::SignedDuration;
use russet_engine::settings::WorkSettings;
use russet_hooks::{Ask, HookSet, Observer, ObserverHook, PluginFault};
use russet_store::PushCertificate;
use support::{Script, TOPIC, World, settings};
use tokio_util::sync::CancellationToken;

/// Notes how many days it is reminded of.
struct Watch(Arc<Mutex<Vec<i64>>>);

#[async_trait]
impl Observer for Watch {
    async fn observe(&self, ask: &Ask<ObserverHook>) -> Result<(), PluginFault> {
        let detail: serde_json::Value = serde_json::from_str(&ask.request.detail).unwrap();
        assert_eq!(detail["topic"], TOPIC);
        self.0.lock().unwrap().push(detail["days"].as_i64().unwrap());
        Ok(())
    }
}

#[tokio::test]
async fn the_end_of_a_push_certificate_is_an_event_60_30_14_7_days_and_a_day_before() {
    let reminded = Arc::new(Mutex::new(Vec::new()));
    let hooks = HookSet::builder().observer(
        "watch",
        Watch(Arc::clone(&reminded)),
        vec!["push-certificate.ending".to_owned()],
    );
    let work = WorkSettings {
        idle_interval: Duration::from_millis(50),
        ..WorkSettings::default()
    };
    let world = World::with_work(settings(), work, hooks.build(), Arc::new(Script::default())).await;
    let (store, tenant) = (&world.store, world.store.default_tenant());
    let stop = CancellationToken::new();
    let runner = tokio::spawn(world.engine.observer_runner().run(stop.clone()));
    let watched = async { while store.observers(tenant).await.unwrap().is_empty() {} };
    tokio::time::timeout(Duration::from_secs(30), watched).await.unwrap();
    let certificate = PushCertificate {
        topic: TOPIC.into(),
        certificate: Vec::new(),
        subject: String::new(),
        not_after: world.now + SignedDuration::from_hours(24 * 70 + 1),
        updated_at: world.now,
    };
    store.put_push_certificate(tenant, certificate, b"key").await.unwrap();

    for half_days in 0..=140 {
        let now = world.now + SignedDuration::from_hours(12 * half_days);
        world.engine.remind_of_push_certificates(now).await.unwrap();
    }
    let told = async {
        while reminded.lock().unwrap().len() < 5 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), told).await.unwrap();
    let drained = async { while store.observers(tenant).await.unwrap()[0].waiting > 0 {} };
    tokio::time::timeout(Duration::from_secs(30), drained).await.unwrap();
    stop.cancel();
    runner.await.unwrap();
    assert_eq!(*reminded.lock().unwrap(), [60, 30, 14, 7, 1]);
}
