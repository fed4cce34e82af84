//! Lanes: connections that are kept for what devices ask all the time, each asking for many devices at once.
//!
//! A statement of the pool costs more around it than in it: the connection is taken from the pool, tested and put back, and
//! a transaction is framed by two more round trips. A lane keeps its connection, takes all questions that have come while it
//! was busy, and asks them in one statement. Whoever comes alone is asked for alone and waits for nobody.
//!
//! What the lanes deliberately do not know: what is asked. See [`Bundle`].

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex as Lock, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use sea_orm::sqlx::pool::PoolConnection;
use sea_orm::sqlx::postgres::PgConnection;
use sea_orm::sqlx::{Connection, Error, Executor, Sqlite, SqlitePool};
use sea_orm::{DbErr, RuntimeErr};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::BoxFuture;
use super::connections::{Connections, LIFETIME, TEST_AFTER, silent};
use crate::error::StoreError;

/// The most questions that share a statement.
const MOST: usize = 64;

/// How many questions may wait before those who ask do.
const QUEUE: usize = 4096;

/// How many lanes one kind of question has: as many as the processor can serve, within reason.
pub(crate) fn count() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 4))
}

/// The connections that one kind of question keeps.
pub(crate) fn connections() -> u32 {
    u32::try_from(count()).unwrap_or(4)
}

/// What is asked of many devices in one statement. The statement is the whole transaction.
pub(crate) trait Bundle: Send + Sync + 'static {
    /// What is asked of one.
    type Question: Send + Sync + 'static;
    /// Its answer.
    type Answer: Send + 'static;

    /// How long questions wait for a statement that is on its way, so that those which come meanwhile go with them. As long
    /// as a commit takes on a disk: with several at once each writes the log for itself.
    const PATIENCE: Duration = Duration::from_millis(5);

    /// Asks all; the answers are in the order of the questions. It may run again when a connection was lost.
    fn ask<'a>(
        lane: &'a mut Lane,
        questions: &'a [Self::Question],
    ) -> BoxFuture<'a, Result<Vec<Self::Answer>, StoreError>>;
}

/// A connection that is kept.
pub(crate) enum Lane {
    Postgres(Box<PgConnection>),
    Sqlite(PoolConnection<Sqlite>),
}

/// Where lanes get their connections.
#[derive(Clone)]
pub(crate) enum Source {
    Postgres(Arc<Connections>),
    Sqlite(SqlitePool),
}

/// Plans are made once for each connection and use indexes only, whatever the database knows of the tables: see
/// [`super::postgres::with_plans`].
const ON_POSTGRES: &str =
    "SET plan_cache_mode = force_generic_plan; SET enable_hashjoin = off; SET enable_mergejoin = off";

impl Source {
    async fn connect(&self) -> Result<Lane, StoreError> {
        match self {
            // It is the lane's own: what is set here is for lanes only.
            Self::Postgres(connections) => {
                let connected = async {
                    let mut connection = connections.connect().await.map_err(no_connection)?;
                    connection.execute(ON_POSTGRES).await.map_err(failed)?;
                    Ok(Lane::Postgres(Box::new(connection)))
                };
                timeout(connections.acquire_timeout(), connected)
                    .await
                    .unwrap_or_else(|_| Err(no_connection(silent())))
            }
            Self::Sqlite(pool) => pool.acquire().await.map(Lane::Sqlite).map_err(no_connection),
        }
    }

    /// Whether a lane that rested since then may not be there any more.
    fn suspects(&self, used: Instant) -> bool {
        match self {
            Self::Postgres(connections) => used.elapsed() > TEST_AFTER || connections.lost_since(used),
            Self::Sqlite(_) => false,
        }
    }

    async fn works(&self, lane: &mut Lane) -> bool {
        match (self, lane) {
            (Self::Postgres(connections), Lane::Postgres(connection)) => {
                matches!(timeout(connections.short(), connection.ping()).await, Ok(Ok(())))
            }
            _ => true,
        }
    }

    /// Waits for an answer, for as long as one may take.
    async fn wait<T>(&self, asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let Self::Postgres(connections) = self else {
            return asked.await;
        };
        timeout(connections.bound(), asked).await.unwrap_or_else(|_| {
            connections.lost();
            Err(failed(silent()))
        })
    }
}

/// A failed statement of a lane.
pub(crate) fn failed(error: Error) -> StoreError {
    DbErr::Query(RuntimeErr::SqlxError(Arc::new(error))).into()
}

fn no_connection(error: Error) -> StoreError {
    DbErr::Conn(RuntimeErr::SqlxError(Arc::new(error))).into()
}

struct Waiting<B: Bundle> {
    question: B::Question,
    reply: oneshot::Sender<Result<B::Answer, StoreError>>,
}

/// The handle of the lanes of one kind of question.
pub(crate) struct Lanes<B: Bundle> {
    questions: Lock<Option<mpsc::Sender<Waiting<B>>>>,
    tasks: Lock<Vec<JoinHandle<()>>>,
}

impl<B: Bundle> Lanes<B> {
    /// Starts so many lanes. They connect when they are first asked.
    pub(crate) fn start(source: &Source, count: usize) -> Self {
        let (questions, waiting) = mpsc::channel(QUEUE);
        let waiting = Arc::new(Mutex::new(waiting));
        let turn = match source {
            Source::Postgres(_) => Some(Arc::new(Semaphore::new(1))),
            // Its statements are the work of this process, which both processors can do at once.
            Source::Sqlite(_) => None,
        };
        let tasks = (0..count)
            .map(|_| tokio::spawn(run::<B>(source.clone(), waiting.clone(), turn.clone())))
            .collect();
        Self {
            questions: Lock::new(Some(questions)),
            tasks: Lock::new(tasks),
        }
    }

    pub(crate) async fn ask(&self, question: B::Question) -> Result<B::Answer, StoreError> {
        let (reply, answer) = oneshot::channel();
        let questions = self
            .questions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .ok_or(StoreError::Closed)?;
        let waiting = Waiting { question, reply };
        questions.send(waiting).await.map_err(|_| StoreError::Closed)?;
        drop(questions);
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Answers what waits, then gives the connections back.
    pub(crate) async fn close(&self) {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).take();
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            if task.await.is_err() {
                tracing::error!("store.lane ended by a panic");
            }
        }
    }
}

/// A connection, with what says when it is to be tested or replaced.
struct Kept {
    lane: Lane,
    made: Instant,
    used: Instant,
}

/// Gathers what comes until no other lane asks, the statement is full, or patience ends; the turn to ask, if it came.
async fn gather<B: Bundle>(
    waiting: &mut mpsc::Receiver<Waiting<B>>,
    group: &mut Vec<Waiting<B>>,
    turn: &Arc<Semaphore>,
) -> Option<OwnedSemaphorePermit> {
    let (mut held, mut is_open) = (None, true);
    {
        let mut comes = pin!(Arc::clone(turn).acquire_owned());
        let mut patience = pin!(sleep(B::PATIENCE));
        while held.is_none() && group.len() < MOST {
            tokio::select! {
                biased;
                got = &mut comes => held = got.ok(),
                () = &mut patience => break,
                more = waiting.recv(), if is_open => match more {
                    Some(more) => group.push(more),
                    None => is_open = false,
                },
            }
        }
    }
    while group.len() < MOST
        && let Ok(more) = waiting.try_recv()
    {
        group.push(more);
    }
    held
}

async fn run<B: Bundle>(source: Source, waiting: Arc<Mutex<mpsc::Receiver<Waiting<B>>>>, turn: Option<Arc<Semaphore>>) {
    let mut kept = None;
    let mut group = Vec::with_capacity(MOST);
    loop {
        let mut held = None;
        {
            let mut waiting = waiting.lock().await;
            if waiting.recv_many(&mut group, MOST).await == 0 {
                return;
            }
            if let Some(turn) = &turn {
                held = gather(&mut waiting, &mut group, turn).await;
            }
        }
        group.retain(|waiting| !waiting.reply.is_closed());
        let (questions, replies): (Vec<_>, Vec<_>) =
            group.drain(..).map(|waiting| (waiting.question, waiting.reply)).unzip();
        if questions.is_empty() {
            continue;
        }
        let answered = attempt::<B>(&source, &mut kept, &questions).await;
        drop(held);
        match answered {
            Ok(answers) => {
                for (reply, answer) in replies.into_iter().zip(answers) {
                    // Who went away meanwhile does not want it.
                    let _ = reply.send(Ok(answer));
                }
            }
            // The connection stands, so one of the questions is at fault; nobody else shall suffer from it.
            Err(_) if kept.is_some() && questions.len() > 1 => {
                for (question, reply) in questions.iter().zip(replies) {
                    let answers = attempt::<B>(&source, &mut kept, std::slice::from_ref(question)).await;
                    let answer =
                        answers.and_then(|answers| answers.into_iter().next().ok_or(StoreError::Corrupt("row")));
                    let _ = reply.send(answer);
                }
            }
            Err(error) => {
                for reply in replies {
                    let _ = reply.send(Err(error.clone()));
                }
                if kept.is_none() {
                    // Nobody is to wait for one failed connection after the other.
                    let mut waiting = waiting.lock().await;
                    while let Ok(also) = waiting.try_recv() {
                        let _ = also.reply.send(Err(error.clone()));
                    }
                }
            }
        }
    }
}

/// Asks, a second time if the connection was lost. After an error, no connection is kept unless it is known to stand.
async fn attempt<B: Bundle>(
    source: &Source,
    kept: &mut Option<Kept>,
    questions: &[B::Question],
) -> Result<Vec<B::Answer>, StoreError> {
    let mut again = true;
    loop {
        let mut lane = match kept.take() {
            Some(mut kept) if kept.made.elapsed() < LIFETIME => {
                if source.suspects(kept.used) && !source.works(&mut kept.lane).await {
                    continue;
                }
                kept
            }
            _ => Kept {
                lane: source.connect().await?,
                made: Instant::now(),
                used: Instant::now(),
            },
        };
        // A defect must not end the lane: its connection goes, whoever asked is told, and it goes on.
        // One that gives no answer in time goes too, and the question is not asked again.
        let asked = source.wait(B::ask(&mut lane.lane, questions));
        let asked = AssertUnwindSafe(asked).catch_unwind().await;
        match asked {
            Ok(Ok(answers)) if answers.len() == questions.len() => {
                lane.used = Instant::now();
                *kept = Some(lane);
                return Ok(answers);
            }
            Ok(Ok(_)) => return Err(StoreError::Corrupt("row")),
            Ok(Err(error)) if error.is_transient() && again => again = false,
            Ok(Err(error)) => {
                if error.is_refusal() {
                    *kept = Some(lane);
                }
                return Err(error);
            }
            Err(_) => {
                tracing::error!("store.lane panicked; its connection was given up");
                return Err(StoreError::Panicked);
            }
        }
    }
}
