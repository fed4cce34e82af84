//! Whom a tenant trusts, and what follows for a file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use semver::Version;
use serde::{Deserialize, Serialize};

use super::format::FormatError;
use super::key::{KeyError, KeyId, PublicKey};
use super::sign::Package;
use crate::{Manifest, ManifestError, RevisionStoreError};

/// What happens to plugins that nobody signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unsigned {
    /// They are refused.
    #[default]
    Refuse,
    /// They are installed: for machines where plugins are developed.
    Allow,
}

/// Somebody whose plugins a tenant installs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publisher {
    /// What the tenant calls them.
    pub name: String,
    /// Their key.
    pub public_key: PublicKey,
    /// The only plugins that they may publish, by name; empty for any.
    pub plugins: BTreeSet<String>,
}

/// Whose plugins a tenant installs.
#[derive(Clone, Debug, Default)]
pub struct TrustPolicy {
    /// What happens to plugins that nobody signed.
    pub unsigned: Unsigned,
    /// Whom it trusts.
    pub publishers: Vec<Publisher>,
}

/// What is known of a file's origin; stored with its revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// How it was accepted.
    #[serde(flatten)]
    pub accepted: Accepted,
    /// The SHA-256 of the file without its signatures, in hexadecimal.
    pub content: String,
}

/// How a file was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum Accepted {
    /// A publisher whom the tenant trusted when it was installed has signed it.
    Signed {
        /// What the tenant called the publisher then.
        publisher: String,
        /// Their key.
        key_id: KeyId,
        /// When they say that they signed it.
        signed_at: Timestamp,
    },
    /// Nobody signed it, and the configuration allowed that.
    Unsigned,
}

/// Why a file is refused.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// Its signatures can not be read.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A key did not work.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A signature does not fit.
    #[error(
        "the signature of key {0} does not fit the file: the file was changed after it was signed, or signed wrongly; \
         take it from its publisher again"
    )]
    Tampered(KeyId),
    /// It has no signature.
    #[error(
        "the plugin is not signed; sign it with `russet plugin sign`, or, on a machine where plugins are developed, set \
         plugins.unsigned = \"allow\""
    )]
    Unsigned,
    /// Nobody whom the tenant trusts has signed it.
    #[error("the plugin is signed by {}, whom this tenant does not trust; if it should: {}", listed(.0), lines(.0))]
    UnknownPublisher(Vec<PublicKey>),
    /// The publisher is trusted for other plugins.
    #[error(
        "the plugin {plugin} is signed by {publisher}, who is trusted for other plugins only; if it should be for this \
         one too: russet publisher remove {publisher}, then add it again with --plugin {plugin}"
    )]
    OtherPlugin {
        /// The publisher.
        publisher: String,
        /// The plugin's name.
        plugin: String,
    },
    /// The file has no manifest that could be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// It is older than what was in use.
    #[error(
        "version {version} is older than {highest}, which was in use before; --allow-downgrade installs it all the same"
    )]
    Downgrade {
        /// Its version.
        version: Version,
        /// The highest that was ever in use.
        highest: Version,
    },
    /// It has the version of another file.
    #[error(
        "version {version} was in use before with other content; give the new one a higher version, or install it all \
         the same with --allow-downgrade"
    )]
    SameVersion {
        /// Its version.
        version: Version,
    },
    /// The list of publishers could not be read.
    #[error(transparent)]
    Store(#[from] RevisionStoreError),
}

fn listed(keys: &[PublicKey]) -> String {
    let ids: Vec<String> = keys.iter().map(|key| key.id().to_string()).collect();
    ids.join(" and ")
}

fn lines(keys: &[PublicKey]) -> String {
    let lines: Vec<String> = keys
        .iter()
        .map(|key| format!("russet publisher add NAME {key}"))
        .collect();
    lines.join(" or ")
}

/// Holds a file against a tenant's policy. Every signature in it has to fit, and one of them has to be of a publisher who
/// is trusted for a plugin of that name.
///
/// # Errors
///
/// See [`PackageError`].
pub fn check(file: &[u8], policy: &TrustPolicy) -> Result<Signed, PackageError> {
    let package = Package::read(file)?;
    let content = package.content_digest();
    if package.signatures.is_empty() {
        return match policy.unsigned {
            Unsigned::Refuse => Err(PackageError::Unsigned),
            Unsigned::Allow => Ok(Signed {
                accepted: Accepted::Unsigned,
                content,
            }),
        };
    }
    let known: Vec<_> = package
        .signatures
        .iter()
        .filter_map(|signature| {
            let publishers = policy.publishers.iter();
            let mut publishers = publishers.filter(|publisher| publisher.public_key == signature.public_key);
            publishers.next().map(|publisher| (signature, publisher))
        })
        .collect();
    let Some((_, first)) = known.first() else {
        let keys = package.signatures.iter().map(|signature| signature.public_key);
        return Err(PackageError::UnknownPublisher(keys.collect()));
    };
    let plugin = Manifest::read(file)?.name;
    let accepted = known
        .iter()
        .find(|(_, publisher)| publisher.plugins.is_empty() || publisher.plugins.contains(&plugin));
    match accepted {
        Some((signature, publisher)) => Ok(Signed {
            accepted: Accepted::Signed {
                publisher: publisher.name.clone(),
                key_id: signature.public_key.id(),
                signed_at: signature.signed_at,
            },
            content,
        }),
        None => Err(PackageError::OtherPlugin {
            publisher: first.name.clone(),
            plugin,
        }),
    }
}

/// A version of a plugin that was in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// The version in its manifest.
    pub version: Version,
    /// The SHA-256 of the file without its signatures, in hexadecimal; of the whole file where that is not known.
    pub content: String,
}

/// Refuses to go back: to a lower version than was ever in use, or to other content of a version that was.
///
/// # Errors
///
/// [`PackageError::Downgrade`], [`PackageError::SameVersion`].
pub fn check_version(version: &Version, content: &[&str], past: &[Past]) -> Result<(), PackageError> {
    let Some(highest) = past.iter().map(|past| &past.version).max() else {
        return Ok(());
    };
    if version < highest {
        return Err(PackageError::Downgrade {
            version: version.clone(),
            highest: highest.clone(),
        });
    }
    let mut same = past.iter().filter(|past| past.version == *version).peekable();
    if same.peek().is_some() && !same.any(|past| content.contains(&past.content.as_str())) {
        return Err(PackageError::SameVersion {
            version: version.clone(),
        });
    }
    Ok(())
}

/// Keeps the publishers of tenants, and remembers what was in use.
#[async_trait]
pub trait TrustStore: Send + Sync + fmt::Debug + 'static {
    /// Whom a tenant trusts.
    async fn publishers(&self, tenant: &str) -> Result<Vec<Publisher>, RevisionStoreError>;

    /// The versions of a plugin that the tenant ever had in use.
    async fn past(&self, tenant: &str, plugin: &str) -> Result<Vec<Past>, RevisionStoreError>;
}

/// Publishers in memory, each trusted by every tenant: for tests and small embeddings. Remembers no versions.
#[derive(Debug, Default)]
pub struct MemoryTrust {
    publishers: Mutex<Vec<Publisher>>,
    past: Mutex<BTreeMap<(String, String), Vec<Past>>>,
}

impl MemoryTrust {
    /// Trusts a publisher from now on.
    pub fn add(&self, publisher: Publisher) {
        self.publishers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(publisher);
    }

    /// Remembers that a version was in use.
    pub fn remember(&self, tenant: &str, plugin: &str, past: Past) {
        let mut all = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry((tenant.to_owned(), plugin.to_owned()))
            .or_default()
            .push(past);
    }
}

#[async_trait]
impl TrustStore for MemoryTrust {
    async fn publishers(&self, _tenant: &str) -> Result<Vec<Publisher>, RevisionStoreError> {
        Ok(self.publishers.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    async fn past(&self, tenant: &str, plugin: &str) -> Result<Vec<Past>, RevisionStoreError> {
        let all = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(all
            .get(&(tenant.to_owned(), plugin.to_owned()))
            .cloned()
            .unwrap_or_default())
    }
}

/// A server's rule: one setting, and each tenant's publishers.
#[derive(Clone, Debug)]
pub struct Trust {
    store: Arc<dyn TrustStore>,
    unsigned: Unsigned,
}

impl Default for Trust {
    /// Nobody is trusted, and nothing unsigned allowed.
    fn default() -> Self {
        Self::new(Arc::new(MemoryTrust::default()), Unsigned::Refuse)
    }
}

impl Trust {
    /// The rule.
    pub fn new(store: Arc<dyn TrustStore>, unsigned: Unsigned) -> Self {
        Self { store, unsigned }
    }

    /// Installs whatever nobody signed, and trusts nobody: for tests and development.
    pub fn unsigned() -> Self {
        Self::new(Arc::new(MemoryTrust::default()), Unsigned::Allow)
    }

    /// Holds a file against a tenant's list. On a thread that may block: a large file takes a moment to digest.
    ///
    /// # Errors
    ///
    /// See [`check`].
    pub async fn check(&self, tenant: &str, file: Arc<[u8]>) -> Result<Signed, PackageError> {
        let policy = TrustPolicy {
            unsigned: self.unsigned,
            publishers: self.store.publishers(tenant).await?,
        };
        tokio::task::spawn_blocking(move || check(&file, &policy))
            .await
            .map_err(|error| PackageError::Store(RevisionStoreError::Failed(Box::new(error))))?
    }

    /// Refuses to go back, as [`check_version`] has it. `digest` is the SHA-256 of the whole file.
    ///
    /// # Errors
    ///
    /// See [`check_version`].
    pub async fn check_version(
        &self,
        tenant: &str,
        manifest: &Manifest,
        signed: &Signed,
        digest: &str,
    ) -> Result<(), PackageError> {
        let past = self.store.past(tenant, &manifest.name).await?;
        check_version(&manifest.version, &[&signed.content, digest], &past)
    }
}
