//! What stands before several servers: one address, and each connection goes to the next server that takes it. It passes
//! bytes on and knows nothing of TLS, as a balancer of connections does.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

/// One address for several servers. Dropping it closes the address; connections that are open stay.
#[derive(Debug)]
pub struct Front {
    address: SocketAddr,
    servers: Arc<Mutex<Servers>>,
    accepting: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Servers {
    addresses: Vec<SocketAddr>,
    turn: usize,
}

impl Servers {
    /// All of them, beginning with the one whose turn it is.
    fn next(&mut self) -> Vec<SocketAddr> {
        let mut order = self.addresses.clone();
        if !order.is_empty() {
            self.turn = (self.turn + 1) % order.len();
            order.rotate_left(self.turn);
        }
        order
    }
}

impl Front {
    /// Takes an address on the loopback network. Without servers, connections are closed.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address to listen on");
        let address = listener.local_addr().expect("a listener has an address");
        let servers = Arc::new(Mutex::new(Servers::default()));
        let accepting = tokio::spawn(accept(listener, Arc::clone(&servers)));
        Self {
            address,
            servers,
            accepting,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends connections to these servers from now on.
    pub fn lead_to(&self, addresses: Vec<SocketAddr>) {
        self.servers.lock().unwrap().addresses = addresses;
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, servers: Arc<Mutex<Servers>>) {
    while let Ok((mut client, _)) = listener.accept().await {
        let order = servers.lock().unwrap().next();
        tokio::spawn(async move {
            for address in order {
                if let Ok(mut server) = TcpStream::connect(address).await {
                    // However it ends, both ends see it end.
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                    return;
                }
            }
        });
    }
}
