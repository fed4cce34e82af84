//! `russet demo`: a real server, a stand-in of APNs and three simulated devices, telling in plain words what happens.

mod story;
mod world;

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use miette::IntoDiagnostic;

use super::context::runtime;
use story::Story;
use world::World;

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// The folder with the bundled plugins, as `russet plugin build` (or `make plugins`) leaves them.
    #[arg(long, value_name = "FOLDER", default_value = "target/plugins")]
    plugins: PathBuf,
    /// The folder for the demo's data. What an earlier demo left in it is removed.
    #[arg(long, value_name = "FOLDER", default_value = "target/demo")]
    data: PathBuf,
    /// The port to listen on; 0 takes any free one.
    #[arg(long, default_value_t = 8443)]
    port: u16,
    /// Stop when the story is told, instead of staying up.
    #[arg(long)]
    once: bool,
}

pub(super) fn run(args: &DemoArgs, stdout: &mut dyn Write) -> miette::Result<()> {
    runtime()?.block_on(async {
        let mut story = Story::new(stdout);
        let world = World::start(args, &mut story).await?;
        world.tell(&mut story).await?;
        if args.once {
            world.stop().await;
            return Ok(());
        }
        world.addresses(&mut story)?;
        world.stay().await.into_diagnostic()
    })
}
