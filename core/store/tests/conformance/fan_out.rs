//! One command to many: named, of a group, of a tenant; in waves; and names to devices.

use jiff::SignedDuration;
use russet_store::testing::statements;
use russet_store::{
    CommandCounts, EnrollmentId, EntryState, NewCommand, Poll, TargetName, Targets, TokenTarget, UserFacts,
};
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use crate::behaviours;
use crate::bench::{Bench, Settle, at};
use crate::locked::{another, has_row_locks, one_waits};

behaviours![
    all_are_the_devices_of_the_tenant,
    a_group_is_its_members,
    duplicates_of_many_are_counted,
    a_duplicate_among_many_is_left_out_alone,
    a_duplicate_that_comes_meanwhile_is_left_out_alone,
    a_wave_is_paced,
    names_are_found_however_many_and_however_odd,
    one_statement_queues_for_all,
    a_large_wave_wakes_each_device_once_and_none_that_came,
    names_mean_devices,
];

async fn devices(bench: &Bench, count: usize) -> Vec<EnrollmentId> {
    let mut ids = Vec::new();
    for number in 0..count {
        ids.push(bench.enrolled(&format!("U{number}")).await);
    }
    ids
}

fn id_of(name: &TargetName) -> EnrollmentId {
    match name {
        TargetName::Enrollment(id) => *id,
        other => panic!("{other:?}"),
    }
}

async fn has(bench: &Bench, id: EnrollmentId, uuid: Uuid) -> bool {
    bench.store.command_entry(id, uuid).await.unwrap().is_some()
}

async fn all_are_the_devices_of_the_tenant(bench: Bench) {
    let store = &bench.store;
    let ids = devices(&bench, 3).await;
    store.check_out(ids[2], at(2)).await.unwrap();
    let user = bench.token(TokenTarget::User {
        parent: ids[0],
        key: "U0:ada".to_owned(),
        channel: russet_protocol::Channel::User,
        user: UserFacts::default(),
    });
    let user = store.token_update(user, at(2)).await.unwrap().id;
    let other = store.create_tenant("other", at(0)).await.unwrap();
    let mut foreign = bench.authenticate_write("F").await;
    foreign.tenant = other;
    let foreign = store.authenticate(foreign, at(0)).await.unwrap();

    assert_eq!(store.device_count(bench.tenant).await.unwrap(), 2);
    let command = bench.command("DeviceInformation");
    let uuid = command.uuid;
    let enqueued = store.enqueue(command, Targets::All, at(3)).await.unwrap();
    assert_eq!((enqueued.queued, enqueued.duplicates), (2, 0));
    for (id, expected) in [
        (ids[0], true),
        (ids[1], true),
        (ids[2], false),
        (user, false),
        (foreign, false),
    ] {
        assert_eq!(has(&bench, id, uuid).await, expected, "{id}");
    }
    let (_, counts) = store.command(bench.tenant, uuid).await.unwrap().unwrap();
    assert_eq!(counts, CommandCounts::from([(EntryState::Pending, 2)]));
    let woken = store.push_claim(10, at(60), at(4)).await.unwrap();
    let mut woken: Vec<_> = woken.iter().map(|job| job.enrollment).collect();
    woken.sort_unstable();
    assert_eq!(woken, ids[..2]);
}

async fn a_group_is_its_members(bench: Bench) {
    let store = &bench.store;
    let other = store.create_tenant("other", at(0)).await.unwrap();
    let ids = devices(&bench, 4).await;
    let group = store
        .put_group(
            bench.tenant,
            "lab",
            vec![ids[0], ids[1], ids[0], EnrollmentId(999)],
            true,
            at(2),
        )
        .await
        .unwrap();
    let names = |page: russet_store::Page<(EnrollmentId, String, Option<String>)>| {
        page.items.into_iter().map(|(_, key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!(names(store.group_members(group, None, 10).await.unwrap()), ["U0", "U1"]);
    // Of the same name it is the same group; another tenant's is another one, and cannot have these devices.
    assert_eq!(
        store
            .put_group(bench.tenant, "lab", vec![ids[2]], false, at(3))
            .await
            .unwrap(),
        group
    );
    let foreign = store.put_group(other, "lab", vec![ids[3]], true, at(3)).await.unwrap();
    assert_ne!(foreign, group);
    assert!(store.group_members(foreign, None, 10).await.unwrap().items.is_empty());
    assert_eq!(store.remove_from_group(group, vec![ids[1], ids[3]]).await.unwrap(), 1);
    store.check_out(ids[0], at(4)).await.unwrap();
    let shown = store.group(bench.tenant, "lab").await.unwrap().unwrap();
    assert_eq!((shown.id, shown.members), (group, 1));

    let command = bench.command("DeviceInformation");
    let uuid = command.uuid;
    assert_eq!(
        store
            .enqueue(command, Targets::Group(group), at(5))
            .await
            .unwrap()
            .queued,
        1
    );
    assert!(has(&bench, ids[2], uuid).await);
    // A command of one tenant does not reach through another's group.
    let command = NewCommand {
        tenant: other,
        ..bench.command("DeviceInformation")
    };
    assert_eq!(
        store
            .enqueue(command, Targets::Group(group), at(5))
            .await
            .unwrap()
            .queued,
        0
    );

    assert_eq!(store.groups(bench.tenant, None, 10).await.unwrap().items, [shown]);
    assert!(!store.delete_group(bench.tenant, "lab ").await.unwrap());
    assert!(store.delete_group(bench.tenant, "lab").await.unwrap());
    assert!(store.group(bench.tenant, "lab").await.unwrap().is_none());
    assert!(store.group(other, "lab").await.unwrap().is_some());
}

async fn duplicates_of_many_are_counted(bench: Bench) {
    let store = &bench.store;
    let ids = devices(&bench, 3).await;
    let keyed = || keyed(&bench, "inventory");
    assert_eq!(store.enqueue(keyed(), vec![ids[1]], at(2)).await.unwrap().queued, 1);
    let all = store.enqueue(keyed(), Targets::All, at(3)).await.unwrap();
    assert_eq!((all.queued, all.duplicates, all.deduplicated), (2, 1, vec![]));
    let group = store
        .put_group(bench.tenant, "g", ids.clone(), true, at(3))
        .await
        .unwrap();
    let again = store.enqueue(keyed(), Targets::Group(group), at(4)).await.unwrap();
    assert_eq!((again.queued, again.duplicates), (0, 3));
}

fn keyed(bench: &Bench, key: &str) -> NewCommand {
    NewCommand {
        dedupe_key: Some(key.to_owned()),
        ..bench.command("DeviceInformation")
    }
}

async fn many(bench: &Bench, count: u32) -> Vec<EnrollmentId> {
    bench.enrolled_many(count).await;
    let names: Vec<String> = (1..=count).map(|number| format!("M{number}")).collect();
    let found = bench.store.resolve_names(bench.tenant, &names).await.unwrap();
    found.iter().map(id_of).collect()
}

async fn a_duplicate_among_many_is_left_out_alone(bench: Bench) {
    let store = &bench.store;
    let ids = many(&bench, 150).await;
    let first = store
        .enqueue(keyed(&bench, "named"), vec![ids[74]], at(2))
        .await
        .unwrap();
    assert_eq!(first.queued, 1);
    let named = store.enqueue(keyed(&bench, "named"), ids.clone(), at(3)).await.unwrap();
    assert_eq!((named.queued, named.duplicates), (149, 1));
    assert_eq!(named.deduplicated, [ids[74]]);
    assert_eq!(bench.count("push_outbox").await, 150);
    let again = store.enqueue(keyed(&bench, "named"), ids.clone(), at(4)).await.unwrap();
    assert_eq!((again.queued, again.deduplicated.len()), (0, 150));
    // Neither another key nor another tenant's devices are duplicates.
    let other = store.create_tenant("other", at(0)).await.unwrap();
    let mut foreign = bench.authenticate_write("F").await;
    foreign.tenant = other;
    let foreign = store.authenticate(foreign, at(0)).await.unwrap();
    let elsewhere = NewCommand {
        tenant: other,
        ..keyed(&bench, "all")
    };
    assert_eq!(store.enqueue(elsewhere, vec![foreign], at(5)).await.unwrap().queued, 1);
    let all = store.enqueue(keyed(&bench, "all"), Targets::All, at(5)).await.unwrap();
    assert_eq!((all.queued, all.duplicates), (150, 0));
    let group = store.put_group(bench.tenant, "g", ids, true, at(6)).await.unwrap();
    let group = store
        .enqueue(keyed(&bench, "all"), Targets::Group(group), at(6))
        .await
        .unwrap();
    assert_eq!((group.queued, group.duplicates), (0, 150));
    assert_eq!(bench.count("queue_entries").await, 301);
}

async fn a_duplicate_that_comes_meanwhile_is_left_out_alone(bench: Bench) {
    if !has_row_locks(&bench) {
        return;
    }
    let ids = many(&bench, 150).await;
    for (key, targets) in [("named", Targets::from(ids.clone())), ("all", Targets::All)] {
        let earlier = bench.queued(ids[0], "DeviceInformation").await;
        let other = another(&bench).await;
        let entry = format!(
            "INSERT INTO queue_entries (tenant_id, enrollment_id, command_id, state, priority, attempts, created_at, \
             dedupe_key) SELECT tenant_id, {}, id, 'pending', 0, 0, 0, '{key}' FROM commands WHERE uuid = '{earlier}'",
            ids[74]
        );
        other.execute_unprepared(&entry).await.unwrap();
        let (store, command) = (bench.store.clone(), keyed(&bench, key));
        let uuid = command.uuid;
        let waits = tokio::spawn(async move { store.enqueue(command, targets, at(3)).await.unwrap() });
        one_waits(&bench).await;
        other.commit().await.unwrap();
        let enqueued = waits.await.unwrap();
        assert_eq!((enqueued.queued, enqueued.duplicates), (149, 1), "{key}");
        assert!(!has(&bench, ids[74], uuid).await);
        assert!(has(&bench, ids[149], uuid).await);
    }
}

async fn a_wave_is_paced(bench: Bench) {
    let store = &bench.store;
    let ids = devices(&bench, 5).await;
    for targets in [Targets::All, ids.clone().into()] {
        let command = NewCommand {
            pace: Some(2),
            not_before: Some(at(600)),
            ..bench.command("InstallProfile")
        };
        let uuid = command.uuid;
        store.enqueue(command, targets, at(2)).await.unwrap();
        let entries = store.command_entries(bench.tenant, uuid, None, 10).await.unwrap().items;
        let minutes: Vec<_> = entries
            .iter()
            .map(|entry| entry.not_before.unwrap().duration_since(at(600)).as_mins())
            .collect();
        assert_eq!(minutes, [0, 0, 1, 1, 2]);
        // The pushes go with them.
        for (minute, woken) in [(0, 2), (1, 2), (2, 1)] {
            let now = at(600 + minute * 60);
            assert!(
                store
                    .push_claim(10, now, now - SignedDuration::from_secs(1))
                    .await
                    .unwrap()
                    .is_empty()
            );
            let jobs = store
                .push_claim(10, now + SignedDuration::from_secs(30), now)
                .await
                .unwrap();
            assert_eq!(jobs.len(), woken, "minute {minute}");
            for job in jobs {
                assert!(store.next(job.enrollment, now, Poll::Idle).await.unwrap().is_some());
                store.flush(job.enrollment, Default::default(), now).await.unwrap();
                store.push_done(&job, now).await.unwrap();
            }
        }
    }
}

async fn names_are_found_however_many_and_however_odd(bench: Bench) {
    const MANY: u32 = 6_000;
    let store = &bench.store;
    bench.enrolled_many(MANY).await;
    let odd = ["a\"b\\c", "{d,e}", "NULL", "it's", "käse 🧀", " f "];
    let mut names: Vec<String> = (1..=MANY).map(|number| format!("SERIAL-M{number}")).collect();
    let mut ids = Vec::new();
    for key in odd {
        ids.push(bench.enrolled(key).await);
    }
    names.extend(odd.map(str::to_owned));
    names.extend(["null", "", "a\0b", "SERIAL-M1"].map(str::to_owned));
    let found = store.resolve_names(bench.tenant, &names).await.unwrap();
    let many = MANY as usize;
    let first = id_of(&found[0]).0;
    for (at, name) in found[..many].iter().enumerate() {
        assert_eq!(id_of(name).0, first + i64::try_from(at).unwrap(), "{}", names[at]);
    }
    assert_eq!(found[many..many + odd.len()].iter().map(id_of).collect::<Vec<_>>(), ids);
    assert_eq!(found[many + odd.len()..many + odd.len() + 3], [TargetName::Unknown; 3]);
    assert_eq!(found.last(), found.first());
    assert_eq!(store.resolve_names(bench.tenant, &[]).await.unwrap(), []);
}

async fn one_statement_queues_for_all(bench: Bench) {
    let store = &bench.store;
    let ids = devices(&bench, 40).await;
    let names: Vec<String> = (0..40).map(|number| format!("SERIAL-U{number}")).collect();
    let mut counted = Vec::new();
    for count in [4, 40] {
        let before = statements();
        assert_eq!(
            store.resolve_names(bench.tenant, &names[..count]).await.unwrap().len(),
            count
        );
        let command = bench.command("DeviceInformation");
        let enqueued = store.enqueue(command, ids[..count].to_vec(), at(3)).await.unwrap();
        assert_eq!(enqueued.queued, count as u64);
        counted.push(statements() - before);
    }
    assert_eq!(
        counted[0], counted[1],
        "the number of statements grows with the number of devices"
    );
    // Names; command, entries, pushes.
    assert_eq!(counted[1], 4);
}

async fn a_large_wave_wakes_each_device_once_and_none_that_came(bench: Bench) {
    const MANY: u32 = 6_000;
    let store = &bench.store;
    bench.enrolled_many(MANY).await;
    let early = bench.enrolled("U1").await;
    let command = bench.command("DeviceInformation");
    let uuid = command.uuid;
    assert_eq!(
        store.enqueue(command, Targets::All, at(2)).await.unwrap().queued,
        u64::from(MANY) + 1
    );
    assert_eq!(bench.count("push_outbox").await, 0, "the wave has not begun");
    assert_eq!(store.push_next_due().await.unwrap(), Some(at(2)));
    assert_eq!(store.next(early, at(3), Poll::Idle).await.unwrap().unwrap().uuid, uuid);
    let mut woken = std::collections::HashSet::new();
    let mut claims = 0;
    while woken.len() < MANY as usize {
        // Every third node dies with what it has in its hands, which another gets when the lease is over.
        let now = at(3 + claims * 60);
        let dies = claims % 3 == 1;
        let lease = now + SignedDuration::from_secs(if dies { 30 } else { 86_400 });
        let jobs = store.push_claim(2_000, lease, now).await.unwrap();
        assert!(!jobs.is_empty(), "{} of {MANY} after {claims} claims", woken.len());
        if claims == 0 {
            let requests = bench.count("push_outbox").await;
            assert_eq!(requests, 5_000, "requests are written as they are needed");
        }
        claims += 1;
        for job in jobs.into_iter().filter(|_| !dies) {
            assert!(woken.insert(job.enrollment), "{} is woken twice", job.enrollment);
        }
    }
    assert!(
        !woken.contains(&early),
        "a device that has fetched its command needs no push"
    );
    let end = at(3 + claims * 60);
    assert!(store.push_claim(10, end, end).await.unwrap().is_empty());
    assert_eq!(bench.count("push_waves").await, 0);
}

async fn names_mean_devices(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    let removed = bench.enrolled("U2").await;
    store.check_out(removed, at(2)).await.unwrap();
    let mut liar = bench.authenticate_write("U3").await;
    liar.facts.serial_number = Some("SERIAL-U1".to_owned());
    let liar = store.authenticate(liar, at(0)).await.unwrap();
    let other = store.create_tenant("other", at(0)).await.unwrap();
    let names = [
        "U1",
        "SERIAL-U1",
        "U2",
        "U3",
        "nobody",
        "U1",
        "'; DROP TABLE commands; --",
    ]
    .map(str::to_owned);
    let one = TargetName::Enrollment(id);
    assert_eq!(
        store.resolve_names(bench.tenant, &names).await.unwrap(),
        [
            one,
            TargetName::Ambiguous,
            TargetName::Removed,
            TargetName::Enrollment(liar),
            TargetName::Unknown,
            one,
            TargetName::Unknown
        ]
    );
    assert_eq!(
        store.resolve_names(other, &names).await.unwrap(),
        [TargetName::Unknown; 7]
    );
    assert!(store.resolve_names(bench.tenant, &[]).await.unwrap().is_empty());
}
