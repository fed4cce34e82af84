//! Each scenario in a short form, and a checker that finds what is missing. `make soak` runs them in full.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use russet_faults::fleet::Habits;
use russet_faults::scenarios::named;
use russet_faults::site::{Backend, Extent, Site};
use russet_store::testing::postgres_is_skipped;

/// The same faults each time.
const SEED: u64 = 1;

async fn short(name: &str) {
    let scenario = named(name).unwrap();
    let runs = scenario.few;
    let outcome = scenario.run(Extent { seed: SEED, runs }).await;
    if let Some(why) = &outcome.left_out {
        println!("############ {name} LEFT OUT: {why} ############");
        return;
    }
    assert!(outcome.faults >= runs && outcome.compared > 100, "{outcome:?}");
    assert!(outcome.accepted > 0 && outcome.answered > 0, "{outcome:?}");
}

async fn short_on_postgres(name: &str) {
    if !postgres_is_skipped() {
        short(name).await;
    }
}

macro_rules! short {
    ($($test:ident $function:ident $name:literal;)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $test() {
            $function($name).await;
        })*
    };
}

short! {
    a_kill_loses_nothing_on_sqlite short "kill-sqlite";
    a_kill_loses_nothing_on_postgres short_on_postgres "kill-postgres";
    a_crash_of_the_database_loses_nothing short_on_postgres "database-crash";
    a_cut_at_a_commit_loses_nothing short_on_postgres "network-cut";
    connections_that_go_silent_are_given_up short_on_postgres "network-silent";
    a_full_disk_loses_nothing short "disk-full";
    files_that_may_not_grow_lose_nothing short "file-limit";
    identities_that_expire_are_renewed short "expiry";
    days_pass_and_nothing_grows_on_sqlite short "growth-sqlite";
    days_pass_and_nothing_grows_on_postgres short_on_postgres "growth-postgres";
    a_clock_that_jumps_holds_nothing_up_on_sqlite short "clock";
    a_clock_that_jumps_holds_nothing_up_on_postgres short_on_postgres "clock-postgres";
    renewals_that_are_cut_short_lock_nobody_out short "renewals";
    a_push_service_in_trouble_loses_no_push short "push-service";
    repeated_and_damaged_messages_change_nothing short_on_postgres "disorder";
    slow_clients_are_in_nobodys_way short "slow-clients";
}

/// What the checker is for: each of these is a loss that no server may have, made behind its back.
#[tokio::test(flavor = "multi_thread")]
async fn the_checker_finds_what_is_missing() {
    let losses = [
        ("DELETE FROM escrow", "the bootstrap token of"),
        (
            "UPDATE enrollments SET push_magic = 'another' WHERE state = 'active'",
            "another push token or magic",
        ),
        (
            "UPDATE queue_entries SET result = NULL WHERE state = 'acknowledged'",
            "with its result: false",
        ),
        (
            "UPDATE queue_entries SET state = 'sent' WHERE state = 'acknowledged'",
            "an entry is over and not over",
        ),
        ("DELETE FROM queue_entries", "and is gone"),
        ("DELETE FROM decisions WHERE chain_seq = 1", "is empty"),
    ];
    let mut site = Site::start(Backend::Sqlite, Extent { seed: SEED, runs: 1 }, Habits::default()).await;
    let running = site.run().await;
    assert_eq!(running.settle().await, []);
    site.checker
        .at_last(&site.fleet)
        .await
        .assert_none("before anything is lost");
    site.world.server.kill();
    for (loss, found) in losses {
        site.checker.tables().change(loss).await.unwrap();
        let findings = site.checker.any_time(&site.fleet).await;
        let named = findings.wrong.iter().any(|wrong| wrong.contains(found));
        assert!(named, "{loss}: {:?}", findings.wrong);
    }
}
