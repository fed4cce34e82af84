//! What is sealed, and to what: the closed list of sorts of secrets.
//!
//! Each sort says in which column its values are, so that sealing all of them anew (see `reseal`) forgets none: with a sort
//! that has no place, the tests do not compile.

#[cfg(test)]
use super::columns::{self, Column};
use crate::escrow::EscrowKind;
use crate::ids::TenantId;
use crate::secrets::SecretKind;

/// A sort of sealed values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What the server keeps by name.
    Secret(SecretKind),
    /// A deposit of a device.
    Escrow(EscrowKind),
    /// The payload of a command.
    Command,
    /// What a device answered to a command.
    Result,
    /// What a hook was asked and answered.
    RecordedCall,
    /// The private key of a push certificate.
    PushKey,
    /// A secret that an administrator gave to a plugin.
    PluginSecret,
    /// A signing key of a plugin.
    PluginKey,
    /// Bytes that were sealed for a plugin, which keeps them where it wants.
    HandedOut,
}

impl Kind {
    /// Names the sort in what a value is bound to, and in errors.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Secret(kind) => kind.as_str(),
            Self::Escrow(kind) => kind.as_str(),
            Self::Command => "command",
            Self::Result => "result",
            Self::RecordedCall => "recorded call",
            Self::PushKey => "push-key",
            Self::PluginSecret => "plugin-secret",
            Self::PluginKey => "plugin-key",
            Self::HandedOut => "plugin-sealed",
        }
    }

    /// Where values of this sort are kept; `None` for what is not in the tables by itself.
    #[cfg(test)]
    pub(crate) const fn column(self) -> Option<&'static Column> {
        match self {
            Self::Secret(_) => Some(&columns::SECRETS),
            Self::Escrow(_) => Some(&columns::ESCROW),
            Self::Command => Some(&columns::COMMANDS),
            Self::Result => Some(&columns::RESULTS),
            Self::RecordedCall => Some(&columns::RECORDED_CALLS),
            Self::PushKey => Some(&columns::PUSH_KEYS),
            Self::PluginSecret => Some(&columns::PLUGIN_SECRETS),
            Self::PluginKey => Some(&columns::PLUGIN_KEYS),
            Self::HandedOut => None,
        }
    }
}

/// What a sealed value is bound to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binding<'a> {
    pub(crate) tenant: TenantId,
    pub(crate) kind: Kind,
    /// Names the row within its kind.
    pub(crate) row: &'a str,
}

impl Binding<'_> {
    /// Length-prefixed, so that no two bindings have the same bytes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let kind = self.kind.as_str();
        let mut bytes = Vec::with_capacity(32 + kind.len() + self.row.len());
        bytes.extend_from_slice(&self.tenant.0.to_be_bytes());
        for part in [kind, self.row] {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }
}
