//! Rolling upgrades: each step of the schema leaves the programs of the version before at work, and a program that a
//! database cannot be used with says so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use russet_store::testing::{Inspection, PostgresCluster, migrate_to, postgres_is_skipped, steps};
use russet_store::{EnrollmentFilter, EnrollmentState, MasterKey, OpenError, Store, StoreConfig};

/// The last step of the first version that was released: rolling upgrades begin there.
const RELEASED: &str = "m0008_reminders";

fn master() -> MasterKey {
    MasterKey::from_bytes([42; 32])
}

/// An empty database on each back end.
async fn databases(name: &str, folder: &Path, cluster: Option<&PostgresCluster>) -> Vec<String> {
    let file = folder.join(format!("{name}.sqlite"));
    std::fs::write(&file, b"").unwrap();
    let mut urls = vec![format!("sqlite://{}", file.display())];
    urls.extend(cluster.map(|cluster| cluster.create_database(name).unwrap()));
    urls
}

fn cluster() -> Option<PostgresCluster> {
    (!postgres_is_skipped()).then(|| PostgresCluster::start().unwrap())
}

/// What a program may depend on, as text.
#[derive(Debug, Default, PartialEq, Eq)]
struct Schema {
    /// Type, whether it can be null, default; by table and column.
    columns: BTreeMap<(String, String), [String; 3]>,
    /// Table of each unique index, by name.
    unique: BTreeMap<String, String>,
    /// Conditions on rows: CHECK constraints, foreign keys; by their text.
    conditions: BTreeSet<(String, String)>,
}

async fn schema(url: &str) -> Schema {
    let look = Inspection::open(url).await.unwrap();
    let sqlite = look.backend_name() == "sqlite";
    let columns = if sqlite {
        "SELECT m.name, c.name, c.type, CASE WHEN c.\"notnull\" = 1 OR c.pk > 0 THEN 'no' ELSE 'yes' END, \
         COALESCE(c.dflt_value, CASE WHEN c.pk > 0 THEN 'key' ELSE '' END) \
         FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'"
    } else {
        "SELECT table_name::text, column_name::text, data_type::text, lower(is_nullable)::text, \
         (COALESCE(column_default, '') || CASE WHEN is_identity = 'YES' THEN 'identity' ELSE '' END)::text \
         FROM information_schema.columns WHERE table_schema = current_schema()"
    };
    let unique = if sqlite {
        "SELECT i.name, m.name FROM sqlite_master m JOIN pragma_index_list(m.name) i \
         WHERE m.type = 'table' AND i.\"unique\" = 1"
    } else {
        "SELECT i.relname::text, t.relname::text FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid \
         JOIN pg_class t ON t.oid = x.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace \
         WHERE x.indisunique AND n.nspname = current_schema()"
    };
    // SQLite can add conditions with a new column only, where they are part of the text of the table.
    let conditions = if sqlite {
        "SELECT m.name, f.\"table\" || '.' || f.\"from\" FROM sqlite_master m \
         JOIN pragma_foreign_key_list(m.name) f WHERE m.type = 'table'"
    } else {
        "SELECT t.relname::text, c.conname || ' ' || pg_get_constraintdef(c.oid) FROM pg_constraint c \
         JOIN pg_class t ON t.oid = c.conrelid JOIN pg_namespace n ON n.oid = t.relnamespace \
         WHERE n.nspname = current_schema() AND c.contype IN ('c', 'f', 'x')"
    };
    let mut found = Schema::default();
    let text = |cell: &Option<String>| cell.clone().unwrap_or_default();
    for row in look.rows(columns).await.unwrap() {
        found.columns.insert(
            (text(&row[0]), text(&row[1])),
            [text(&row[2]), text(&row[3]), text(&row[4])],
        );
    }
    for row in look.rows(unique).await.unwrap() {
        found.unique.insert(text(&row[0]), text(&row[1]));
    }
    for row in look.rows(conditions).await.unwrap() {
        found.conditions.insert((text(&row[0]), text(&row[1])));
    }
    look.close().await;
    found
}

/// What of a change would stop a program of the version before.
fn breaks(before: &Schema, after: &Schema) -> Vec<String> {
    let mut found = Vec::new();
    let tables: BTreeSet<&String> = before.columns.keys().map(|(table, _)| table).collect();
    for (name, was) in &before.columns {
        match after.columns.get(name) {
            None => found.push(format!("{name:?} is gone")),
            Some(is) if is != was => found.push(format!("{name:?} was {was:?} and is {is:?}")),
            Some(_) => {}
        }
    }
    for (name @ (table, _), [_, nullable, default]) in &after.columns {
        let new = !before.columns.contains_key(name);
        if new && tables.contains(table) && nullable == "no" && default.is_empty() {
            found.push(format!(
                "{name:?} is new and needs a value that an older program does not give"
            ));
        }
    }
    for (index, table) in &after.unique {
        if !before.unique.contains_key(index) && tables.contains(table) {
            found.push(format!(
                "the unique index {index} is new, and an older program may write against it"
            ));
        }
    }
    for (table, condition) in &after.conditions {
        let known = before.conditions.contains(&(table.clone(), condition.clone()));
        if !known && tables.contains(table) {
            found.push(format!("{table} has a new condition: {condition}"));
        }
    }
    found
}

async fn floor(url: &str) -> Option<u32> {
    let look = Inspection::open(url).await.unwrap();
    let rows = look.rows("SELECT CAST(level AS TEXT) FROM schema_floor").await.ok()?;
    look.close().await;
    rows[0][0].as_ref()?.parse().ok()
}

fn number(step: &str) -> u32 {
    step[1..5].parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_is_additive_or_raises_the_floor() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = cluster();
    let released = steps().iter().position(|step| *step == RELEASED).unwrap();
    for url in databases("steps", folder.path(), cluster.as_ref()).await {
        migrate_to(&url, RELEASED).await.unwrap();
        let mut before = schema(&url).await;
        assert!(
            before.columns.len() > 100,
            "the look at the tables sees them: {before:?}"
        );
        for step in &steps()[released + 1..] {
            migrate_to(&url, step).await.unwrap();
            let after = schema(&url).await;
            let breaking = breaks(&before, &after);
            if !breaking.is_empty() {
                assert_eq!(floor(&url).await, Some(number(step)), "{step} on {url}: {breaking:#?}");
            }
            before = after;
        }
    }
}

/// The check itself finds what it is for.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_additive_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = cluster();
    for url in databases("breaks", folder.path(), cluster.as_ref()).await {
        migrate_to(&url, RELEASED).await.unwrap();
        let look = Inspection::open(&url).await.unwrap();
        let before = schema(&url).await;
        for harmless in [
            "CREATE TABLE later (id BIGINT PRIMARY KEY, what TEXT NOT NULL)",
            "ALTER TABLE tenants ADD COLUMN note TEXT",
            "ALTER TABLE tenants ADD COLUMN size BIGINT NOT NULL DEFAULT 0",
            "CREATE INDEX tenants_note ON tenants (note)",
            "CREATE UNIQUE INDEX later_what ON later (what)",
        ] {
            look.change(harmless).await.unwrap();
            assert_eq!(breaks(&before, &schema(&url).await), [""; 0], "{harmless}");
        }
        let before = schema(&url).await;
        for harm in [
            "ALTER TABLE tenants DROP COLUMN plugin_generation",
            "ALTER TABLE tenants RENAME COLUMN size TO volume",
            "DROP TABLE leases",
            "CREATE UNIQUE INDEX groups_one ON device_groups (tenant_id, created_at)",
        ] {
            let known = breaks(&before, &schema(&url).await).len();
            look.change(harm).await.unwrap();
            assert!(breaks(&before, &schema(&url).await).len() > known, "{harm}");
        }
        look.close().await;
    }
}

/// What a node of the first version writes and reads while a newer one has already brought the tables further: as that
/// version had it, kept as text.
const OLD_STATEMENTS: &[&str] = &[
    "INSERT INTO enrollments (tenant_id, enrollment_key, channel, person, attributes, certificate_sha256, push_topic, \
     created_at, last_seen_at, state, awaiting_configuration, udid, serial_number, model, model_name, product_name, \
     os_version, build_version, device_name, imei, meid) VALUES (1, 'OLD-{n}', 'device', NULL, '{}', NULL, 'topic', 1, 1, \
     'pending', FALSE, 'OLD-{n}', 'SERIAL-{n}', NULL, NULL, NULL, '18.0', NULL, NULL, NULL, NULL)",
    "UPDATE enrollments SET state = 'active', push_topic = 'topic', push_magic = 'magic', token_parked_at = NULL, \
     awaiting_configuration = FALSE, token_updated_at = 2, last_seen_at = 2, enrolled_at = COALESCE(enrolled_at, 2) \
     WHERE enrollment_key = 'OLD-{n}'",
    "INSERT INTO leases (name, holder, until) SELECT 'old-{n}', holder, 1 FROM leases WHERE FALSE",
    "INSERT INTO scep_challenges (tenant_id, challenge_sha256, attributes, created_at, expires_at) \
     VALUES (1, {bytes}, '{}', 1, 2)",
    "INSERT INTO device_groups (tenant_id, name, created_at) VALUES (1, 'old-{n}', 1)",
    "INSERT INTO push_outbox (enrollment_id, tenant_id, seq, due_at, attempts) SELECT id, tenant_id, 1, 1, 0 \
     FROM enrollments WHERE enrollment_key = 'OLD-{n}'",
];

async fn old_node_works(url: &str, round: usize) {
    let look = Inspection::open(url).await.unwrap();
    let bytes = match look.backend_name() {
        "sqlite" => format!("x'{round:064x}'"),
        _ => format!("'\\x{round:064x}'"),
    };
    for statement in OLD_STATEMENTS {
        let statement = statement.replace("{n}", &round.to_string()).replace("{bytes}", &bytes);
        look.change(&statement)
            .await
            .unwrap_or_else(|error| panic!("an old node fails after step {round}: {statement}: {error}"));
    }
    look.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_node_goes_on_after_each_step_and_its_data_is_the_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = cluster();
    let released = steps().iter().position(|step| *step == RELEASED).unwrap();
    for url in databases("beside", folder.path(), cluster.as_ref()).await {
        migrate_to(&url, RELEASED).await.unwrap();
        let look = Inspection::open(&url).await.unwrap();
        look.change("INSERT INTO tenants (id, name, created_at) VALUES (1, 'default', 0)")
            .await
            .unwrap();
        look.close().await;
        old_node_works(&url, 0).await;
        let newer = &steps()[released + 1..];
        for (round, step) in newer.iter().enumerate() {
            migrate_to(&url, step).await.unwrap();
            old_node_works(&url, round + 1).await;
        }

        // The new node reads all of it, and the old one can go on beside it.
        let store = Store::open(StoreConfig::new(&*url), &master()).await.unwrap();
        old_node_works(&url, 99).await;
        let filter = EnrollmentFilter::default();
        let devices = store
            .enrollments(store.default_tenant(), &filter, None, 100)
            .await
            .unwrap()
            .items;
        assert_eq!(devices.len(), newer.len() + 2);
        assert!(devices.iter().all(|device| device.state == EnrollmentState::Active));
        assert_eq!(devices[0].facts.serial_number.as_deref(), Some("SERIAL-0"));
        assert_eq!(store.import_status(store.default_tenant()).await.unwrap().devices, 0);
        store.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_nodes_upgrade_one_database_at_the_same_time() {
    let Some(cluster) = cluster() else { return };
    let last = *steps().last().unwrap();
    let before = steps()[steps().len() - 2];
    let url = cluster.create_database("at_once").unwrap();
    migrate_to(&url, before).await.unwrap();
    let opening = (0..4).map(|_| {
        let url = url.clone();
        tokio::spawn(async move { Store::open(StoreConfig::new(url), &master()).await.unwrap() })
    });
    let mut stores = Vec::new();
    for store in opening.collect::<Vec<_>>() {
        stores.push(store.await.unwrap());
    }
    let applied = cluster
        .query(
            "at_once",
            "SELECT string_agg(version, ' ' ORDER BY version) FROM seaql_migrations",
        )
        .unwrap();
    assert_eq!(applied, steps().join(" "));
    assert!(applied.ends_with(last));
    for store in stores {
        store.ping().await.unwrap();
        store.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_says_whether_it_can_use_a_newer_database() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = cluster();
    let level = number(steps().last().unwrap());
    for url in databases("newer", folder.path(), cluster.as_ref()).await {
        let open = || async { Store::open(StoreConfig::new(&*url), &master()).await };
        open().await.unwrap().close().await.unwrap();
        let look = Inspection::open(&url).await.unwrap();
        // A newer program was here, and left this one at work.
        look.change("INSERT INTO seaql_migrations (version, applied_at) VALUES ('m9000_later', 1)")
            .await
            .unwrap();
        look.change("ALTER TABLE enrollments ADD COLUMN later TEXT")
            .await
            .unwrap();
        let store = open().await.unwrap();
        store.ping().await.unwrap();
        store.close().await.unwrap();

        // Then one that took away what this one needs.
        look.change("UPDATE schema_floor SET level = 9000").await.unwrap();
        let error = open().await.unwrap_err();
        assert!(
            matches!(error, OpenError::TooNew { needed: 9000, known } if known == level),
            "{error:?}"
        );
        let text = error.to_string();
        assert!(
            text.contains("level 9000") && text.contains("start the newer program"),
            "{text}"
        );

        // One that has this program's steps but for one is of another line.
        look.change("UPDATE schema_floor SET level = 8").await.unwrap();
        let dropped = format!("DELETE FROM seaql_migrations WHERE version = '{RELEASED}'");
        look.change(&dropped).await.unwrap();
        let error = open().await.unwrap_err();
        assert!(
            matches!(error, OpenError::OtherLine { missing } if missing == RELEASED),
            "{error:?}"
        );
        look.close().await;
    }
}
