//! The client of one connection: one shared, multiplexed connection for searches, made when it is first needed and again
//! when it broke, and a connection of its own for each check of credentials.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError, LdapResult, ResultEntry, Scope, SearchOptions};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::config::{Checked, LdapConfigError, LdapConnection, check};
use super::dn::Dn;
use super::filter::fill;
use super::page::{next_cookie, page_control};
use crate::ports::{CallError, LdapEntry, LdapPort, LdapScope, LdapSearch};

/// The most attributes that one search asks for.
const MAX_ATTRIBUTES: usize = 64;
/// What one search may return, in bytes of names and values: it has to pass into the plugin's memory.
const MAX_RESULT_BYTES: usize = 512 << 10;

/// How many entries one page holds. Active Directory gives no more than 1,000 at once.
const PAGE: u32 = 500;

// Result codes of RFC 4511, appendix A.
const SUCCESS: u32 = 0;
const TIME_LIMIT_EXCEEDED: u32 = 3;
const SIZE_LIMIT_EXCEEDED: u32 = 4;
const NO_SUCH_OBJECT: u32 = 32;
const INVALID_CREDENTIALS: u32 = 49;
const BUSY: u32 = 51;
const UNAVAILABLE: u32 = 52;

/// A client of one named connection.
pub(super) struct LdapClient {
    name: String,
    checked: Checked,
    shared: Mutex<Option<Ldap>>,
}

impl fmt::Debug for LdapClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LdapClient")
            .field("name", &self.name)
            .field("connection", &self.checked.settings)
            .finish_non_exhaustive()
    }
}

/// What went wrong with one try.
enum Failed {
    /// The connection is of no use any more.
    Connection(String),
    /// The directory answered, and the answer is no.
    Answer(CallError),
}

impl From<LdapError> for Failed {
    fn from(error: LdapError) -> Self {
        match error {
            LdapError::FilterParsing => Self::Answer(CallError::Invalid("not an LDAP filter (RFC 4515)".to_owned())),
            other => Self::Connection(other.to_string()),
        }
    }
}

impl LdapClient {
    pub(super) fn new(name: &str, connection: LdapConnection) -> Result<Self, LdapConfigError> {
        Ok(Self {
            name: name.to_owned(),
            checked: check(connection)?,
            shared: Mutex::new(None),
        })
    }

    /// More than a page, on a connection of its own: a server keeps the place of one paged search for each connection
    /// (RFC 2696 section 3 leaves it that), and searches of other calls would lose it.
    async fn search_pages(&self, search: &CheckedSearch, deadline: Instant) -> Result<Vec<LdapEntry>, CallError> {
        let attempt = async {
            let mut ldap = self.bound().await?;
            let entries = run_pages(&mut ldap, search, deadline).await;
            // Politeness; the answer is known.
            let _ = ldap.unbind().await;
            entries
        };
        match timeout_at(deadline, attempt).await {
            Ok(Ok(entries)) => Ok(entries),
            Ok(Err(Failed::Answer(error))) => Err(error),
            Ok(Err(Failed::Connection(reason))) => Err(self.unavailable(&reason)),
            Err(_) => Err(self.unavailable("no answer in time")),
        }
    }

    /// In one answer, on the shared connection; none if the directory gives fewer at once than were asked for.
    async fn search_at_once(
        &self,
        search: &CheckedSearch,
        deadline: Instant,
    ) -> Result<Option<Vec<LdapEntry>>, CallError> {
        let mut last = String::new();
        // A connection that was open may turn out to be dead: a second try, with a new one, tells.
        for _ in 0..2 {
            let attempt = async {
                let mut ldap = self.connection().await?;
                run_search(&mut ldap, search, deadline).await
            };
            match timeout_at(deadline, attempt).await {
                Ok(Ok(entries)) => return Ok(entries),
                Ok(Err(Failed::Answer(error))) => return Err(error),
                Ok(Err(Failed::Connection(reason))) => {
                    self.forget().await;
                    last = reason;
                }
                Err(_) => {
                    self.forget().await;
                    return Err(self.unavailable("no answer in time"));
                }
            }
        }
        Err(self.unavailable(&last))
    }

    /// Checks credentials, on a connection of its own.
    async fn check_credentials(&self, dn: &str, password: &str, deadline: Instant) -> Result<bool, CallError> {
        if password.is_empty() {
            // RFC 4513 section 5.1.2: a name with an empty password is an unauthenticated bind, which succeeds.
            return Err(CallError::Invalid("an empty password proves nothing".to_owned()));
        }
        if !self.within_base(dn)? {
            return Err(CallError::Invalid(
                "the name to bind with lies outside the connection's base".to_owned(),
            ));
        }
        let attempt = async {
            let mut ldap = self.connect().await?;
            let answer = ldap.simple_bind(dn, password).await?;
            // Politeness; the answer is known.
            let _ = ldap.unbind().await;
            Ok::<_, Failed>(answer)
        };
        match timeout_at(self.deadline(deadline), attempt).await {
            Ok(Ok(answer)) => match answer.rc {
                SUCCESS => Ok(true),
                INVALID_CREDENTIALS | NO_SUCH_OBJECT => Ok(false),
                _ => Err(self.refusal(&answer)),
            },
            Ok(Err(Failed::Answer(error))) => Err(error),
            Ok(Err(Failed::Connection(reason))) => Err(self.unavailable(&reason)),
            Err(_) => Err(self.unavailable("no answer in time")),
        }
    }

    fn checked_search(&self, request: LdapSearch) -> Result<CheckedSearch, CallError> {
        let base = request.base.unwrap_or_else(|| self.checked.settings.base_dn.clone());
        if !self.within_base(&base)? {
            return Err(CallError::Invalid(
                "the base of the search lies outside the connection's base".to_owned(),
            ));
        }
        if request.attributes.is_empty() || request.attributes.len() > MAX_ATTRIBUTES {
            return Err(CallError::Invalid(format!(
                "name 1 to {MAX_ATTRIBUTES} attributes to return"
            )));
        }
        if let Some(bad) = request.attributes.iter().find(|name| !is_attribute(name)) {
            return Err(CallError::Invalid(format!("{bad:?} is not the name of an attribute")));
        }
        let filter = fill(&request.filter, &request.values).map_err(CallError::Invalid)?;
        Ok(CheckedSearch {
            base,
            scope: match request.scope {
                LdapScope::Base => Scope::Base,
                LdapScope::OneLevel => Scope::OneLevel,
                LdapScope::Subtree => Scope::Subtree,
            },
            filter,
            attributes: request.attributes,
            limit: match request.limit {
                0 => self.checked.settings.max_entries,
                limit => limit.min(self.checked.settings.max_entries),
            },
        })
    }

    fn within_base(&self, dn: &str) -> Result<bool, CallError> {
        match Dn::parse(dn) {
            Some(dn) => Ok(dn.is_within(&self.checked.base)),
            None => Err(CallError::Invalid("not a distinguished name (RFC 4514)".to_owned())),
        }
    }

    fn deadline(&self, deadline: Instant) -> Instant {
        deadline.min(Instant::now() + self.checked.settings.timeout)
    }

    /// The shared connection, opened and bound if need be. Whoever comes while it is being opened waits for it.
    async fn connection(&self) -> Result<Ldap, Failed> {
        let mut shared = self.shared.lock().await;
        if let Some(ldap) = shared.as_mut()
            && !ldap.is_closed()
        {
            return Ok(ldap.clone());
        }
        let ldap = self.bound().await?;
        *shared = Some(ldap.clone());
        Ok(ldap)
    }

    /// A fresh connection with the server's own credentials.
    async fn bound(&self) -> Result<Ldap, Failed> {
        let mut ldap = self.connect().await?;
        let settings = &self.checked.settings;
        if let (Some(dn), Some(password)) = (&settings.bind_dn, &settings.bind_password) {
            let answer = ldap.simple_bind(dn, password).await?;
            if answer.rc != SUCCESS {
                tracing::warn!(
                    ldap.connection = self.name,
                    ldap.result = answer.rc,
                    "the directory refused the server's own credentials"
                );
                return Err(Failed::Answer(self.refusal(&answer)));
            }
        }
        Ok(ldap)
    }

    async fn forget(&self) {
        // Somebody who is just opening a new connection holds the lock: nothing to forget then.
        if let Ok(mut shared) = self.shared.try_lock() {
            *shared = None;
        }
    }

    async fn connect(&self) -> Result<Ldap, Failed> {
        let settings = &self.checked.settings;
        let mut options = LdapConnSettings::new()
            .set_conn_timeout(settings.timeout)
            .set_starttls(settings.start_tls);
        if let Some(tls) = &self.checked.tls {
            options = options.set_config(tls.clone());
        }
        let (connection, ldap) = LdapConnAsync::with_settings(options, &settings.url).await?;
        let name = self.name.clone();
        tokio::spawn(async move {
            if let Err(error) = connection.drive().await {
                tracing::debug!(ldap.connection = name, %error, "the connection to the directory broke");
            }
        });
        Ok(ldap)
    }

    fn unavailable(&self, reason: &str) -> CallError {
        CallError::Unavailable(format!("the directory {:?}: {reason}", self.name))
    }

    fn refusal(&self, answer: &LdapResult) -> CallError {
        let text = format!("the directory {:?} answered with result {}", self.name, answer.rc);
        match answer.rc {
            TIME_LIMIT_EXCEEDED | BUSY | UNAVAILABLE => CallError::Unavailable(text),
            _ => CallError::Refused(text),
        }
    }
}

#[async_trait]
impl LdapPort for LdapClient {
    /// Searches. Nothing is asked of the directory before the request is known to be sound.
    async fn search(&self, search: LdapSearch, deadline: Instant) -> Result<Vec<LdapEntry>, CallError> {
        let search = self.checked_search(search)?;
        let deadline = self.deadline(deadline);
        if search.limit <= PAGE
            && let Some(entries) = self.search_at_once(&search, deadline).await?
        {
            return Ok(entries);
        }
        self.search_pages(&search, deadline).await
    }

    async fn bind(&self, dn: &str, password: &str, deadline: Instant) -> Result<bool, CallError> {
        self.check_credentials(dn, password, deadline).await
    }
}

/// A search that may be sent.
struct CheckedSearch {
    base: String,
    scope: Scope,
    filter: String,
    attributes: Vec<String>,
    limit: u32,
}

/// Entries that were found, and how large they are.
#[derive(Default)]
struct Collected {
    entries: Vec<LdapEntry>,
    bytes: usize,
}

impl Collected {
    fn add(&mut self, found: ResultEntry) -> Result<(), Failed> {
        if found.is_ref() || found.is_intermediate() {
            return Ok(());
        }
        let entry =
            read_entry(found).ok_or_else(|| Failed::Connection("an entry that is not well formed".to_owned()))?;
        self.bytes += size(&entry);
        if self.bytes > MAX_RESULT_BYTES {
            return Err(Failed::Answer(CallError::Refused(format!(
                "the entries are larger than {MAX_RESULT_BYTES} bytes; ask for fewer attributes or set a lower limit"
            ))));
        }
        self.entries.push(entry);
        Ok(())
    }
}

fn set_limits(ldap: &mut Ldap, sizelimit: u32, deadline: Instant) {
    let left = deadline.saturating_duration_since(Instant::now());
    let options = SearchOptions::new()
        .sizelimit(i32::try_from(sizelimit).unwrap_or(i32::MAX))
        .timelimit(i32::try_from(left.as_secs() + 1).unwrap_or(i32::MAX));
    ldap.with_search_options(options);
    ldap.with_timeout(left.max(Duration::from_millis(1)));
}

/// One search whose entries come in one answer; none if the directory cut them below the limit.
async fn run_search(
    ldap: &mut Ldap,
    search: &CheckedSearch,
    deadline: Instant,
) -> Result<Option<Vec<LdapEntry>>, Failed> {
    set_limits(ldap, search.limit, deadline);
    let mut collected = Collected::default();
    let answer = collect(ldap, search, &mut collected).await?;
    let cut = answer.is_some_and(|answer| answer.rc == SIZE_LIMIT_EXCEEDED);
    Ok((!cut).then_some(collected.entries))
}

/// One search whose entries come in pages (RFC 2696), until there are enough. A directory that cuts them too is refused:
/// nobody could tell a part from the whole.
async fn run_pages(ldap: &mut Ldap, search: &CheckedSearch, deadline: Instant) -> Result<Vec<LdapEntry>, Failed> {
    let mut collected = Collected::default();
    let mut cookie = Vec::new();
    loop {
        let before = collected.entries.len();
        // A server may take a size limit for all pages together.
        set_limits(ldap, 0, deadline);
        ldap.with_controls(page_control(PAGE.min(search.limit), &cookie));
        let Some(answer) = collect(ldap, search, &mut collected).await? else {
            return Ok(collected.entries);
        };
        if answer.rc == SIZE_LIMIT_EXCEEDED {
            return Err(Failed::Answer(CallError::Refused(format!(
                "the directory gives {} entries and no more (result {SIZE_LIMIT_EXCEEDED}), in pages too, and there are \
                 others; raise its size limit for the server's name, or ask for fewer",
                collected.entries.len()
            ))));
        }
        cookie = next_cookie(&answer)
            .map_err(|()| Failed::Connection("a page control that is not well formed".to_owned()))?
            .unwrap_or_default();
        if cookie.is_empty() {
            return Ok(collected.entries);
        }
        if collected.entries.len() == before {
            // A cookie without entries would go on for ever.
            return Err(Failed::Connection("a page without entries".to_owned()));
        }
    }
}

/// Collects the entries of one answer, up to the limit; its end, unless the limit was reached before.
async fn collect(
    ldap: &mut Ldap,
    search: &CheckedSearch,
    collected: &mut Collected,
) -> Result<Option<LdapResult>, Failed> {
    let mut stream = ldap
        .streaming_search(&search.base, search.scope, &search.filter, &search.attributes)
        .await?;
    while let Some(found) = stream.next().await? {
        collected.add(found)?;
        if collected.entries.len() >= search.limit as usize {
            // The server may still send its final message; this connection takes care of it.
            let id = stream.ldap_handle().last_id();
            drop(stream);
            // Without an answer by the protocol; if it can not be sent, the next search finds out.
            let _ = ldap.abandon(id).await;
            return Ok(None);
        }
    }
    let answer = stream.finish().await;
    match answer.rc {
        // Found nothing, or more than the directory gives: what that means is for who asked.
        SUCCESS | SIZE_LIMIT_EXCEEDED | NO_SUCH_OBJECT => Ok(Some(answer)),
        TIME_LIMIT_EXCEEDED | BUSY | UNAVAILABLE => Err(Failed::Answer(CallError::Unavailable(format!(
            "the directory answered with result {}",
            answer.rc
        )))),
        other => Err(Failed::Answer(CallError::Refused(format!(
            "the directory answered with result {other}"
        )))),
    }
}

/// An entry with its textual values: attributes that hold anything but UTF-8 are left out. Absent if it is malformed.
/// Not `SearchEntry::construct`, which panics on what a broken server sends.
fn read_entry(found: ResultEntry) -> Option<LdapEntry> {
    let mut parts = found.0.match_id(4)?.expect_constructed()?.into_iter();
    let dn = String::from_utf8(parts.next()?.expect_primitive()?).ok()?;
    let mut attributes = BTreeMap::new();
    for attribute in parts.next()?.expect_constructed()? {
        let mut attribute = attribute.expect_constructed()?.into_iter();
        let name = String::from_utf8(attribute.next()?.expect_primitive()?).ok()?;
        let values: Option<Vec<Vec<u8>>> = attribute
            .next()?
            .expect_constructed()?
            .into_iter()
            .map(ldap3::asn1::StructureTag::expect_primitive)
            .collect();
        let text: Result<Vec<String>, _> = values?.into_iter().map(String::from_utf8).collect();
        if let Ok(text) = text {
            attributes.insert(name, text);
        }
    }
    Some(LdapEntry {
        dn,
        attributes: attributes.into_iter().collect(),
    })
}

fn size(entry: &LdapEntry) -> usize {
    let attributes = entry.attributes.iter().map(|(name, values)| {
        // A string costs the plugin eight bytes beside its text.
        name.len() + 8 + values.iter().map(|value| value.len() + 8).sum::<usize>()
    });
    entry.dn.len() + 8 + attributes.sum::<usize>()
}

/// A name with options (`cn;lang-de`), an OID, or `1.1` and `+` and `*` not: what is returned has to be named.
fn is_attribute(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b';' | b'_'))
}
