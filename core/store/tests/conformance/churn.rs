//! A year of commands, on a clock that is moved forward.

use russet_store::{NewCommand, Poll, ReportStatus, ReportWrite, Retention, Targets};

use crate::behaviours;
use crate::bench::{Bench, at};
use crate::queue::report;

behaviours![
    a_year_of_commands_leaves_what_the_retention_says,
    a_clean_up_gives_room_back
];

const DAY: i64 = 24 * 60 * 60;

async fn a_year_of_commands_leaves_what_the_retention_says(bench: Bench) {
    const PER_DAY: i64 = 1;
    let store = &bench.store;
    let answering = [bench.enrolled("U1").await, bench.enrolled("U2").await];
    // One that never comes: what it does not answer expires.
    bench.enrolled("U3").await;
    let retention = Retention::default();
    let mut largest = (0, 0, 0);
    for day in 0..365 {
        for number in 0..PER_DAY {
            let now = at(day * DAY + number * 60 + 10);
            let command = NewCommand {
                expires_at: Some(at((day + 14) * DAY)),
                ..bench.command("DeviceInformation")
            };
            let uuid = command.uuid;
            store.enqueue(command, Targets::All, now).await.unwrap();
            for device in answering {
                assert_eq!(store.next(device, now, Poll::Idle).await.unwrap().unwrap().uuid, uuid);
                store
                    .report(device, report(uuid, ReportStatus::Acknowledged), now)
                    .await
                    .unwrap();
            }
        }
        store.purge(at((day + 1) * DAY), &retention).await.unwrap();
        if day % 20 < 19 && day < 360 {
            continue;
        }
        let commands = bench.count("commands").await;
        let entries = bench.count("queue_entries").await;
        let results = bench.count("queue_entries WHERE result IS NOT NULL").await;
        largest = (commands.max(largest.0), entries.max(largest.1), results.max(largest.2));
    }
    // 90 days of commands, 30 of results; what expired at the end of the 14th day counts from then.
    assert_eq!(largest.2, 30 * PER_DAY * 2);
    assert_eq!(largest.1, 90 * PER_DAY * 2 + (90 + 13) * PER_DAY);
    assert_eq!(largest.0, (90 + 13) * PER_DAY);
}

async fn a_clean_up_gives_room_back(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    for number in 0..40 {
        let uuid = bench.queued(id, "InstalledApplicationList").await;
        let large = ReportWrite {
            result: vec![u8::try_from(number).unwrap(); 256 << 10],
            ..report(uuid, ReportStatus::Acknowledged)
        };
        store.report(id, large, at(3)).await.unwrap();
    }
    let before = bench.file_size().await;
    let purged = store.purge(at(91 * DAY), &Retention::default()).await.unwrap();
    assert_eq!((purged.results, purged.entries, purged.commands), (40, 40, 40));
    // On PostgreSQL the room is the database's own affair.
    if let (Some(before), Some(after)) = (before, bench.file_size().await) {
        assert!(before > 8 << 20, "{before}");
        assert!(after < before / 10, "{after} of {before}");
    }
}
