//! The network between the store and PostgreSQL goes silent: connections stay open, take everything, and say nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use russet_store::testing::{PostgresCluster, postgres_is_skipped};
use russet_store::{MasterKey, Store, StoreConfig};
use tokio::io::{AsyncReadExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

/// A TCP port in front of the socket; its connections go silent when the number rises.
struct Network {
    port: u16,
    silences: watch::Sender<u32>,
    /// How many connections are open, and how many of them are silent.
    open: watch::Sender<(i64, i64)>,
}

impl Network {
    async fn start(socket: PathBuf) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let network = Arc::new(Self {
            port: listener.local_addr().unwrap().port(),
            silences: watch::Sender::new(0),
            open: watch::Sender::new((0, 0)),
        });
        let of_listener = Arc::clone(&network);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let silences = of_listener.silences.subscribe();
                of_listener.open.send_modify(|(open, _)| *open += 1);
                tokio::spawn(Arc::clone(&of_listener).pass(client, silences, socket.clone()));
            }
        });
        network
    }

    async fn pass(self: Arc<Self>, mut client: TcpStream, mut silences: watch::Receiver<u32>, socket: PathBuf) {
        let mut database = UnixStream::connect(socket).await.unwrap();
        tokio::select! {
            _ = copy_bidirectional(&mut client, &mut database) => {
                self.open.send_modify(|(open, _)| *open -= 1);
                return;
            }
            changed = silences.changed() => changed.unwrap(),
        }
        // The database lets go of its locks; the client is told nothing.
        drop(database);
        self.open.send_modify(|(_, silent)| *silent += 1);
        let mut swallowed = [0; 1024];
        while matches!(client.read(&mut swallowed).await, Ok(1..)) {}
        self.open
            .send_modify(|(open, silent)| (*open, *silent) = (*open - 1, *silent - 1));
    }

    async fn until(&self, what: &str, reached: impl Fn(i64, i64) -> bool) {
        let mut open = self.open.subscribe();
        let reached = open.wait_for(|(open, silent)| reached(*open, *silent));
        let waited = tokio::time::timeout(Duration::from_secs(30), reached).await;
        waited.unwrap_or_else(|_| panic!("{what}: not within 30 s")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_are_given_up_and_hold_no_place() {
    if postgres_is_skipped() {
        return;
    }
    let cluster = PostgresCluster::start().unwrap();
    cluster.create_database("silence").unwrap();
    let network = Network::start(cluster.folder().join(".s.PGSQL.5432")).await;
    let mut config = StoreConfig::new(format!("postgres://russet@127.0.0.1:{}/silence", network.port));
    config.max_connections = 2;
    config.acquire_timeout = Duration::from_secs(1);
    config.statement_timeout = Duration::from_millis(500);
    // Nobody else is to meet the silence first.
    config.touch_interval = Duration::from_secs(3600);
    let store = Store::open(config, &MasterKey::from_bytes([42; 32])).await.unwrap();
    // The listener is told of a change when it begins.
    store.plugin_signal().notified().await;

    // More often than there are places.
    for _ in 0..3 {
        let (one, another) = tokio::join!(store.ping(), store.ping());
        one.and(another).unwrap();
        network.silences.send_modify(|count| *count += 1);
        network.until("all are silent", |open, silent| open == silent).await;
        // Whoever meets the silence hears of it in time, and gets no answer that nobody gave.
        let before = Instant::now();
        store.ping().await.unwrap_err();
        assert!(before.elapsed() < Duration::from_secs(8), "{:?}", before.elapsed());
        // The others have not to find out one after the other.
        store.ping().await.unwrap();
        // The listener included: it asks now and then whether anybody is there.
        network
            .until("silent connections are closed", |_, silent| silent == 0)
            .await;
        store.plugin_signal().notified().await;
    }
    store.close().await.unwrap();
}
