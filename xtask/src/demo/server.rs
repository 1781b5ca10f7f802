//! The web server that is to be kept reachable.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread::{self, JoinHandle},
};

use testkit::Namespace;
use tiny_http::{Response, Server};

/// What it answers to every request.
pub(super) const BODY: &str = "hello from behind abuser\n";

/// An HTTP server inside a namespace; it ends when dropped.
pub(super) struct WebServer {
    server: Arc<Server>,
    worker: Option<JoinHandle<()>>,
}

impl WebServer {
    pub(super) fn start(namespace: &Namespace, address: SocketAddr) -> io::Result<Self> {
        // A socket stays in the namespace it was made in, whoever uses it.
        let listener = namespace.run(|| TcpListener::bind(address))?;
        let server = Server::from_listener(listener, None).map_err(io::Error::other)?;
        let server = Arc::new(server);
        let worker = thread::spawn({
            let server = Arc::clone(&server);
            move || {
                while let Ok(request) = server.recv() {
                    // Clients that hang up before the answer are their own problem.
                    let _hung_up = request.respond(Response::from_string(BODY));
                }
            }
        });
        Ok(Self {
            server,
            worker: Some(worker),
        })
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.server.unblock();
        let _panicked = self.worker.take().map(JoinHandle::join);
    }
}
