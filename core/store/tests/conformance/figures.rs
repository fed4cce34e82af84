//! What monitoring is shown.

use jiff::SignedDuration;
use russet_store::{Figures, FlushFilter, Hold, NewCommand, Poll, PushOutcome};

use crate::behaviours;
use crate::bench::{Bench, at};

behaviours![what_waits_is_counted];

async fn what_waits_is_counted(bench: Bench) {
    let store = &bench.store;
    assert_eq!(store.figures(at(0)).await.unwrap(), Figures::default());

    let device = bench.enrolled("F1").await;
    bench.queued(device, "SecurityInfo").await;
    let held = NewCommand {
        hold: Some(Hold {
            reason: "four-eyes".to_owned(),
            message: "somebody else has to agree".to_owned(),
        }),
        ..bench.command("EraseDevice")
    };
    store.enqueue(held, vec![device], at(2)).await.unwrap();
    store
        .record_decisions(bench.tenant, vec![bench.decision("deny")], at(3))
        .await
        .unwrap();
    let figures = store.figures(at(60)).await.unwrap();
    let expected = Figures {
        pushes_due: 1,
        push_due_since: Some(at(2)),
        held_commands: 1,
        decisions_unchained: 1,
        ..Figures::default()
    };
    assert_eq!(figures, expected);

    // One that APNs refuses is never late: it is due later, again and again.
    let refused = PushOutcome::Refused { due_at: at(90) };
    let jobs = store.push_claim(10, at(180), at(60)).await.unwrap();
    let settled = jobs.into_iter().map(|job| (job, refused)).collect();
    store.push_settle(settled, at(60)).await.unwrap();
    let figures = store.figures(at(61)).await.unwrap();
    assert_eq!((figures.pushes_due, figures.pushes_refused), (0, 1), "{figures:?}");

    // A push that somebody has taken does not wait, and a decision in the chain neither.
    let jobs = store.push_claim(10, at(180), at(90)).await.unwrap();
    let settled = jobs.into_iter().map(|job| (job, PushOutcome::Taken)).collect();
    store.push_settle(settled, at(60)).await.unwrap();
    bench.chained().await;
    // Offered until it is stuck.
    let mut now = at(61);
    while store.figures(now).await.unwrap().stuck_entries == 0 {
        assert!(now < at(86_400 * 30), "a command that nobody answers is never stuck");
        store.next(device, now, Poll::Idle).await.unwrap();
        now += SignedDuration::from_hours(1);
    }
    let figures = store.figures(at(91)).await.unwrap();
    assert_eq!(
        (figures.pushes_refused, figures.decisions_unchained),
        (0, 0),
        "{figures:?}"
    );
    assert_eq!((figures.stuck_entries, figures.held_commands), (1, 1), "{figures:?}");

    // What no device waits for any more waits for nobody's approval.
    store.flush(device, FlushFilter::default(), at(92)).await.unwrap();
    assert_eq!(store.figures(at(93)).await.unwrap().held_commands, 0);
}
