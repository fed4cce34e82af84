//! Effects: applied in the transaction of their decision, each for itself, and shown in its record.

use russet_store::{EffectAction, EntryState, NewDecision, NewEffect, TokenTarget};
use serde_json::{Value as Json, json};

use crate::bench::{Bench, at};

crate::behaviours! {
    effects_are_done_with_their_decision,
    a_refused_effect_costs_the_others_nothing,
    what_fails_takes_its_effects_along,
    effects_reach_their_own_tenant_only,
    attributes_are_limited,
}

fn set(name: &str, value: &str) -> EffectAction {
    EffectAction::SetAttribute {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

fn on(key: &str, action: EffectAction) -> NewEffect {
    NewEffect {
        enrollment: Some(key.to_owned()),
        action,
    }
}

fn with(bench: &Bench, effects: Vec<NewEffect>) -> NewDecision {
    NewDecision {
        effects,
        ..bench.decision("allow")
    }
}

/// What the newest decision shows of its effects: name, outcome, reason.
async fn shown(bench: &Bench) -> Vec<(String, String, Option<String>)> {
    let page = bench.store.decisions(bench.tenant, None, None, 1).await.unwrap();
    let text = |effect: &Json, key: &str| effect.get(key).and_then(Json::as_str).map(str::to_owned);
    let effects = page.items[0].effects.as_array().unwrap();
    effects
        .iter()
        .map(|effect| {
            (
                text(effect, "effect").unwrap(),
                text(effect, "outcome").unwrap(),
                text(effect, "reason"),
            )
        })
        .collect()
}

async fn attributes(bench: &Bench, id: russet_store::EnrollmentId) -> Json {
    let lookup = russet_store::EnrollmentLookup::Id(id);
    let found = bench.store.enrollment(bench.tenant, lookup).await.unwrap();
    found.unwrap().attributes
}

async fn effects_are_done_with_their_decision(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    let mut command = bench.command("DeviceInformation");
    command.dedupe_key = Some("plugin:gate:info".to_owned());
    let uuid = command.uuid;
    let command = store.sealed_command(command).unwrap();
    let again = store
        .sealed_command(russet_store::NewCommand {
            dedupe_key: Some("plugin:gate:info".to_owned()),
            ..bench.command("DeviceInformation")
        })
        .unwrap();
    let decision = with(
        &bench,
        vec![
            on("U1", set("site", "north")),
            on(
                "U1",
                EffectAction::ClearAttribute {
                    name: "group".to_owned(),
                },
            ),
            on("U1", EffectAction::EnqueueCommand(Box::new(command))),
            on("U1", EffectAction::EnqueueCommand(Box::new(again))),
            on("U1", EffectAction::Push),
        ],
    );
    store
        .record_decisions(bench.tenant, vec![decision], at(3))
        .await
        .unwrap();

    assert_eq!(attributes(&bench, id).await, json!({ "site": "north" }));
    let queue = store.queue(id).await.unwrap();
    assert_eq!(queue.iter().map(|entry| entry.uuid).collect::<Vec<_>>(), [uuid]);
    assert_eq!(queue[0].state, EntryState::Pending);
    let due = store.push_claim(10, at(100), at(4)).await.unwrap();
    assert_eq!(due.iter().map(|job| job.enrollment).collect::<Vec<_>>(), [id]);
    let outcomes: Vec<_> = shown(&bench).await.into_iter().map(|(_, outcome, _)| outcome).collect();
    assert_eq!(outcomes, ["applied", "applied", "applied", "unchanged", "applied"]);

    let cancel = |uuid| with(&bench, vec![on("U1", EffectAction::CancelCommand { uuid })]);
    store
        .record_decisions(bench.tenant, vec![cancel(uuid)], at(5))
        .await
        .unwrap();
    assert!(store.queue(id).await.unwrap().is_empty());
    store
        .record_decisions(bench.tenant, vec![cancel(uuid)], at(6))
        .await
        .unwrap();
    assert_eq!(shown(&bench).await[0].1, "refused", "it is taken back already");
}

async fn a_refused_effect_costs_the_others_nothing(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    let gone = bench.enrolled("U2").await;
    store.check_out(gone, at(2)).await.unwrap();
    let refused = EffectAction::Refused {
        effect: "enqueue-command".to_owned(),
        reason: "the command is not valid".to_owned(),
    };
    let nobody = NewEffect {
        enrollment: None,
        action: EffectAction::Push,
    };
    let decision = with(
        &bench,
        vec![
            on("nobody", set("a", "1")),
            on("U2", set("b", "2")),
            nobody,
            on("U1", refused),
            on("U1", set("c", "3")),
        ],
    );
    store
        .record_decisions(bench.tenant, vec![decision], at(3))
        .await
        .unwrap();
    assert_eq!(attributes(&bench, id).await, json!({ "group": "staff", "c": "3" }));
    let shown = shown(&bench).await;
    let outcomes: Vec<_> = shown.iter().map(|(_, outcome, _)| outcome.as_str()).collect();
    assert_eq!(outcomes, ["refused", "refused", "refused", "refused", "applied"]);
    let reasons: Vec<_> = shown.iter().filter_map(|(_, _, reason)| reason.as_deref()).collect();
    assert_eq!(
        reasons,
        [
            "the tenant has no such enrollment",
            "the device is not enrolled any more",
            "the call is about no enrollment, and none was named",
            "the command is not valid",
        ]
    );
}

async fn what_fails_takes_its_effects_along(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    // The write that the decision allows is refused: another enrollment has the certificate.
    let mut write = bench.authenticate_write("U2").await;
    store.authenticate(write.clone(), at(2)).await.unwrap();
    write.key = "U3".to_owned();
    write.decisions = vec![with(
        &bench,
        vec![on("U1", set("done", "yes")), on("U1", EffectAction::Push)],
    )];
    assert!(store.authenticate(write, at(3)).await.is_err());
    assert_eq!(attributes(&bench, id).await, json!({ "group": "staff" }));
    assert!(store.push_claim(10, at(100), at(4)).await.unwrap().is_empty());

    // An enrollment that this very write makes is there for its effects.
    let mut write = bench.authenticate_write("U4").await;
    let own = NewEffect {
        enrollment: None,
        action: set("first", "yes"),
    };
    write.decisions = vec![with(&bench, vec![on("U4", set("done", "yes")), own])];
    let made = store.authenticate(write, at(5)).await.unwrap();
    let expected = json!({ "group": "staff", "done": "yes", "first": "yes" });
    assert_eq!(attributes(&bench, made).await, expected);
    store
        .token_update(bench.token(TokenTarget::Enrollment(made)), at(6))
        .await
        .unwrap();
}

async fn effects_reach_their_own_tenant_only(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    let other = store.create_tenant("other", at(0)).await.unwrap();
    let about = NewDecision {
        enrollment: Some(id),
        ..with(
            &bench,
            vec![NewEffect {
                enrollment: None,
                action: set("a", "1"),
            }],
        )
    };
    let named = with(&bench, vec![on("U1", set("b", "2"))]);
    store.record_decisions(other, vec![named, about], at(3)).await.unwrap();
    assert_eq!(attributes(&bench, id).await, json!({ "group": "staff" }));
    let page = store.decisions(other, None, None, 10).await.unwrap();
    for record in page.items {
        assert_eq!(record.effects[0]["outcome"], "refused", "{record:?}");
    }
}

async fn attributes_are_limited(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    let many = (0..300)
        .map(|number| on("U1", set(&format!("a{number}"), "x")))
        .collect();
    store
        .record_decisions(bench.tenant, vec![with(&bench, many)], at(3))
        .await
        .unwrap();
    assert_eq!(attributes(&bench, id).await.as_object().unwrap().len(), 256);
    let large = vec![on("U1", set("a0", &"x".repeat(70_000)))];
    store
        .record_decisions(bench.tenant, vec![with(&bench, large)], at(4))
        .await
        .unwrap();
    assert_eq!(shown(&bench).await[0].1, "refused");
    // A change that fits goes on.
    let small = vec![on("U1", set("a0", "y")), on("U1", set("a1", "x"))];
    store
        .record_decisions(bench.tenant, vec![with(&bench, small)], at(5))
        .await
        .unwrap();
    let outcomes: Vec<_> = shown(&bench).await.into_iter().map(|(_, outcome, _)| outcome).collect();
    assert_eq!(outcomes, ["applied", "unchanged"]);
}
