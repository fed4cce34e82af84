//! A look at the tables from outside, for tests that check what a server left in them: plain SQL, and every column as text.
//!
//! It goes past the store on purpose: it neither opens what is sealed, nor brings the tables to this version, nor knows what
//! the rows mean.

use sea_orm::sqlx::sqlite::SqliteConnectOptions;
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, DbErr, Statement};

/// A connection of its own to a database of a server.
#[derive(Debug)]
pub struct Inspection {
    connection: DatabaseConnection,
}

impl Inspection {
    /// Connects to the database of a URL, as a [`StoreConfig`](crate::StoreConfig) has it. It has to exist.
    ///
    /// # Errors
    /// When it cannot be reached; the text is what the database said.
    pub async fn open(url: &str) -> Result<Self, String> {
        let mut options = ConnectOptions::new(url);
        options
            .max_connections(1)
            .sqlx_logging(false)
            .map_sqlx_sqlite_opts(|options: SqliteConnectOptions| options.create_if_missing(false));
        let connection = Database::connect(options).await.map_err(said)?;
        Ok(Self { connection })
    }

    /// `sqlite` or `postgres`.
    #[must_use]
    pub fn backend_name(&self) -> &'static str {
        match self.connection.get_database_backend() {
            DbBackend::Postgres => "postgres",
            _ => "sqlite",
        }
    }

    /// The rows of a query. Columns have to be text: cast numbers. `{hex:COLUMN}` and `{uuid:COLUMN}` stand for bytes and
    /// UUIDs in lower-case hexadecimal digits.
    ///
    /// # Errors
    /// What the database said.
    pub async fn rows(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, String> {
        let backend = self.connection.get_database_backend();
        let statement = Statement::from_string(backend, render(sql, backend));
        let rows = self.connection.query_all_raw(statement).await.map_err(said)?;
        rows.iter()
            .map(|row| {
                (0..row.column_names().len())
                    .map(|at| row.try_get_by_index::<Option<String>>(at).map_err(said))
                    .collect()
            })
            .collect()
    }

    /// Changes something behind the server's back; how many rows.
    ///
    /// # Errors
    /// What the database said.
    pub async fn change(&self, sql: &str) -> Result<u64, String> {
        let backend = self.connection.get_database_backend();
        let sql = render(sql, backend);
        let done = self.connection.execute_unprepared(&sql).await.map_err(said)?;
        Ok(done.rows_affected())
    }

    /// Ends the connection.
    pub async fn close(self) {
        // Whatever it says, nothing of this connection is used any more.
        let _ = self.connection.close().await;
    }
}

fn said(error: DbErr) -> String {
    error.to_string()
}

fn render(sql: &str, backend: DbBackend) -> String {
    let mut out = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let (mark, tail) = after.split_once('}').unwrap_or((after, ""));
        match (mark.split_once(':'), backend) {
            (Some(("hex", column)), DbBackend::Postgres) => out.push_str(&format!("encode({column}, 'hex')")),
            (Some(("uuid", column)), DbBackend::Postgres) => {
                out.push_str(&format!("replace({column}::text, '-', '')"));
            }
            // SQLite's hex() makes an empty text of nothing.
            (Some(("hex" | "uuid", column)), _) => {
                out.push_str(&format!("CASE WHEN {column} IS NOT NULL THEN lower(hex({column})) END"));
            }
            _ => out.push_str(&format!("{{{mark}}}")),
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn bytes_and_numbers_come_as_text() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.sqlite");
        std::fs::write(&file, b"").unwrap();
        let look = Inspection::open(&format!("sqlite://{}", file.display())).await.unwrap();
        look.change("CREATE TABLE t (a INTEGER, b BLOB)").await.unwrap();
        assert_eq!(
            look.change("INSERT INTO t VALUES (1, x'AB'), (2, NULL)").await.unwrap(),
            2
        );
        let rows = look
            .rows("SELECT CAST(a AS TEXT), {hex:b} FROM t ORDER BY a")
            .await
            .unwrap();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(rows, [[text("1"), text("ab")], [text("2"), None]]);
        assert!(look.rows("SELECT nothing").await.is_err());
        let missing = folder.path().join("b.sqlite");
        assert!(
            Inspection::open(&format!("sqlite://{}", missing.display()))
                .await
                .is_err()
        );
    }
}
