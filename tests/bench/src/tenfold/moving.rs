//! A tenant's way from one database to another: which rows are its own, in every table.

use russet_store::TenantId;
use russet_store::testing::PostgresCluster;

use crate::Failure;

/// Tables of the database itself, which stay where they are.
const OF_THE_DATABASE: [&str; 5] = ["leases", "nodes", "schema_floor", "seaql_migrations", "vault_keys"];

/// Tables whose rows belong to a tenant through a row of another table.
const THROUGH_ANOTHER: [(&str, &str); 4] = [
    (
        "group_members",
        "group_id IN (SELECT id FROM device_groups WHERE tenant_id = $)",
    ),
    (
        "plugin_comparison_samples",
        "rollout_id IN (SELECT id FROM plugin_rollouts WHERE tenant_id = $)",
    ),
    (
        "plugin_comparisons",
        "rollout_id IN (SELECT id FROM plugin_rollouts WHERE tenant_id = $)",
    ),
    (
        "push_waves",
        "command_id IN (SELECT id FROM commands WHERE tenant_id = $)",
    ),
];

/// Rows that say in which transaction they were written: numbers of the database that they leave.
const BY_TRANSACTION: [&str; 3] = ["decisions", "event_cursors", "events"];

pub(super) struct Moved {
    pub(super) rows: u64,
    /// Rows of the tenant that are still where it was.
    pub(super) left: u64,
}

/// Which rows of a table are a tenant's; `None` for a table of the database itself.
fn own(table: &str, has_tenant: bool) -> Result<Option<String>, Failure> {
    if OF_THE_DATABASE.contains(&table) {
        return Ok(None);
    }
    if table == "tenants" {
        return Ok(Some("id = $".to_owned()));
    }
    if has_tenant {
        return Ok(Some("tenant_id = $".to_owned()));
    }
    match THROUGH_ANOTHER.iter().find(|(name, _)| *name == table) {
        Some((_, condition)) => Ok(Some((*condition).to_owned())),
        None => Err(format!(
            "it is not known whose the rows of the table {table} are: add it to this file and to scale.md"
        )
        .into()),
    }
}

/// Every table, with the condition for the rows of a tenant.
fn tables(cluster: &PostgresCluster, database: &str) -> Result<Vec<(String, String)>, Failure> {
    let rows = cluster.query(
        database,
        "SELECT t.table_name, EXISTS (SELECT 1 FROM information_schema.columns c WHERE c.table_schema = 'public' \
         AND c.table_name = t.table_name AND c.column_name = 'tenant_id') FROM information_schema.tables t \
         WHERE t.table_schema = 'public' AND t.table_type = 'BASE TABLE' ORDER BY t.table_name",
    )?;
    let mut tables = Vec::new();
    for row in rows.lines() {
        let (name, has_tenant) = row.split_once('|').ok_or("a table without a name")?;
        if let Some(condition) = own(name, has_tenant == "t")? {
            tables.push((name.to_owned(), condition));
        }
    }
    Ok(tables)
}

/// Numbers the rows that a database makes from here on, so that no other database has the same numbers.
pub(super) fn number_apart(cluster: &PostgresCluster, database: &str, first: u64) -> Result<(), Failure> {
    let sequences = cluster.query(
        database,
        "SELECT relname FROM pg_class WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace",
    )?;
    if sequences.is_empty() {
        return Err("the schema has no numbered tables".into());
    }
    // The first numbers of the copies are those of the template's rows.
    let sql: String = sequences
        .lines()
        .map(|name| format!("ALTER SEQUENCE {name} RESTART WITH {};", first + 1_000))
        .collect();
    cluster.query(database, &sql)?;
    Ok(())
}

/// Moves a tenant. Nobody serves it meanwhile.
pub(super) fn move_tenant(cluster: &PostgresCluster, from: &str, to: &str, tenant: TenantId) -> Result<Moved, Failure> {
    let folder = cluster.query("postgres", "SHOW data_directory")?;
    let tables = tables(cluster, from)?;
    let number = tenant.to_string();
    let file = |table: &str| format!("{folder}/move-{table}");
    let mut out = String::new();
    // The rows are whole already: nothing is to be filled in or checked again, in whatever order they come.
    let mut into = "SET session_replication_role = replica;".to_owned();
    let (mut gone, mut left) = ("SET session_replication_role = replica;".to_owned(), Vec::new());
    for (table, condition) in &tables {
        let own = condition.replace('$', &number);
        out.push_str(&format!(
            "COPY (SELECT * FROM {table} WHERE {own}) TO '{}';",
            file(table)
        ));
        into.push_str(&format!("COPY {table} FROM '{}';", file(table)));
        if BY_TRANSACTION.contains(&table.as_str()) {
            into.push_str(&format!("UPDATE {table} SET tx = 0 WHERE {own};"));
        }
        left.push(format!("(SELECT COUNT(*) FROM {table} WHERE {own})"));
    }
    // What is found through another row goes before that row.
    let through = |table: &str| THROUGH_ANOTHER.iter().any(|(name, _)| *name == table);
    let (first, then): (Vec<_>, Vec<_>) = tables.iter().partition(|(table, _)| through(table));
    for (table, condition) in first.into_iter().chain(then) {
        gone.push_str(&format!(
            "DELETE FROM {table} WHERE {};",
            condition.replace('$', &number)
        ));
    }
    let count = format!("SELECT {}", left.join(" + "));
    let before: u64 = cluster.query(from, &count)?.parse()?;
    cluster.query(from, &out)?;
    cluster.query(to, &into)?;
    let arrived: u64 = cluster.query(to, &count)?.parse()?;
    if arrived != before {
        return Err(format!("{arrived} of {before} rows arrived").into());
    }
    cluster.query(from, &gone)?;
    Ok(Moved {
        rows: arrived,
        left: cluster.query(from, &count)?.parse()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_nobody_thought_of_is_an_error() {
        assert_eq!(own("nodes", false).unwrap(), None);
        assert_eq!(own("commands", true).unwrap().unwrap(), "tenant_id = $");
        assert!(own("push_waves", false).unwrap().unwrap().contains("commands"));
        assert!(own("something_new", false).is_err());
    }
}
