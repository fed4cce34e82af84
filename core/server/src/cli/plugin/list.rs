//! `russet plugin list`: what runs on a server.

use std::io::Write;

use super::super::client::{Client, ClientArgs};
use super::super::context::{self, Context};
use super::super::device::items;
use super::super::output::{self, Output};

pub(super) fn run(args: &ClientArgs, context: &Context, stdout: &mut dyn Write) -> miette::Result<()> {
    context::block_on(async {
        let client = Client::new(args, context)?;
        let answer = client.list(client.of_tenant(&["plugins"]), usize::MAX).await?;
        let rows = output::rows(
            items(&answer),
            &["position", "name", "version", "revision", "state", "hooks"],
        );
        Output::new(stdout, args.json).answer(&answer, |output| {
            output.table(
                &["position", "name", "version", "revision", "state", "hooks"],
                &rows,
                "no plugins; `russet plugin install` adds one",
            )
        })
    })
}
