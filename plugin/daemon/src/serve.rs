//! Accepts connections, bounded in number and time, until told to stop.

use std::{pin::pin, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{Semaphore, watch},
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    routes::Routes,
    socket::{Found, Socket},
};

/// Others wait in the queue of the socket.
const MOST_CONNECTIONS: u32 = 256;
const HEADER_DEADLINE: Duration = Duration::from_secs(5);
/// The longest request (publish) and its transfer both ways.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(20);
/// How long requests may go on after a stop was asked for.
const DRAIN: Duration = Duration::from_secs(10);
/// How often to look whether the socket file is still there: nothing tells a listener that it vanished.
const LOOK: Duration = Duration::from_secs(1);

/// Serves until `stop` ends; then finishes what is under way and removes the socket.
pub(crate) async fn serve(
    mut listener: UnixListener,
    socket: &Socket,
    routes: Arc<Routes>,
    stop: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let mut stop = pin!(stop);
    let slots = Arc::new(Semaphore::new(MOST_CONNECTIONS as usize));
    let (closing, _) = watch::channel(false);
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let outcome = loop {
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        tokio::select! {
            outcome = &mut stop => break outcome,
            _ = look.tick() => match socket.look() {
                Ok(Found::Nothing) => match socket.bind() {
                    Ok(anew) => {
                        log::warn!("socket {} had vanished: made anew", socket.path().display());
                        listener = anew;
                    }
                    Err(error) => log::error!("{error:#}"),
                },
                // /livez says so; fighting over the name with a newer daemon would help nobody.
                Ok(Found::Ours | Found::Foreign) => {}
                Err(error) => log::error!("cannot look at socket {}: {error}", socket.path().display()),
            },
            (slot, accepted) = next => match (slot, accepted) {
                (Ok(slot), Ok((stream, _))) => {
                    if !root(&stream) {
                        continue;
                    }
                    let connection = connection(stream, Arc::clone(&routes), closing.subscribe());
                    tokio::spawn(async move {
                        connection.await;
                        drop(slot);
                    });
                }
                (_, Err(error)) => {
                    log::error!("cannot accept on {}: {error}", socket.path().display());
                    // Out of file descriptors: the next tick is the time to try again, not at once.
                    look.tick().await;
                }
                (Err(_), _) => break Err(anyhow::anyhow!("the connection slots are closed")),
            },
        }
    };
    drop(listener);
    if let Err(error) = socket.remove() {
        log::warn!("cannot remove socket {}: {error}", socket.path().display());
    }
    closing.send_replace(true);
    if timeout(DRAIN, slots.acquire_many(MOST_CONNECTIONS)).await.is_err() {
        log::warn!("requests still under way after {} s are cut off", DRAIN.as_secs());
    }
    log::info!("stopped");
    outcome
}

/// The socket's mode keeps others out; this holds also where somebody changed it.
fn root(stream: &UnixStream) -> bool {
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == 0 => true,
        Ok(peer) => {
            log::warn!("closed a connection of uid {} (pid {:?}): only root may ask", peer.uid(), peer.pid());
            false
        }
        Err(error) => {
            log::warn!("closed a connection whose peer cannot be told: {error}");
            false
        }
    }
}

async fn connection(stream: UnixStream, routes: Arc<Routes>, mut closing: watch::Receiver<bool>) {
    let service = service_fn(move |request| {
        let routes = Arc::clone(&routes);
        async move { Ok::<_, std::convert::Infallible>(routes.answer(request).await) }
    });
    let mut served = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_DEADLINE)
            .keep_alive(false)
            .max_buf_size(64 * 1024)
            .serve_connection(TokioIo::new(stream), service)
    );
    let whole = async {
        tokio::select! {
            ended = served.as_mut() => ended,
            _ = closing.changed() => {
                served.as_mut().graceful_shutdown();
                served.await
            }
        }
    };
    match timeout(CONNECTION_DEADLINE, whole).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log::debug!("connection ended: {error}"),
        Err(_) => log::warn!("closed a connection that took longer than {} s", CONNECTION_DEADLINE.as_secs()),
    }
}
