//! Last-seen times: kept in memory by polls, written together now and then, so that an idle poll writes nothing.
//!
//! A process that is killed loses a few seconds of them, which nothing depends on.

use std::collections::HashMap;
use std::sync::PoisonError;

use jiff::Timestamp;

use crate::db::{ms, values};
use crate::error::StoreError;
use crate::ids::EnrollmentId;
use crate::store::{Store, TOUCH};

/// The most rows of one statement.
const BATCH: usize = 10_000;

impl Store {
    /// Remembers that an enrollment was heard of. Touches no database.
    pub fn touch(&self, id: EnrollmentId, now: Timestamp) {
        self.clock().heard(now);
        let mut touched = self.touched().lock().unwrap_or_else(PoisonError::into_inner);
        let seen = touched.entry(id).or_insert(i64::MIN);
        *seen = ms(now).max(*seen);
    }

    /// Writes the remembered times. The store does this by itself now and then, and when it is closed.
    ///
    /// # Errors
    /// When the database fails; the times are kept for the next try.
    pub async fn flush_touched(&self) -> Result<(), StoreError> {
        let taken: HashMap<_, _> = std::mem::take(&mut *self.touched().lock().unwrap_or_else(PoisonError::into_inner));
        if taken.is_empty() {
            return Ok(());
        }
        // By id, so that two servers that write the same rows wait for each other instead of locking up.
        let mut pairs: Vec<_> = taken.into_iter().collect();
        pairs.sort_unstable();
        let mut written = 0;
        for batch in pairs.chunks(BATCH) {
            let list: Vec<_> = batch.iter().map(|(id, seen)| (id.0, *seen)).collect();
            let list = serde_json::to_string(&list).map_err(|_| StoreError::Corrupt("time"))?;
            let result = self
                .write(list, |db, list| {
                    Box::pin(async move { db.exec(TOUCH, values![list.clone()]).await })
                })
                .await;
            if let Err(error) = result {
                let mut touched = self.touched().lock().unwrap_or_else(PoisonError::into_inner);
                for (id, seen) in &pairs[written..] {
                    let newer = touched.entry(*id).or_insert(i64::MIN);
                    *newer = (*seen).max(*newer);
                }
                return Err(error);
            }
            written += batch.len();
        }
        Ok(())
    }

    pub(super) fn touched_at(&self, id: EnrollmentId) -> Option<i64> {
        self.touched()
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id)
            .copied()
    }
}
