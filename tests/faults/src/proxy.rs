//! The network between a server and its PostgreSQL: a TCP port in front of the database's socket, which passes everything on
//! until it is told to misbehave.
//!
//! It knows one thing of the protocol: what a `COMMIT` looks like, so that it can cut the connection right before it, or
//! between it and its answer, where nobody but the database knows how it ended.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

use crate::journal::lock;

/// How a simple query that commits ends on the wire.
const COMMIT: &[u8] = b"COMMIT\0";

/// Where to cut a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The database never hears of the `COMMIT`.
    BeforeCommit,
    /// The database commits, and the server never hears of it.
    AfterCommit,
}

#[derive(Clone, Copy, Debug, Default)]
struct Orders {
    /// Counts: a connection ends when it rises.
    cuts: u64,
    /// Counts: a connection that is there when it rises passes nothing on any more, for good, and stays open.
    forsaken: u64,
    /// Nothing moves while it is set.
    stalled: bool,
}

#[derive(Debug)]
struct Shared {
    socket: PathBuf,
    orders: watch::Sender<Orders>,
    cut: Mutex<Option<Cut>>,
    connections: AtomicU64,
    cuts_done: watch::Sender<u64>,
}

/// A running proxy; it ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Proxy {
    /// Listens on a free port, and passes on to a Unix socket.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start(socket: PathBuf) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared {
            socket,
            orders: watch::Sender::new(Orders::default()),
            cut: Mutex::default(),
            connections: AtomicU64::new(0),
            cuts_done: watch::Sender::new(0),
        });
        let of_listener = Arc::clone(&shared);
        let listener = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                of_listener.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(pass(client, Arc::clone(&of_listener)));
            }
        });
        Self {
            address,
            shared,
            listener,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections there have been.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Ends every present connection.
    pub fn cut(&self) {
        self.shared.orders.send_modify(|orders| orders.cuts += 1);
    }

    /// Passes nothing on over the present connections any more, and tells neither side: as when a firewall forgets them. The
    /// database's side is closed, so that it lets go of its locks. New connections work.
    pub fn forsake(&self) {
        self.shared.orders.send_modify(|orders| orders.forsaken += 1);
    }

    /// Whether nothing moves, over old and new connections.
    pub fn stall(&self, stalled: bool) {
        self.shared.orders.send_modify(|orders| orders.stalled = stalled);
    }

    /// Cuts the next transaction at its `COMMIT`, and waits until one was.
    pub async fn cut_a_commit(&self, cut: Cut) {
        let mut done = self.shared.cuts_done.subscribe();
        let goal = *done.borrow_and_update() + 1;
        *lock(&self.shared.cut) = Some(cut);
        // The sender lives as long as this proxy.
        let _ = done.wait_for(|count| *count >= goal).await;
    }
}

async fn pass(client: TcpStream, shared: Arc<Shared>) {
    // A database that is not there refuses.
    let Ok(database) = UnixStream::connect(&shared.socket).await else {
        return;
    };
    // What is small is not held back: a protocol of questions and answers.
    let _ = client.set_nodelay(true);
    let at_start = *shared.orders.borrow();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_database, mut to_database) = database.into_split();
    let lost_answer = AtomicBool::new(false);
    let there = Pump {
        shared: &shared,
        at_start,
        lost_answer: &lost_answer,
        to_database: true,
    };
    let back = Pump {
        to_database: false,
        ..there
    };
    let ended = tokio::select! {
        ended = there.run(&mut from_client, &mut to_database) => ended,
        ended = back.run(&mut from_database, &mut to_client) => ended,
    };
    if ended == Ended::Forsaken {
        drop((from_database, to_database));
        // The client's side stays open, and silent, until the client gives up or the proxy is cut.
        let mut orders = shared.orders.subscribe();
        let mut swallowed = [0; 4096];
        loop {
            tokio::select! {
                read = from_client.read(&mut swallowed) => {
                    if !matches!(read, Ok(1..)) {
                        return;
                    }
                }
                changed = orders.changed() => {
                    if changed.is_err() || orders.borrow().cuts > at_start.cuts {
                        return;
                    }
                }
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Closed,
    Forsaken,
}

/// One direction of a connection.
#[derive(Clone, Copy)]
struct Pump<'a> {
    shared: &'a Shared,
    at_start: Orders,
    /// The answer to a `COMMIT` is to be lost.
    lost_answer: &'a AtomicBool,
    to_database: bool,
}

impl Pump<'_> {
    async fn run(self, from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) -> Ended {
        let mut orders = self.shared.orders.subscribe();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = tokio::select! {
                read = from.read(&mut buffer) => read,
                ended = self.ended(&mut orders) => return ended,
            };
            let Ok(count @ 1..) = read else { return Ended::Closed };
            // Stalled: what was read waits, and nothing more is read.
            let mut further = self.shared.orders.subscribe();
            tokio::select! {
                passes = orders.wait_for(|orders| !orders.stalled) => if passes.is_err() { return Ended::Closed },
                ended = self.ended(&mut further) => return ended,
            }
            let bytes = &buffer[..count];
            if self.to_database {
                let commits = bytes.windows(COMMIT.len()).any(|window| window == COMMIT);
                let cut = if commits { lock(&self.shared.cut).take() } else { None };
                match cut {
                    Some(Cut::BeforeCommit) => {
                        self.shared.cuts_done.send_modify(|count| *count += 1);
                        return Ended::Closed;
                    }
                    Some(Cut::AfterCommit) => self.lost_answer.store(true, Ordering::SeqCst),
                    None => {}
                }
            } else if self.lost_answer.load(Ordering::SeqCst) {
                self.shared.cuts_done.send_modify(|count| *count += 1);
                return Ended::Closed;
            }
            if to.write_all(bytes).await.is_err() {
                return Ended::Closed;
            }
        }
    }

    /// Waits until this connection is cut or forsaken.
    async fn ended(self, orders: &mut watch::Receiver<Orders>) -> Ended {
        let over = orders
            .wait_for(|now| now.cuts > self.at_start.cuts || now.forsaken > self.at_start.forsaken)
            .await;
        match over {
            Ok(now) if now.cuts == self.at_start.cuts => Ended::Forsaken,
            _ => Ended::Closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A "database" that answers each message with itself.
    async fn echo() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("socket");
        let listener = tokio::net::UnixListener::bind(&socket).expect("a socket");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        (folder, socket)
    }

    async fn ask(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<usize> {
        stream.write_all(message).await?;
        let mut answer = vec![0; message.len()];
        stream.read(&mut answer).await
    }

    #[tokio::test]
    async fn a_commit_is_cut_before_or_after_and_everything_else_passes() {
        let (_folder, socket) = echo().await;
        let proxy = Proxy::start(socket).await;
        let connect = || async { TcpStream::connect(proxy.address()).await.expect("the proxy listens") };
        let mut stream = connect().await;
        assert_eq!(ask(&mut stream, b"COMMIT\0").await.expect("an answer"), 7);
        for cut in [Cut::BeforeCommit, Cut::AfterCommit] {
            let mut stream = connect().await;
            let (cut, asked) = tokio::join!(proxy.cut_a_commit(cut), async {
                assert_eq!(ask(&mut stream, b"BEGIN\0").await.expect("an answer"), 6);
                ask(&mut stream, b"COMMIT\0").await
            });
            let () = cut;
            assert!(!matches!(asked, Ok(1..)), "the answer to a commit came: {asked:?}");
        }
        proxy.forsake();
        let silent = tokio::time::timeout(std::time::Duration::from_millis(100), ask(&mut stream, b"anybody?"));
        assert!(
            silent.await.is_err(),
            "a forsaken connection stays open and says nothing"
        );
        let mut stream = connect().await;
        assert_eq!(ask(&mut stream, b"hello").await.expect("an answer"), 5);
        proxy.cut();
        assert!(!matches!(ask(&mut stream, b"hello").await, Ok(1..)));
        assert_eq!(proxy.connections(), 4);
    }
}
