//! Sets of declarations, plans, the requests for them, and what devices report.

use std::collections::BTreeMap;

use russet_protocol::ddm::DeclarationKind;
use russet_store::{
    CommandOrigin, DeclarationSet, EnrollmentId, EnrollmentState, EntryState, NewCommand, NewPlan, PlanChange,
    PlanItem, PlanJob, PlannedContent, Retention, SetDeclaration, StatusWrite, StoreError,
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::behaviours;
use crate::bench::{Bench, at};

behaviours![
    a_set_is_planned_for_those_who_have_it,
    a_set_that_devices_have_stays,
    a_set_is_its_tenants,
    an_equal_plan_writes_nothing,
    a_changed_plan_is_announced_once,
    what_is_kept_out_stays_known,
    contents_are_kept_once_and_go_when_no_plan_has_them,
    requests_coalesce_and_are_leased,
    a_request_that_comes_while_a_plan_is_made_is_not_lost,
    plugins_that_changed_are_walked_through_once,
    enrolling_anew_forgets_plans_and_reports,
    reports_are_kept_by_item,
];

fn set(name: &str, value: i64) -> DeclarationSet {
    DeclarationSet {
        name: name.to_owned(),
        declarations: vec![SetDeclaration {
            identifier: "passcode".to_owned(),
            declaration_type: "com.apple.configuration.passcode.settings".to_owned(),
            payload: Map::from_iter([("MinimumLength".to_owned(), Value::from(value))]),
        }],
        updated_at: at(value),
    }
}

fn content(token: &str) -> PlannedContent {
    PlannedContent {
        server_token: token.to_owned(),
        declaration_type: "com.apple.configuration.passcode.settings".to_owned(),
        payload: r#"{"MinimumLength":6}"#.to_owned(),
    }
}

fn item(source: &str, token: &str, kept_out: bool) -> PlanItem {
    PlanItem {
        source: source.to_owned(),
        identifier: "passcode".to_owned(),
        kind: DeclarationKind::Configuration,
        server_token: token.to_owned(),
        kept_out,
    }
}

fn plan(bench: &Bench, enrollment: EnrollmentId, token: &str) -> NewPlan {
    let command = NewCommand {
        uuid: Uuid::now_v7(),
        request_type: "DeclarativeManagement".to_owned(),
        origin: CommandOrigin::Server,
        ..bench.command("DeclarativeManagement")
    };
    NewPlan {
        enrollment,
        tenant: bench.tenant,
        token: token.to_owned(),
        items: vec![item("set:one", token, false)],
        contents: vec![content(token)],
        faults: BTreeMap::new(),
        announcement: bench.store.sealed_command(command).unwrap(),
        decisions: vec![],
        again_at: None,
    }
}

async fn open_requests(bench: &Bench, enrollment: EnrollmentId) -> Vec<(String, EntryState)> {
    let queue = bench.store.queue(enrollment).await.unwrap();
    queue
        .into_iter()
        .map(|entry| (entry.request_type, entry.state))
        .collect()
}

/// What enrolling requests is made, so that only what the behaviour does is left.
async fn settled(bench: &Bench) {
    for job in claim(bench, 5).await {
        bench.store.plan_done(job).await.unwrap();
    }
}

async fn claim(bench: &Bench, now: i64) -> Vec<PlanJob> {
    bench.store.plan_claim(100, at(now + 60), at(now)).await.unwrap()
}

async fn a_set_is_planned_for_those_who_have_it(bench: Bench) {
    let store = &bench.store;
    let (one, two) = (bench.enrolled("U1").await, bench.enrolled("U2").await);
    settled(&bench).await;
    let written = store.put_declaration_set(bench.tenant, set("one", 6)).await.unwrap();
    assert_eq!((written.created, written.replanned), (true, 0));
    assert!(
        store
            .assign_declaration_set(bench.tenant, one, "one", "ada", at(10))
            .await
            .unwrap()
    );
    assert!(
        !store
            .assign_declaration_set(bench.tenant, one, "one", "ada", at(11))
            .await
            .unwrap()
    );
    let jobs = claim(&bench, 11).await;
    assert_eq!(jobs.iter().map(|job| job.enrollment).collect::<Vec<_>>(), [one]);
    assert_eq!(store.declaration_sets_of(one).await.unwrap(), [set("one", 6)]);
    assert!(store.declaration_sets_of(two).await.unwrap().is_empty());
    store.plan_done(jobs[0].clone()).await.unwrap();

    let same = DeclarationSet {
        updated_at: at(12),
        ..set("one", 6)
    };
    assert_eq!(
        store.put_declaration_set(bench.tenant, same).await.unwrap().replanned,
        0
    );
    let written = store.put_declaration_set(bench.tenant, set("one", 20)).await.unwrap();
    assert_eq!((written.created, written.replanned), (false, 1));
    assert_eq!(claim(&bench, 20).await.len(), 1);

    let assigned = store.assigned_declaration_sets(one).await.unwrap();
    assert_eq!(
        (assigned[0].set.as_str(), assigned[0].assigned_by.as_str()),
        ("one", "ada")
    );
    assert!(
        store
            .unassign_declaration_set(bench.tenant, one, "one", at(30))
            .await
            .unwrap()
    );
    assert!(
        !store
            .unassign_declaration_set(bench.tenant, one, "one", at(30))
            .await
            .unwrap()
    );
    assert!(store.declaration_sets_of(one).await.unwrap().is_empty());
}

async fn a_set_that_devices_have_stays(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    store.put_declaration_set(bench.tenant, set("one", 6)).await.unwrap();
    store
        .assign_declaration_set(bench.tenant, id, "one", "ada", at(10))
        .await
        .unwrap();
    let refused = store.delete_declaration_set(bench.tenant, "one").await;
    assert!(
        matches!(refused, Err(StoreError::InUse("declaration set"))),
        "{refused:?}"
    );
    store
        .unassign_declaration_set(bench.tenant, id, "one", at(11))
        .await
        .unwrap();
    assert!(store.delete_declaration_set(bench.tenant, "one").await.unwrap());
    assert!(!store.delete_declaration_set(bench.tenant, "one").await.unwrap());
}

async fn a_set_is_its_tenants(bench: Bench) {
    let store = &bench.store;
    let other = store.create_tenant("other", at(0)).await.unwrap();
    let id = bench.enrolled("U1").await;
    store.put_declaration_set(other, set("theirs", 6)).await.unwrap();
    store.put_declaration_set(bench.tenant, set("ours", 6)).await.unwrap();
    let foreign_set = store
        .assign_declaration_set(bench.tenant, id, "theirs", "ada", at(1))
        .await;
    assert!(matches!(foreign_set, Err(StoreError::NotFound("declaration set"))));
    let foreign_device = store.assign_declaration_set(other, id, "theirs", "eve", at(1)).await;
    assert!(matches!(foreign_device, Err(StoreError::NotFound("enrollment"))));
    store
        .assign_declaration_set(bench.tenant, id, "ours", "ada", at(2))
        .await
        .unwrap();
    assert!(!store.unassign_declaration_set(other, id, "ours", at(3)).await.unwrap());
    let foreign_plan = NewPlan {
        tenant: other,
        ..plan(&bench, id, "t1")
    };
    let refused = store.put_plan(foreign_plan, None, at(4)).await;
    assert!(matches!(refused, Err(StoreError::NotFound("enrollment"))));
}

async fn an_equal_plan_writes_nothing(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    let mut empty = plan(&bench, id, "none");
    (empty.items, empty.contents) = (vec![], vec![]);
    assert_eq!(store.put_plan(empty, None, at(9)).await.unwrap(), PlanChange::None);
    assert_eq!(store.plan_token(id).await.unwrap(), None);

    let change = store.put_plan(plan(&bench, id, "t1"), None, at(10)).await.unwrap();
    assert_eq!(change, PlanChange::Declarations);
    let before = bench.writes().await;
    let change = store.put_plan(plan(&bench, id, "t1"), None, at(11)).await.unwrap();
    assert_eq!(change, PlanChange::None);
    if store.backend_name() == "sqlite" {
        // PostgreSQL gives a transaction that only locks a row its number too.
        assert_eq!(bench.writes().await, before);
    }
    let token = store.plan_token(id).await.unwrap().unwrap();
    assert_eq!((token.token.as_str(), token.changed_at), ("t1", at(10)));

    // What failed is shown, and changes nothing for the device.
    let mut failed = plan(&bench, id, "t1");
    failed.faults.insert("planner".to_owned(), "trap".to_owned());
    assert_eq!(store.put_plan(failed, None, at(12)).await.unwrap(), PlanChange::Detail);
    let view = store.plan(id, true).await.unwrap().unwrap();
    assert_eq!(view.token.changed_at, at(10));
    assert_eq!(view.faults["planner"], "trap");
    assert_eq!(view.items[0].payload.as_deref(), Some(r#"{"MinimumLength":6}"#));
    assert_eq!(open_requests(&bench, id).await.len(), 1);
}

async fn a_changed_plan_is_announced_once(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    store.put_plan(plan(&bench, id, "t1"), None, at(10)).await.unwrap();
    store.put_plan(plan(&bench, id, "t2"), None, at(11)).await.unwrap();
    let waiting = open_requests(&bench, id).await;
    assert_eq!(
        waiting,
        [("DeclarativeManagement".to_owned(), EntryState::Pending)],
        "one that was not sent is replaced"
    );

    // One that the device has is left alone, and the next plan is announced behind it.
    let sent = store.next(id, at(12), russet_store::Poll::Idle).await.unwrap().unwrap();
    assert_eq!(sent.request_type, "DeclarativeManagement");
    store.put_plan(plan(&bench, id, "t3"), None, at(13)).await.unwrap();
    let states: Vec<_> = open_requests(&bench, id)
        .await
        .into_iter()
        .map(|(_, state)| state)
        .collect();
    assert_eq!(states, [EntryState::Sent, EntryState::Pending]);

    let found = store
        .planned_declaration(id, DeclarationKind::Configuration, "passcode")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (found.server_token.as_str(), &found.payload["MinimumLength"]),
        ("t3", &json!(6))
    );
    let other_kind = store
        .planned_declaration(id, DeclarationKind::Asset, "passcode")
        .await
        .unwrap();
    assert_eq!(other_kind, None);
}

async fn what_is_kept_out_stays_known(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    let mut both = plan(&bench, id, "t1");
    both.items.push(item("planner:two", "t2", true));
    both.contents.push(content("t2"));
    store.put_plan(both, None, at(10)).await.unwrap();
    let view = store.plan(id, false).await.unwrap().unwrap();
    let items: Vec<_> = view.items.into_iter().map(|planned| planned.item).collect();
    assert_eq!(items, [item("set:one", "t1", false), item("planner:two", "t2", true)]);
    let had = store
        .planned_declaration(id, DeclarationKind::Configuration, "passcode")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(had.server_token, "t1");
}

async fn contents_are_kept_once_and_go_when_no_plan_has_them(bench: Bench) {
    let store = &bench.store;
    let (one, two) = (bench.enrolled("U1").await, bench.enrolled("U2").await);
    for id in [one, two] {
        store.put_plan(plan(&bench, id, "t1"), None, at(10)).await.unwrap();
    }
    store.put_plan(plan(&bench, one, "t2"), None, at(11)).await.unwrap();
    let day = 24 * 60 * 60;
    let retention = Retention::default();
    let purge = |seconds: i64| store.purge(at(seconds), &retention);
    assert_eq!(purge(10 + day * 2).await.unwrap().declarations, 0, "both are in a plan");
    store.put_plan(plan(&bench, two, "t2"), None, at(12)).await.unwrap();
    assert_eq!(purge(60).await.unwrap().declarations, 0, "it was used a moment ago");
    assert_eq!(purge(60 + day).await.unwrap().declarations, 1);
    for id in [one, two] {
        let kind = DeclarationKind::Configuration;
        assert!(store.planned_declaration(id, kind, "passcode").await.unwrap().is_some());
    }
}

async fn requests_coalesce_and_are_leased(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    settled(&bench).await;
    for now in [10, 11] {
        store.plan_request(id, at(now)).await.unwrap();
    }
    assert!(store.plan_requested(id).await.unwrap());
    assert!(claim(&bench, 9).await.is_empty(), "not due yet");
    let jobs = claim(&bench, 12).await;
    assert_eq!(jobs.len(), 1);
    assert!(claim(&bench, 13).await.is_empty(), "leased");
    assert_eq!(
        claim(&bench, 12 + 61).await.len(),
        1,
        "a node that died gives its lease back"
    );

    // The first one comes back late: it settles nothing.
    store.plan_done(jobs[0].clone()).await.unwrap();
    assert!(store.plan_requested(id).await.unwrap());
}

async fn a_request_that_comes_while_a_plan_is_made_is_not_lost(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    settled(&bench).await;
    store.plan_request(id, at(10)).await.unwrap();
    let job = claim(&bench, 10).await.remove(0);
    store.plan_request(id, at(11)).await.unwrap();
    store.put_plan(plan(&bench, id, "t1"), Some(job), at(12)).await.unwrap();
    let job = claim(&bench, 12).await.remove(0);

    // One that failed is due later, and at once again when something changes.
    let mut failed = plan(&bench, id, "t1");
    failed.again_at = Some(at(600));
    store.put_plan(failed, Some(job), at(13)).await.unwrap();
    assert!(claim(&bench, 599).await.is_empty());
    store.plan_request(id, at(20)).await.unwrap();
    let job = claim(&bench, 20).await.remove(0);
    assert_eq!(job.attempts, 0, "what changed may have mended it");
    store.plan_again(&job, at(30), true).await.unwrap();
    let job = claim(&bench, 30).await.remove(0);
    assert_eq!(job.attempts, 1);
    store.plan_done(job).await.unwrap();
    assert!(!store.plan_requested(id).await.unwrap());
}

async fn plugins_that_changed_are_walked_through_once(bench: Bench) {
    let store = &bench.store;
    let ids = [bench.enrolled("U1").await, bench.enrolled("U2").await];
    settled(&bench).await;
    let before = bench.writes().await;
    assert!(!store.plan_sweep(bench.tenant, 3, false, at(10)).await.unwrap());
    assert_eq!(bench.writes().await, before, "a tenant without planners is not walked");

    assert!(!store.plan_sweep(bench.tenant, 4, true, at(11)).await.unwrap());
    let jobs = claim(&bench, 11).await;
    assert_eq!(jobs.iter().map(|job| job.enrollment).collect::<Vec<_>>(), ids);
    assert!(jobs.iter().all(|job| job.generation == 4));
    for job in jobs {
        store.plan_done(job).await.unwrap();
    }
    for generation in [4, 3] {
        assert!(!store.plan_sweep(bench.tenant, generation, true, at(12)).await.unwrap());
    }
    assert!(
        claim(&bench, 12).await.is_empty(),
        "neither the same generation nor an older one"
    );
    // The last planner went: its declarations have to go too.
    store.plan_sweep(bench.tenant, 5, false, at(13)).await.unwrap();
    assert_eq!(claim(&bench, 13).await.len(), 2);
    store.plan_sweep(bench.tenant, 6, false, at(14)).await.unwrap();
    assert!(claim(&bench, 14).await.is_empty());
}

async fn enrolling_anew_forgets_plans_and_reports(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    store.put_declaration_set(bench.tenant, set("one", 6)).await.unwrap();
    store
        .assign_declaration_set(bench.tenant, id, "one", "ada", at(10))
        .await
        .unwrap();
    store.put_plan(plan(&bench, id, "t1"), None, at(11)).await.unwrap();
    store.put_status(status(&bench, id), at(12)).await.unwrap();

    let mut renewal = bench.authenticate_write("U1").await;
    renewal.renewal = true;
    store.authenticate(renewal, at(15)).await.unwrap();
    assert!(
        store.plan_token(id).await.unwrap().is_some(),
        "a renewal keeps everything"
    );
    assert!(
        store.plan_requested(id).await.unwrap(),
        "what the device says of itself may be new"
    );

    store
        .authenticate(bench.authenticate_write("U1").await, at(20))
        .await
        .unwrap();
    assert_eq!(store.plan_token(id).await.unwrap(), None);
    assert_eq!(store.plan(id, true).await.unwrap(), None);
    assert!(store.assigned_declaration_sets(id).await.unwrap().is_empty());
    assert!(store.status_items(id).await.unwrap().is_empty());
    assert!(store.status_problems(id).await.unwrap().is_empty());
    assert!(!store.plan_requested(id).await.unwrap());

    store.check_out(id, at(30)).await.unwrap();
    let record = store
        .enrollment(bench.tenant, russet_store::EnrollmentLookup::Id(id))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(record.state, EnrollmentState::Removed);
    let refused = store.put_plan(plan(&bench, id, "t1"), None, at(31)).await;
    assert!(matches!(refused, Err(StoreError::Removed)));
    let refused = store.put_status(status(&bench, id), at(31)).await;
    assert!(matches!(refused, Err(StoreError::Removed)));
}

fn status(bench: &Bench, enrollment: EnrollmentId) -> StatusWrite {
    StatusWrite {
        enrollment,
        tenant: bench.tenant,
        set: vec![
            ("device.operating-system.version".to_owned(), json!("27.1")),
            ("mdm.app".to_owned(), json!([{"identifier": "a\u{0}b"}])),
        ],
        removed: vec![],
        problems: vec!["StatusItems is missing".to_owned()],
        excerpt: Some(b"{".to_vec()),
        replan: false,
        events: vec![],
    }
}

async fn reports_are_kept_by_item(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    settled(&bench).await;
    store.put_status(status(&bench, id), at(10)).await.unwrap();
    let second = StatusWrite {
        set: vec![("device.operating-system.version".to_owned(), json!("27.2"))],
        removed: vec!["mdm.app".to_owned()],
        replan: true,
        ..status(&bench, id)
    };
    store.put_status(second, at(20)).await.unwrap();
    let items = store.status_items(id).await.unwrap();
    let items: Vec<_> = items
        .iter()
        .map(|item| (item.item.as_str(), &item.value, item.reported_at))
        .collect();
    assert_eq!(items, [("device.operating-system.version", &json!("27.2"), at(20))]);
    assert!(store.plan_requested(id).await.unwrap());

    let problems = store.status_problems(id).await.unwrap();
    assert_eq!(problems.len(), 1);
    assert_eq!((problems[0].times, problems[0].reported_at), (2, at(20)));
    for number in 0..40 {
        let odd = StatusWrite {
            set: vec![],
            problems: vec![format!("problem {number}")],
            ..status(&bench, id)
        };
        store.put_status(odd, at(30 + number)).await.unwrap();
    }
    let problems = store.status_problems(id).await.unwrap();
    assert_eq!(problems.len(), 20, "the newest ones");
    assert_eq!(problems[0].problem, "problem 39");
}
