//! The chain of decision records, their retention, and the calls that are kept sealed beside them.

use std::time::Duration;

use russet_store::{ChainBreak, ChainHead, DecisionFilter, DecisionRetention, NewDecision, RecordedCall, Retention};

use crate::bench::{Bench, at, sha256};

crate::behaviours! {
    decisions_join_one_chain,
    a_changed_decision_shows,
    a_missing_decision_shows,
    a_record_of_a_clock_that_was_ahead_keeps_no_others,
    retention_takes_the_old_end,
    calls_are_sealed_and_go_first,
    many_decide_at_once,
    decisions_are_filtered_and_exported,
}

async fn decide(bench: &Bench, subjects: &[&str], seconds: i64) {
    let decisions = subjects.iter().map(|subject| NewDecision {
        subject: (*subject).to_owned(),
        input_sha256: Some(sha256(7)),
        ..bench.decision("allow")
    });
    let store = &bench.store;
    store
        .record_decisions(bench.tenant, decisions.collect(), at(seconds))
        .await
        .unwrap();
}

async fn head(bench: &Bench) -> ChainHead {
    let report = bench.store.verify_decisions(bench.tenant, None).await.unwrap();
    assert_eq!(report.broken, None);
    report.head
}

async fn decisions_join_one_chain(bench: Bench) {
    let store = &bench.store;
    assert_eq!(head(&bench).await.seq, 0);
    assert!(!store.unchained_decisions().await.unwrap());
    decide(&bench, &["a", "b"], 1).await;
    let other = store.create_tenant("other", at(0)).await.unwrap();
    store
        .record_decisions(other, vec![bench.decision("deny")], at(1))
        .await
        .unwrap();
    bench.chained().await;
    let first = head(&bench).await;
    assert_eq!(first.seq, 2);
    decide(&bench, &["c"], 2).await;
    bench.chained().await;
    let report = store.verify_decisions(bench.tenant, Some(first)).await.unwrap();
    assert_eq!(
        (report.broken, report.verified, report.waiting, report.head.seq),
        (None, 3, 0, 3)
    );
    // The other tenant has a chain of its own.
    assert_eq!(store.verify_decisions(other, None).await.unwrap().head.seq, 1);
    let records = store.decisions(bench.tenant, None, None, 10).await.unwrap().items;
    let places: Vec<_> = records.iter().map(|record| record.chain.unwrap().seq).collect();
    assert_eq!(places, [3, 2, 1]);
    // A head that was noted elsewhere and is not in the chain.
    let foreign = ChainHead {
        seq: 2,
        hash: sha256(9),
    };
    let report = store.verify_decisions(bench.tenant, Some(foreign)).await.unwrap();
    assert_eq!(report.broken, Some(ChainBreak::OtherHead { seq: 2 }));
}

async fn a_changed_decision_shows(bench: Bench) {
    decide(&bench, &["a", "b", "c"], 1).await;
    bench.chained().await;
    let second = bench
        .store
        .decisions(bench.tenant, None, None, 10)
        .await
        .unwrap()
        .items
        .remove(1);
    let changes = [
        ("verdict = 'deny'", "verdict = 'allow'"),
        ("effects = '[{}]'", "effects = '[]'"),
        ("created_at = created_at + 1", "created_at = created_at - 1"),
        ("input_sha256 = NULL", ""),
    ];
    for (change, back) in changes {
        let sql = |change: &str| format!("UPDATE decisions SET {change} WHERE id = {}", second.id);
        bench.meddle(&sql(change), &sql(change)).await;
        let report = bench.store.verify_decisions(bench.tenant, None).await.unwrap();
        let Some(ChainBreak::Changed { seq, id, .. }) = report.broken else {
            panic!("{change}: {report:?}");
        };
        assert_eq!((seq, id), (2, second.id), "{change}");
        if !back.is_empty() {
            bench.meddle(&sql(back), &sql(back)).await;
            head(&bench).await;
        }
    }
}

async fn a_missing_decision_shows(bench: Bench) {
    decide(&bench, &["a", "b", "c"], 1).await;
    bench.chained().await;
    let sql = "DELETE FROM decisions WHERE chain_seq = 2";
    bench.meddle(sql, sql).await;
    let report = bench.store.verify_decisions(bench.tenant, None).await.unwrap();
    assert_eq!(report.broken, Some(ChainBreak::Missing { seq: 2 }));
    let sql = "DELETE FROM decisions WHERE chain_seq > 1";
    bench.meddle(sql, sql).await;
    let report = bench.store.verify_decisions(bench.tenant, None).await.unwrap();
    assert_eq!(
        report.broken,
        Some(ChainBreak::Missing { seq: 2 }),
        "the end is missed too"
    );
}

async fn a_record_of_a_clock_that_was_ahead_keeps_no_others(bench: Bench) {
    let store = &bench.store;
    let retention = Retention {
        decisions: Duration::from_secs(100),
        ..Retention::default()
    };
    decide(&bench, &["a"], 1).await;
    decide(&bench, &["ahead"], 900_000).await;
    decide(&bench, &["b"], 60).await;
    bench.chained().await;
    let purge = async |seconds| {
        let expected = store.would_purge(at(seconds), &retention).await.unwrap().decisions;
        let purged = store.purge(at(seconds), &retention).await.unwrap().decisions;
        assert_eq!(purged, expected, "at {seconds}");
        purged
    };
    assert_eq!(purge(120).await, 1, "it may be as young as what follows it");
    assert_eq!(purge(170).await, 2, "and goes with that");
    let report = store.verify_decisions(bench.tenant, None).await.unwrap();
    assert_eq!((report.broken, report.anchor.seq), (None, 3));
}

async fn retention_takes_the_old_end(bench: Bench) {
    let store = &bench.store;
    let retention = Retention {
        decisions: Duration::from_secs(100),
        ..Retention::default()
    };
    decide(&bench, &["a"], 1).await;
    bench.chained().await;
    let first = head(&bench).await;
    decide(&bench, &["b"], 1).await;
    decide(&bench, &["c"], 50).await;
    bench.chained().await;
    let noted = head(&bench).await;
    let purged = store.purge(at(120), &retention).await.unwrap();
    assert_eq!(purged.decisions, 2);
    let report = store.verify_decisions(bench.tenant, Some(noted)).await.unwrap();
    assert_eq!((report.broken.clone(), report.verified), (None, 1));
    assert_eq!((report.anchor.seq, report.head), (2, noted));
    // Where it begins is held by the database alone, and says nothing of a head from before.
    let report = store.verify_decisions(bench.tenant, Some(first)).await.unwrap();
    assert_eq!(report.broken, Some(ChainBreak::HeadGone { seq: 1 }));
    // What is left still hangs on what is gone.
    let sql = "UPDATE decision_chains SET anchor_hash = hash";
    bench.meddle(sql, sql).await;
    let report = store.verify_decisions(bench.tenant, None).await.unwrap();
    assert!(
        matches!(report.broken, Some(ChainBreak::Changed { seq: 3, .. })),
        "{report:?}"
    );

    // The tenant's own retention comes before the server's.
    let own = DecisionRetention {
        decisions_days: Some(1),
        input_hours: None,
    };
    store.set_decision_retention(bench.tenant, own).await.unwrap();
    assert_eq!(store.decision_retention(bench.tenant).await.unwrap(), own);
    assert_eq!(store.purge(at(1_000), &retention).await.unwrap().decisions, 0);
    assert_eq!(store.purge(at(100_000), &retention).await.unwrap().decisions, 1);
    decide(&bench, &["d"], 100_001).await;
    bench.chained().await;
    assert_eq!(head(&bench).await.seq, 4, "the chain goes on from its end");
}

async fn calls_are_sealed_and_go_first(bench: Bench) {
    let store = &bench.store;
    let call = RecordedCall {
        input: r#"{"pin":"1234"}"#.to_owned(),
        journal: "[]".to_owned(),
        verdict: r#""allow""#.to_owned(),
    };
    let large = RecordedCall {
        input: "x".repeat(2 << 20),
        ..call.clone()
    };
    assert!(store.sealed_call(bench.tenant, &large).unwrap().is_none());
    let with_call = || NewDecision {
        call: store.sealed_call(bench.tenant, &call).unwrap(),
        ..bench.decision("allow")
    };
    let now = at(1);
    store
        .record_decisions(bench.tenant, vec![with_call(), with_call()], now)
        .await
        .unwrap();
    bench.chained().await;
    let records = store.decisions(bench.tenant, None, None, 10).await.unwrap().items;
    let (second, first) = (records[0].id, records[1].id);
    assert!(records.iter().all(|record| record.has_call));
    assert_eq!(
        store.recorded_call(bench.tenant, first).await.unwrap(),
        Some(call.clone())
    );
    let other = store.create_tenant("other", at(0)).await.unwrap();
    assert_eq!(store.recorded_call(other, first).await.unwrap(), None);
    // What is copied to another row does not open, unless its name goes along.
    let sql =
        format!("UPDATE decisions SET sealed = (SELECT sealed FROM decisions WHERE id = {first}) WHERE id = {second}");
    bench.meddle(&sql, &sql).await;
    assert!(store.recorded_call(bench.tenant, second).await.is_err());

    let retention = Retention {
        recorded_calls: Duration::from_secs(60),
        ..Retention::default()
    };
    assert_eq!(store.purge(at(30), &retention).await.unwrap().recorded_calls, 0);
    let purged = store.purge(at(100), &retention).await.unwrap();
    assert_eq!((purged.recorded_calls, purged.decisions), (2, 0));
    assert_eq!(store.recorded_call(bench.tenant, first).await.unwrap(), None);
    // The record is as good as before.
    assert_eq!(head(&bench).await.seq, 2);
}

async fn many_decide_at_once(bench: Bench) {
    let store = &bench.store;
    let writers = (0..8).map(|_| async {
        for second in 0..10 {
            decide(&bench, &["x", "y"], second).await;
            store.chain_decisions().await.unwrap();
        }
    });
    futures::future::join_all(writers).await;
    bench.chained().await;
    let report = store.verify_decisions(bench.tenant, None).await.unwrap();
    assert_eq!((report.broken, report.verified, report.head.seq), (None, 160, 160));
}

async fn decisions_are_filtered_and_exported(bench: Bench) {
    let store = &bench.store;
    let call = RecordedCall {
        input: "{}".to_owned(),
        journal: "[]".to_owned(),
        verdict: r#""deny""#.to_owned(),
    };
    let denied = NewDecision {
        plugin: Some("other".to_owned()),
        call: store.sealed_call(bench.tenant, &call).unwrap(),
        ..bench.decision("deny")
    };
    let decisions = vec![bench.decision("allow"), denied, bench.decision("allow")];
    store.record_decisions(bench.tenant, decisions, at(10)).await.unwrap();
    let count = async |filter: DecisionFilter| {
        let page = store.decisions_where(bench.tenant, &filter, None, 10).await.unwrap();
        page.items.len()
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        count(DecisionFilter {
            plugin: text("gate"),
            ..Default::default()
        })
        .await,
        2
    );
    assert_eq!(
        count(DecisionFilter {
            verdict: text("deny"),
            ..Default::default()
        })
        .await,
        1
    );
    assert_eq!(
        count(DecisionFilter {
            hook: text("directory"),
            ..Default::default()
        })
        .await,
        0
    );
    assert_eq!(
        count(DecisionFilter {
            since: Some(at(11)),
            ..Default::default()
        })
        .await,
        0
    );
    let all = DecisionFilter::default();
    let first = store.export_decisions(bench.tenant, &all, None, 2).await.unwrap();
    assert_eq!(first.items[1].1, Some(call));
    let rest = store.export_decisions(bench.tenant, &all, first.next, 2).await.unwrap();
    assert_eq!(rest.items.len(), 1);
    let kept = DecisionFilter {
        with_call: true,
        ..Default::default()
    };
    assert_eq!(
        store
            .export_decisions(bench.tenant, &kept, None, 10)
            .await
            .unwrap()
            .items
            .len(),
        1
    );
}
