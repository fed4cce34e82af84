//! The token of the first administrator: made at the first start, and left in the data directory.

use jiff::Timestamp;
use russet_engine::Engine;

use crate::config::Secret;
use crate::data_dir::DataDir;
use crate::start_error::StartError;

/// What the token is called.
const NAME: &str = "first administrator";

/// The token in the data directory, if it is good. It is made when the server has no token of its own, and only then: an
/// operator who deletes the file, or revokes the token, means it.
pub(crate) async fn admin_token(
    engine: &Engine,
    data_dir: &DataDir,
    now: Timestamp,
) -> Result<Option<Secret>, StartError> {
    let path = data_dir.admin_token();
    let left = std::fs::read_to_string(&path).ok();
    if let Some(token) = left.as_deref().map(str::trim).filter(|token| !token.is_empty()) {
        let known = engine.administrator(token).await.map_err(StartError::AdminToken)?;
        if known.is_some() {
            return Ok(Some(Secret::new(token)));
        }
    }
    // An empty file is left by a start that was cut off between here and the end: its token, if it was made, is lost.
    let cut_off = left.as_deref() == Some("");
    let tokens = engine.tokens(None).await.map_err(StartError::AdminToken)?;
    if !cut_off
        && tokens
            .iter()
            .any(|token| token.tenant.is_none() && token.revoked_at.is_none())
    {
        return Ok(None);
    }
    data_dir.write_private(&path, b"")?;
    let (_, token) = engine
        .create_token(None, NAME, now)
        .await
        .map_err(StartError::AdminToken)?;
    data_dir.write_private(&path, format!("{}\n", token.as_str()).as_bytes())?;
    tracing::info!(file = %path.display(), "made the first administrator's token");
    Ok(Some(Secret::new(token.as_str())))
}
