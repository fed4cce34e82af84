//! `russet plugin`: from an empty folder to a running revision.

mod bench;
mod build;
mod changes;
mod check;
mod events;
mod grant;
mod inspect;
mod install;
mod keys;
mod list;
mod new;
mod pull;
mod push;
mod remove;
mod replay;
mod rollout;
mod run;
mod scripted;
mod secret;
mod show;
mod sign;
mod templates;
mod test;
mod verify;

use std::io::Write;

use clap::Subcommand;

use super::client::ClientArgs;
use super::context::Context;

#[derive(Debug, Subcommand)]
pub(super) enum PluginCommand {
    /// Write a plugin that builds, with tests, to begin with.
    New(new::NewArgs),
    /// Build plugins to components: one file each, with the manifest inside.
    Build(build::BuildArgs),
    /// Find out whether a server would run a component: manifest, imports, settings, compilation, start. Needs no server.
    Check(check::CheckArgs),
    /// Build a plugin, run its own tests, and its cases in the real host. Needs no server.
    Test(test::TestArgs),
    /// Call a hook of a component in the real host, with scripted capabilities. Needs no server.
    Run(run::RunArgs),
    /// Ask recorded decisions again: the same revision has to decide the same, byte for byte. Needs no server.
    Replay(replay::ReplayArgs),
    /// Ask recorded decisions again, of another revision: what it would change. Needs no server.
    Diff(replay::ReplayArgs),
    /// Measure how fast a component answers. Needs no server.
    Bench(bench::BenchArgs),
    /// Show what a component is, asks for and may use. Needs no server.
    Inspect(inspect::InspectArgs),
    /// Make a key to sign plugins with, and show its public half.
    Keys {
        #[command(subcommand)]
        command: keys::KeysCommand,
    },
    /// Sign a plugin. Needs no server.
    Sign(sign::SignArgs),
    /// Show who signed a plugin, and check that it is as they signed it. Needs no server.
    Verify(verify::VerifyArgs),
    /// Push a plugin to an OCI registry.
    Push(push::PushArgs),
    /// Pull a plugin from an OCI registry.
    Pull(pull::PullArgs),
    /// Install a component on a server, or swap the revision that runs there.
    Install(Box<install::InstallArgs>),
    /// List the plugins of a server, and which generation of them its nodes run.
    List(ClientArgs),
    /// Show a plugin of a server: what runs, what waits and what that would change.
    Show(rollout::NamedArgs),
    /// Give a plugin secrets, list their names, and take them away.
    Secret {
        #[command(subcommand)]
        command: secret::SecretCommand,
    },
    /// Let a plugin use more, and put the revision into use that waits for it.
    Grant(grant::GrantCommand),
    /// Ask another revision what the running one is asked, and tell what it would change.
    Shadow {
        #[command(subcommand)]
        command: rollout::ShadowCommand,
    },
    /// Let another revision answer a share of the enrollments.
    Canary(rollout::CanaryArgs),
    /// Put another revision into use if it keeps to its gates, watched by the one before.
    Promote(rollout::PromoteArgs),
    /// Go back to the revision that ran before.
    Rollback(rollout::RollbackArgs),
    /// Take a plugin out of use; its revisions stay stored.
    Disable(rollout::NamedArgs),
    /// Take a plugin out of use for good, and delete what it keeps.
    Remove(remove::RemoveArgs),
    /// Show what happened to the revisions of a plugin, who did it and why.
    History(rollout::NamedArgs),
    /// Show why a plugin decided as it did.
    Explain(show::ExplainArgs),
    /// List the observers of a server: how far each is, what waits, what was given up.
    Observers(ClientArgs),
    /// Hand an observer everything again from a point on.
    ReplayEvents(events::ReplayArgs),
    /// List, retry and drop events that an observer failed on as often as it may.
    Parked {
        #[command(subcommand)]
        command: events::ParkedCommand,
    },
    /// List the scheduled work of a server.
    Schedules(ClientArgs),
}

pub(super) fn run(command: PluginCommand, context: &Context, stdout: &mut dyn Write) -> miette::Result<()> {
    match command {
        PluginCommand::New(args) => new::run(&args, stdout),
        PluginCommand::Build(args) => build::run(&args, stdout),
        PluginCommand::Check(args) => check::run(&args, stdout),
        PluginCommand::Test(args) => test::run(&args, stdout),
        PluginCommand::Run(args) => run::run(&args, stdout),
        PluginCommand::Replay(args) => replay::replay(&args, stdout),
        PluginCommand::Diff(args) => replay::diff(&args, stdout),
        PluginCommand::Bench(args) => bench::run(&args, stdout),
        PluginCommand::Inspect(args) => inspect::run(&args, stdout),
        PluginCommand::Keys { command } => keys::run(&command, stdout),
        PluginCommand::Sign(args) => sign::run(&args, stdout),
        PluginCommand::Verify(args) => verify::run(&args, stdout),
        PluginCommand::Push(args) => push::run(&args, stdout),
        PluginCommand::Pull(args) => pull::run(&args, stdout),
        PluginCommand::Install(args) => install::run(&args, context, stdout),
        PluginCommand::List(args) => list::run(&args, context, stdout),
        PluginCommand::Show(args) => show::show(&args, context, stdout),
        PluginCommand::Secret { command } => secret::run(&command, context, stdout),
        PluginCommand::Grant(args) => grant::run(&args, context, stdout),
        PluginCommand::Shadow { command } => rollout::shadow(&command, context, stdout),
        PluginCommand::Canary(args) => rollout::canary(&args, context, stdout),
        PluginCommand::Promote(args) => rollout::promote(&args, context, stdout),
        PluginCommand::Rollback(args) => rollout::rollback(&args, context, stdout),
        PluginCommand::Disable(args) => show::disable(&args, context, stdout),
        PluginCommand::Remove(args) => remove::run(&args, context, stdout),
        PluginCommand::History(args) => show::history(&args, context, stdout),
        PluginCommand::Explain(args) => show::explain(&args, context, stdout),
        PluginCommand::Observers(args) => events::observers(&args, context, stdout),
        PluginCommand::ReplayEvents(args) => events::replay(&args, context, stdout),
        PluginCommand::Parked { command } => events::parked(&command, context, stdout),
        PluginCommand::Schedules(args) => events::schedules(&args, context, stdout),
    }
}
