//! `russet plugin list`: what runs on a server, and whether all its nodes run it.

use std::io::Write;

use serde_json::Value;

use super::super::client::{Client, ClientArgs};
use super::super::context::{self, Context};
use super::super::device::items;
use super::super::output::{self, Output, cell, field};

const COLUMNS: [&str; 7] = [
    "position",
    "name",
    "version",
    "revision",
    "state",
    "hooks",
    "rollout.phase",
];

pub(super) fn run(args: &ClientArgs, context: &Context, stdout: &mut dyn Write) -> miette::Result<()> {
    context::block_on(async {
        let client = Client::new(args, context)?;
        let mut answer = client.list(client.of_tenant(&["plugins"]), usize::MAX).await?;
        let nodes = client.list(client.of_tenant(&["nodes"]), usize::MAX).await?;
        let rows = output::rows(items(&answer), &COLUMNS);
        let slowest = slowest(items(&nodes));
        answer["nodes"] = Value::from(items(&nodes).to_vec());
        Output::new(stdout, args.json).answer(&answer, |output| {
            let heading = ["position", "name", "version", "revision", "state", "hooks", "rollout"];
            output.table(&heading, &rows, "no plugins; `russet plugin install` adds one")?;
            slowest.map_or(Ok(()), |slowest| output.line(slowest))
        })
    })
}

/// The nodes in a line: all the same, or the one that is behind most.
fn slowest(nodes: &[Value]) -> Option<String> {
    let behind = |node: &Value| field(node, "behind").as_u64().unwrap_or_default();
    let node = nodes.iter().max_by_key(|node| behind(node))?;
    let generation = field(node, "generation").as_u64().unwrap_or_default();
    Some(match (nodes.len(), behind(node)) {
        (1, 0) => return None,
        (count, 0) => format!("all {count} nodes run generation {generation}"),
        (_, behind) => format!(
            "node {} is the slowest: it runs generation {generation} of {}",
            cell(field(node, "name")),
            generation + behind
        ),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_slowest_node_counts() {
        let node = |name: &str, generation: u64, behind: u64| json!({"name": name, "generation": generation, "behind": behind});
        assert_eq!(slowest(&[]), None);
        assert_eq!(slowest(&[node("one", 3, 0)]), None);
        let all = slowest(&[node("one", 3, 0), node("two", 3, 0)]);
        assert_eq!(all.as_deref(), Some("all 2 nodes run generation 3"));
        let one = slowest(&[node("one", 3, 0), node("two", 1, 2)]);
        assert_eq!(
            one.as_deref(),
            Some("node two is the slowest: it runs generation 1 of 3")
        );
    }
}
