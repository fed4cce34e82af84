//! Lists: `{"items":[…],"next":"cursor"|null}`, asked for with `?limit=` and `?cursor=`.

use russet_engine::store::{Cursor, MAX_PAGE, Page};
use serde::{Deserialize, Deserializer, Serialize};

/// How many items a page has unless the caller says.
const USUAL: u32 = 100;

/// Which page.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Paging {
    #[serde(default)]
    limit: Option<u32>,
    #[serde(default, deserialize_with = "cursor")]
    cursor: Option<Cursor>,
}

impl Paging {
    pub(super) fn limit(self) -> u32 {
        self.limit.unwrap_or(USUAL).clamp(1, MAX_PAGE)
    }

    pub(super) fn cursor(self) -> Option<Cursor> {
        self.cursor
    }
}

fn cursor<'de, D: Deserializer<'de>>(text: D) -> Result<Option<Cursor>, D::Error> {
    let text = String::deserialize(text)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|_| serde::de::Error::custom("give a cursor as the last page named it"))
}

/// A page, on its way out.
#[derive(Debug, Serialize)]
pub(super) struct List<T> {
    items: Vec<T>,
    next: Option<String>,
}

impl<T> List<T> {
    /// A list that is always whole.
    pub(super) fn whole(items: impl IntoIterator<Item = T>) -> Self {
        Self {
            items: items.into_iter().collect(),
            next: None,
        }
    }

    /// A page, with a view of each record.
    pub(super) fn of<R>(page: Page<R>, view: impl FnMut(R) -> T) -> Self {
        Self {
            next: page.next.map(|cursor| cursor.to_string()),
            items: page.items.into_iter().map(view).collect(),
        }
    }
}
