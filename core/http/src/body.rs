//! Bodies of requests: read whole, up to a size and within a time.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};

/// The body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the body did not arrive in time")]
    TooSlow,
    #[error("the body ended too early")]
    Broken,
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

    use futures::stream;

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
}
