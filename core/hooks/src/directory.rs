//! `directory`: who a person is.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::canonical::canonical;
use crate::{Ask, Hook, HookInput, HookKind, HookService, Person, PluginFault, native};

/// A name and a password to check. The password is not shown by `Debug` and is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SignIn {
    /// The name, as typed.
    pub user_name: String,
    /// The password, as typed.
    pub password: Zeroizing<String>,
}

impl fmt::Debug for SignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignIn")
            .field("user_name", &self.user_name)
            .finish_non_exhaustive()
    }
}

/// What a directory is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DirectoryRequest {
    /// Check credentials. Never serialised: asking for it is an error.
    #[serde(skip)]
    SignIn(SignIn),
    /// Look up, by the name that the person signs in with.
    Find(String),
}

impl DirectoryRequest {
    /// The name that the request is about.
    pub fn user_name(&self) -> &str {
        match self {
            Self::SignIn(sign_in) => &sign_in.user_name,
            Self::Find(name) => name,
        }
    }
}

/// The answer of one directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DirectoryVerdict {
    /// The person, whose credentials (if any were given) are right.
    Person(Person),
    /// This directory does not know the name.
    Unknown,
    /// The name is known and the password is wrong.
    WrongCredentials,
}

impl DirectoryVerdict {
    /// The stable name, as recorded.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Person(_) => "person",
            Self::Unknown => "unknown",
            Self::WrongCredentials => "wrong-credentials",
        }
    }
}

/// The hook, as a type.
#[derive(Clone, Copy, Debug)]
pub struct DirectoryHook;

impl Hook for DirectoryHook {
    const KIND: HookKind = HookKind::Directory;
    type Request = DirectoryRequest;
    type Verdict = DirectoryVerdict;

    fn subject(request: &DirectoryRequest) -> &str {
        request.user_name()
    }

    fn input(request: &Arc<DirectoryRequest>) -> Option<HookInput> {
        match request.as_ref() {
            DirectoryRequest::SignIn(_) => None,
            DirectoryRequest::Find(_) => Some(HookInput::Directory(Arc::clone(request))),
        }
    }

    fn verdict_name(verdict: &DirectoryVerdict) -> &'static str {
        verdict.as_str()
    }

    fn verdict_json(verdict: &DirectoryVerdict) -> String {
        canonical(verdict)
    }
}

/// A directory in native Rust.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// Answers.
    ///
    /// # Errors
    ///
    /// A fault refuses a sign-in, and counts as an unknown person for a look-up.
    async fn ask(&self, ask: &Ask<DirectoryHook>) -> Result<DirectoryVerdict, PluginFault>;
}

impl DirectoryHook {
    /// Makes a service of a native directory.
    pub fn service(directory: impl Directory) -> HookService<Self> {
        native(directory, |directory, ask| {
            Box::pin(async move { directory.ask(&ask).await })
        })
    }
}
