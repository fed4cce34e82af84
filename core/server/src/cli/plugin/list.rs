//! `russet plugin list`: what runs on a server, and whether all its nodes run it.

use std::io::Write;

use serde_json::Value;

use super::super::client::{Client, ClientArgs};
use super::super::context::{self, Context};
use super::super::device::items;
use super::super::output::{self, Output, cell, field};

const COLUMNS: [&str; 8] = [
    "position",
    "name",
    "version",
    "revision",
    "state",
    "hooks",
    "rollout.phase",
    "contract.version",
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
            let heading = [
                "position", "name", "version", "revision", "state", "hooks", "rollout", "contract",
            ];
            output.table(&heading, &rows, "no plugins; `russet plugin install` adds one")?;
            for line in replaced(items(&answer)) {
                output.line(line)?;
            }
            slowest.map_or(Ok(()), |slowest| output.line(slowest))
        })
    })
}

/// The plugins that have to be rebuilt, a line each: the contract that they are built for is on its way out.
fn replaced(plugins: &[Value]) -> Vec<String> {
    let line = |plugin: &Value| {
        let contract = field(plugin, "contract");
        let since = field(contract, "deprecated.since").as_str()?;
        let until = match field(contract, "deprecated.removed_in").as_str() {
            Some(release) => format!("and not served from russet {release} on"),
            None => "and served for a while yet".to_owned(),
        };
        Some(format!(
            "{} has to be rebuilt: russet:plugin@{} is deprecated since russet {since}, {until}",
            cell(field(plugin, "name")),
            cell(field(contract, "version")),
        ))
    };
    plugins.iter().filter_map(line).collect()
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
    fn what_has_to_be_rebuilt_is_named() {
        let plugin = |name: &str, deprecated: Value| json!({"name": name, "contract": {"version": "0.1.0", "deprecated": deprecated}});
        let plugins = [
            plugin("new", Value::Null),
            plugin("old", json!({"since": "0.9.0", "removed_in": null})),
            plugin("older", json!({"since": "0.9.0", "removed_in": "0.12.0"})),
            json!({"name": "off", "contract": null}),
        ];
        assert_eq!(
            replaced(&plugins),
            [
                "old has to be rebuilt: russet:plugin@0.1.0 is deprecated since russet 0.9.0, and served for a while yet",
                "older has to be rebuilt: russet:plugin@0.1.0 is deprecated since russet 0.9.0, and not served from russet \
                 0.12.0 on",
            ]
        );
    }

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
