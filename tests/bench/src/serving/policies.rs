//! What the bundled policies add to what devices do: to commands, and to secrets in escrow.

use super::{Bench, CONNECTIONS, connected, difference, figure};
use crate::fleet::{self, BOOTSTRAP_TOKEN};
use crate::load::{self, Measured, Pair, share};
use crate::report::Section;
use crate::{Failure, say};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

impl Bench {
    pub(super) async fn policies(&self, section: &mut Section) -> Result<(), Failure> {
        say("  secrets in escrow");
        let without = self.deposits().await?;
        let how = format!("a bootstrap token is deposited and fetched; no plugin; {CONNECTIONS} connections");
        section.add(figure("escrow without a policy", &without, "secrets/s", how));
        let mut administrator = self.server.administrator().await?;
        administrator.install("escrow-policy", None).await?;
        let with = self.deposits().await?;
        let how = "the same; the `escrow-policy` plugin is asked about both".to_owned();
        section.add(figure("escrow", &with, "secrets/s", how));
        section.add(difference("secret", "the escrow policy", &without, &with));

        let rounds = self.scale.guarded_rounds();
        let without = self.rounds(rounds).await?.answered;
        let mut administrator = self.server.administrator().await?;
        administrator.install("command-guard", None).await?;
        let with = self.rounds(rounds).await?.answered;
        let how = format!("the same; the `command-guard` plugin is asked at each delivery; {CONNECTIONS} connections");
        section.add(figure("command round trips with a policy", &with, "commands/s", how));
        section.add(difference("command round trip", "the command policy", &without, &with));
        Ok(())
    }

    async fn deposits(&self) -> Result<Measured, Failure> {
        let messages: Vec<Pair> = fleet::prepare(&self.devices, |device| {
            Ok((device.deposit()?.into(), device.fetch()?.into()))
        })
        .await?;
        // Short enough for one line of the property list.
        let expected = BASE64.encode(BOOTSTRAP_TOKEN);
        let mut workers = Vec::new();
        for (at, connection) in connected(&self.server.target, CONNECTIONS)
            .await?
            .into_iter()
            .enumerate()
        {
            let messages = share(&messages, at, CONNECTIONS);
            workers.push(load::deposits(connection, messages, expected.as_bytes().into()));
        }
        self.processes.measure(workers).await
    }
}
