//! Where calls run that only are compared: one thread of low priority with a short queue. What does not fit is shed, so
//! such a call never takes a processor that a device waits for.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::mpsc;

/// How many calls may wait.
const WAITING: usize = 256;

/// How nice the thread is to the others: a tenth of the processor where all want it.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

pub(crate) type Job = BoxFuture<'static, ()>;

/// A place in the queue.
pub(crate) type Place = mpsc::OwnedPermit<Job>;

/// The thread, started when it is needed first. It ends with the last clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lane(Arc<OnceLock<Option<mpsc::Sender<Job>>>>);

impl Lane {
    /// A place in the queue, if one is free.
    pub(crate) fn reserve(&self) -> Option<Place> {
        let sender = self.0.get_or_init(|| match start() {
            Ok(sender) => Some(sender),
            Err(error) => {
                tracing::error!(error = %error, "the thread for shadow calls can not be started; nothing is compared");
                None
            }
        });
        sender.as_ref()?.clone().try_reserve_owned().ok()
    }
}

fn start() -> std::io::Result<mpsc::Sender<Job>> {
    let (sender, mut jobs) = mpsc::channel::<Job>(WAITING);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new()
        .name("plugin-shadow".to_owned())
        .spawn(move || {
            lower_priority();
            runtime.block_on(async move {
                while let Some(job) = jobs.recv().await {
                    if AssertUnwindSafe(job).catch_unwind().await.is_err() {
                        tracing::error!("a shadow call failed by a bug of the server");
                    }
                }
            });
        })?;
    Ok(sender)
}

/// Linux has a priority for each thread; elsewhere the short queue has to do.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(error = %error, "the priority of shadow calls can not be lowered");
    }
}
