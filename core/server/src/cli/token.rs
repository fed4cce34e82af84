//! `russet token`: who may use the API.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{Client, ClientArgs};
use super::context::Context;
use super::device::{items, more};
use super::output::{self, Output};

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Create a token. It is shown once.
    Create {
        /// What the token is called in lists and decisions.
        name: String,
        /// Make it good for the whole server instead of one tenant.
        #[arg(long)]
        whole_server: bool,
        /// Make it good for importing devices into the tenant, and for nothing else.
        #[arg(long, conflicts_with = "whole_server")]
        import_only: bool,
    },
    /// List tokens.
    List {
        /// The most tokens to list.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Revoke a token: it is refused from then on.
    Revoke {
        /// Its identifier, as `list` shows it.
        id: String,
    },
}

pub(super) async fn run(
    command: TokenCommand,
    args: &ClientArgs,
    context: &Context,
    output: &mut Output<'_>,
) -> miette::Result<()> {
    let client = Client::new(args, context)?;
    match command {
        TokenCommand::Create {
            name,
            whole_server,
            import_only,
        } => {
            let mut body = json!({"name": name, "import_only": import_only});
            if !whole_server {
                body["tenant"] = Value::from(args.tenant.as_str());
            }
            let answer = client.post(client.url(&["v1", "tokens"]), &body).await?;
            output.answer(&answer, |output| {
                output.facts(&output::facts(&answer))?;
                output.line("Keep the token now: it is not shown again.")
            })
        }
        TokenCommand::List { limit } => {
            let answer = client.list(client.url(&["v1", "tokens"]), limit).await?;
            let rows = output::rows(
                items(&answer),
                &["id", "name", "tenant", "role", "created_at", "revoked_at"],
            );
            output.answer(&answer, |output| {
                output.table(
                    &["id", "name", "tenant", "role", "created", "revoked"],
                    &rows,
                    "no tokens",
                )?;
                more(&answer, output)
            })
        }
        TokenCommand::Revoke { id } => {
            let answer = client.delete(client.url(&["v1", "tokens", &id])).await?;
            output.answer(&answer, |output| output.line(format!("revoked {id}")))
        }
    }
}
