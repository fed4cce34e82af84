//! Commands and results as administrators see them, and how they lie in the database.

use russet_store::{Poll, ReportStatus, ReportWrite, StoreError, TokenTarget};

use crate::behaviours;
use crate::bench::{Bench, at};
use crate::queue::report;

behaviours![
    a_page_of_large_results_is_short,
    commands_are_listed,
    commands_and_results_are_sealed_to_their_place,
];

async fn a_page_of_large_results_is_short(bench: Bench) {
    let store = &bench.store;
    let command = bench.command("InstalledApplicationList");
    let uuid = command.uuid;
    let devices = [bench.enrolled("U1").await, bench.enrolled("U2").await];
    store.enqueue(command, devices.to_vec(), at(2)).await.unwrap();
    for device in devices {
        let large = ReportWrite {
            result: vec![b'x'; 9 << 20],
            ..report(uuid, ReportStatus::Acknowledged)
        };
        store.report(device, large, at(3)).await.unwrap();
    }
    let first = store.command_entries(bench.tenant, uuid, None, 10).await.unwrap();
    assert_eq!(first.items.len(), 1);
    let second = store.command_entries(bench.tenant, uuid, first.next, 10).await.unwrap();
    assert_eq!((second.items.len(), second.next), (1, None));
    assert_ne!(first.items[0].enrollment, second.items[0].enrollment);
}

async fn commands_are_listed(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    let mut uuids = Vec::new();
    for _ in 0..5 {
        uuids.push(bench.queued(id, "DeviceInformation").await);
    }
    uuids.reverse();
    let first = store.commands(bench.tenant, false, None, 3).await.unwrap();
    let rest = store.commands(bench.tenant, false, first.next, 3).await.unwrap();
    let listed: Vec<_> = first
        .items
        .iter()
        .chain(&rest.items)
        .map(|command| command.uuid)
        .collect();
    assert_eq!((listed, rest.next), (uuids, None));
    let other = store.create_tenant("other", at(0)).await.unwrap();
    assert!(store.commands(other, false, None, 3).await.unwrap().items.is_empty());

    // A command that came while nobody could be woken is pushed once the token is there.
    let late = store
        .authenticate(bench.authenticate_write("U2").await, at(3))
        .await
        .unwrap();
    store
        .enqueue(bench.command("DeviceInformation"), vec![late], at(4))
        .await
        .unwrap();
    let woken = |jobs: Vec<russet_store::PushJob>| jobs.iter().any(|job| job.enrollment == late);
    assert!(!woken(store.push_claim(10, at(60), at(5)).await.unwrap()));
    store
        .token_update(bench.token(TokenTarget::Enrollment(late)), at(6))
        .await
        .unwrap();
    assert!(woken(store.push_claim(10, at(60), at(7)).await.unwrap()));
}

async fn commands_and_results_are_sealed_to_their_place(bench: Bench) {
    let store = &bench.store;
    let (one, other) = (bench.enrolled("U1").await, bench.enrolled("U2").await);
    let (lock, query) = (bench.command("DeviceLock"), bench.command("SecurityInfo"));
    let (first, second) = (lock.uuid, query.uuid);
    store.enqueue(lock, vec![one, other], at(2)).await.unwrap();
    store.enqueue(query, vec![one], at(2)).await.unwrap();
    for id in [one, other] {
        store
            .report(id, report(first, ReportStatus::Acknowledged), at(3))
            .await
            .unwrap();
    }

    // A value that was moved to another row, or stood there unsealed, does not open.
    let moved = format!(
        "UPDATE queue_entries SET result = (SELECT result FROM queue_entries WHERE enrollment_id = {other} \
         AND result IS NOT NULL) WHERE enrollment_id = {one} AND result IS NOT NULL"
    );
    bench.meddle(&moved, &moved).await;
    let error = store.command_entry(one, first).await.unwrap_err();
    assert!(matches!(error, StoreError::Sealed("result")), "{error:?}");
    let plain = "UPDATE commands SET payload = $$<plist/>$$ WHERE request_type = 'SecurityInfo'";
    bench
        .meddle(&plain.replace("$$<plist/>$$", "x'3c706c6973742f3e'"), plain)
        .await;
    let delivery = store.next(one, at(4), Poll::Idle).await.unwrap().unwrap();
    assert_eq!((delivery.uuid, delivery.payload), (second, Vec::new()));
}
