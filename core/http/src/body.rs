//! Bodies of requests: read whole, up to a size and within a time.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the body did not arrive in time")]
    TooSlow,
    #[error("the body ended too early")]
    Broken,
    #[error("too many large bodies are on their way; try again later")]
    NoRoom,
}

/// What each body may have without asking for room: most messages of devices are smaller.
const FREE: usize = 16 << 10;

/// Room is given out in these, in bytes.
const UNIT: usize = 1 << 10;

/// Room in memory for large bodies, over all clients: each is read for as long as its client takes, so without it a few
/// clients that send large bodies slowly would take all there is.
#[derive(Clone, Debug)]
pub(crate) struct Room(Arc<Semaphore>);

impl Room {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes / UNIT).min(Semaphore::MAX_PERMITS))))
    }

    /// Room for a body that has grown to so many bytes, beside what it holds. Nobody waits for it, as who waits holds some.
    fn grow(&self, held: &mut Option<OwnedSemaphorePermit>, bytes: usize) -> Result<(), BodyError> {
        let units = bytes.saturating_sub(FREE).div_ceil(UNIT);
        let more = units.saturating_sub(held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
        if more == 0 {
            return Ok(());
        }
        let more = u32::try_from(more).map_err(|_| BodyError::NoRoom)?;
        let more = Arc::clone(&self.0).try_acquire_many_owned(more);
        let more = more.map_err(|_| BodyError::NoRoom)?;
        match held {
            Some(held) => held.merge(more),
            None => *held = Some(more),
        }
        Ok(())
    }
}

/// A body, with the room that it takes.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl Deref for Held {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// As [`read`], while there is room.
pub(crate) async fn read_within(body: Body, limit: usize, timeout: Duration, room: &Room) -> Result<Held, BodyError> {
    if HttpBody::size_hint(&body).lower() > limit as u64 {
        return Err(BodyError::TooLarge(limit));
    }
    match tokio::time::timeout(timeout, whole(body, limit, room)).await {
        Err(_) => Err(BodyError::TooSlow),
        Ok(read) => read,
    }
}

async fn whole(body: Body, limit: usize, room: &Room) -> Result<Held, BodyError> {
    let mut body = Limited::new(body, limit);
    let (mut first, mut rest, mut held) = (Bytes::new(), BytesMut::new(), None);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match error.is::<LengthLimitError>() {
            true => BodyError::TooLarge(limit),
            false => BodyError::Broken,
        })?;
        let Ok(data) = frame.into_data() else { continue };
        room.grow(&mut held, first.len() + rest.len() + data.len())?;
        // Most bodies are one piece, and stay where they are.
        if first.is_empty() && rest.is_empty() {
            first = data;
            continue;
        }
        rest.extend_from_slice(&std::mem::take(&mut first));
        rest.extend_from_slice(&data);
    }
    let bytes = if rest.is_empty() { first } else { rest.freeze() };
    Ok(Held { bytes, _room: held })
}

/// Reads a body whole. One that is announced as too large is refused before it is read.
pub(crate) async fn read(body: Body, limit: usize, timeout: Duration) -> Result<Bytes, BodyError> {
    if HttpBody::size_hint(&body).lower() > limit as u64 {
        return Err(BodyError::TooLarge(limit));
    }
    let whole = Limited::new(body, limit).collect();
    match tokio::time::timeout(timeout, whole).await {
        Err(_) => Err(BodyError::TooSlow),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge(limit)),
        Ok(Err(_)) => Err(BodyError::Broken),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::convert::Infallible;

    use futures::{StreamExt as _, stream};

    use super::*;

    /// A body whose size nobody announced.
    fn chunks(chunks: &'static [&'static str]) -> Body {
        Body::from_stream(stream::iter(chunks.iter().copied().map(Ok::<_, Infallible>)))
    }

    #[tokio::test]
    async fn the_limit_is_the_last_size_that_passes() {
        let minute = Duration::from_secs(60);
        assert_eq!(read(Body::from("12345"), 5, minute).await.unwrap(), "12345");
        assert_eq!(read(Body::from("123456"), 5, minute).await, Err(BodyError::TooLarge(5)));
        assert_eq!(read(chunks(&["12", "345"]), 5, minute).await.unwrap(), "12345");
        assert_eq!(
            read(chunks(&["123", "456"]), 5, minute).await,
            Err(BodyError::TooLarge(5))
        );
    }

    #[tokio::test]
    async fn a_body_that_never_comes_is_given_up() {
        let never = Body::from_stream(stream::pending::<Result<&str, Infallible>>());
        assert_eq!(read(never, 5, Duration::from_millis(5)).await, Err(BodyError::TooSlow));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_told_apart() {
        let broken = Body::from_stream(stream::iter([Ok("12"), Err(std::io::Error::other("reset"))]));
        assert_eq!(read(broken, 5, Duration::from_secs(60)).await, Err(BodyError::Broken));
    }

    #[tokio::test]
    async fn large_bodies_share_the_room_and_small_ones_need_none() {
        let minute = Duration::from_secs(60);
        let room = Room::new(64 << 10);
        let send = |bytes: usize| read_within(Body::from(vec![b'a'; bytes]), 1 << 20, minute, &room);
        let large = send(FREE + (40 << 10)).await.unwrap();
        assert_eq!(large.len(), FREE + (40 << 10));
        assert_eq!(send(FREE + (30 << 10)).await.err(), Some(BodyError::NoRoom));
        assert_eq!(send(FREE).await.unwrap().len(), FREE);
        drop(large);
        assert!(send(FREE + (30 << 10)).await.is_ok());
    }

    #[tokio::test]
    async fn a_body_in_pieces_holds_what_has_come_of_it() {
        let minute = Duration::from_secs(60);
        let room = Room::new(64 << 10);
        let piece = "a".repeat(24 << 10);
        let pieces = |number| {
            let piece = piece.clone();
            let stream = stream::repeat(Ok::<_, Infallible>(piece)).take(number);
            read_within(Body::from_stream(stream), 1 << 20, minute, &room)
        };
        assert_eq!(pieces(3).await.unwrap().len(), 72 << 10);
        assert_eq!(pieces(4).await.err(), Some(BodyError::NoRoom));
        assert_eq!(room.0.available_permits(), 64, "what was refused holds nothing");
        let short = read_within(Body::from("12"), 1, minute, &room).await;
        assert_eq!(short.err(), Some(BodyError::TooLarge(1)));
    }
}
