//! Plans that stay good whatever PostgreSQL knows of the tables. A plan is kept as long as its connection, and what the
//! database knows may be from a time when a table was something else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use russet_store::testing::{
    PostgresCluster, postgres_is_skipped, statement_of_callers, statement_of_keys, statements_by_device,
    statements_by_entry,
};
use russet_store::{MasterKey, Store, StoreConfig};

/// Commands for all devices, and all of them answered: that is when the database looks at the table, and takes the index of
/// open entries for an empty one. Then there is one more command for all.
const ALL_ANSWERED: &str = "INSERT INTO queue_entries (tenant_id, enrollment_id, command_id, state, priority, attempts, \
    created_at, finished_at) SELECT 1, n, c, 'acknowledged', 0, 1, 0, 1 FROM generate_series(1, 2000) AS n, \
    generate_series(1, 5) AS c";
/// Every device is pushed to.
const ALL_PUSHED: &str = "INSERT INTO push_outbox (enrollment_id, tenant_id, seq, due_at, attempts, again) \
    SELECT n, 1, 1, 0, 0, TRUE FROM generate_series(1, 2000) AS n";
const ALL_OPEN: &str = "INSERT INTO queue_entries (tenant_id, enrollment_id, command_id, state, priority, attempts, created_at) \
    SELECT 1, n, 9, 'pending', 0, 0, 0 FROM generate_series(1, 2000) AS n";

#[tokio::test]
async fn entries_are_found_by_id_device_or_key_whatever_is_known_of_the_queue() {
    if postgres_is_skipped() {
        return;
    }
    let cluster = PostgresCluster::start().unwrap();
    let url = cluster.create_database("plans").unwrap();
    let master = MasterKey::generate().unwrap();
    let store = Store::open(StoreConfig::new(url), &master).await.unwrap();
    store.close().await.unwrap();

    for state in ["new", "answered", "open"] {
        let changes: &[&str] = match state {
            "answered" => &[
                ALL_ANSWERED,
                ALL_PUSHED,
                "VACUUM ANALYZE queue_entries",
                "VACUUM ANALYZE push_outbox",
            ],
            "open" => &[ALL_OPEN],
            _ => &[],
        };
        for change in changes {
            cluster.query("plans", change).unwrap();
        }
        let lanes = "SET enable_hashjoin = off; SET enable_mergejoin = off;";
        let callers = plan(&cluster, lanes, statement_of_callers());
        for condition in [
            "Index Cond: ((command_id = rc.id) AND (enrollment_id = e.id))",
            "Index Cond: (enrollment_id = e.id)",
            "Index Cond: (sha256 = a.sha256)",
        ] {
            assert!(callers.contains(condition), "{state}, {condition}: {callers}");
        }
        for (at, sql) in statements_by_entry().iter().enumerate() {
            let plan = plan(&cluster, lanes, sql);
            assert!(plan.contains("queue_entries_pkey"), "{state}, statement {at}: {plan}");
            assert!(!plan.contains("queue_open"), "{state}, statement {at}: {plan}");
        }
        for (at, sql) in statements_by_device().iter().enumerate() {
            let plan = plan(&cluster, "", sql);
            let looked_up = plan.matches("queue_open").count();
            assert!(looked_up > 0, "{state}, statement {at}: {plan}");
            let by_device = plan.matches("Index Cond: (enrollment_id = p.enrollment_id)").count();
            assert_eq!(by_device, looked_up, "{state}, statement {at}: {plan}");
        }
        let keys = plan(&cluster, "", &statement_of_keys());
        assert!(keys.contains("using queue_dedupe"), "{state}: {keys}");
    }
}

/// The plan of a statement whose values are not known, on a connection as the server has it.
fn plan(cluster: &PostgresCluster, also: &str, sql: &str) -> String {
    let parameters = (1..).take_while(|number| sql.contains(&format!("${number}"))).count();
    let nulls = vec!["NULL"; parameters].join(", ");
    let asked = format!(
        "SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan; {also} PREPARE asked AS {sql}; \
         EXPLAIN EXECUTE asked({nulls})"
    );
    cluster.query("plans", &asked).unwrap()
}
