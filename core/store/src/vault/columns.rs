//! The columns that hold sealed values, and how the row of a value says what it is bound to.

use super::kind::Kind;
use crate::db::Row;
use crate::error::StoreError;
use crate::escrow::EscrowKind;
use crate::ids::{EnrollmentId, TenantId};
use crate::secrets::SecretKind;

/// The type of a part of a primary key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Int(&'static str),
    Text(&'static str),
}

impl Part {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Int(name) | Self::Text(name) => name,
        }
    }
}

/// What a value is bound to, as read from its row.
pub(crate) struct Bound {
    pub(crate) tenant: TenantId,
    pub(crate) kind: Kind,
    pub(crate) row: String,
}

/// A column of sealed values.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) table: &'static str,
    pub(crate) column: &'static str,
    pub(crate) key: &'static [Part],
    /// What is joined to the table, which is called `t`.
    pub(crate) join: &'static str,
    /// The columns that [`bound`](Self::bound) reads, from the position that it is given.
    pub(crate) facts: &'static str,
    /// `None` when the row does not say (what it refers to is gone, or a word is unknown).
    pub(crate) bound: fn(&Row, usize) -> Result<Option<Bound>, StoreError>,
}

/// Every column that holds sealed values.
pub(crate) const ALL: &[&Column] = &[
    &SECRETS,
    &ESCROW,
    &PUSH_KEYS,
    &PLUGIN_SECRETS,
    &PLUGIN_KEYS,
    &COMMANDS,
    &RESULTS,
    &RECORDED_CALLS,
];

pub(crate) static SECRETS: Column = Column {
    table: "secrets",
    column: "sealed",
    key: &[Part::Int("tenant_id"), Part::Text("kind"), Part::Text("name")],
    join: "",
    facts: "t.tenant_id, t.kind, t.name",
    bound: |row, at| {
        let kind = SecretKind::from_word(&row.get::<String>(at + 1)?);
        bound(row, at, kind.map(Kind::Secret), row.get(at + 2)?)
    },
};

pub(crate) static ESCROW: Column = Column {
    table: "escrow",
    column: "sealed",
    key: &[Part::Int("enrollment_id"), Part::Text("kind")],
    join: "",
    facts: "t.tenant_id, t.kind, t.enrollment_id",
    bound: |row, at| {
        let kind = EscrowKind::from_word(&row.get::<String>(at + 1)?);
        let enrollment = EnrollmentId(row.get(at + 2)?);
        bound(row, at, kind.map(Kind::Escrow), enrollment.to_string())
    },
};

pub(crate) static PUSH_KEYS: Column = Column {
    table: "push_certificates",
    column: "sealed_key",
    key: &[Part::Int("id")],
    join: "",
    facts: "t.tenant_id, t.topic",
    bound: |row, at| bound(row, at, Some(Kind::PushKey), row.get(at + 1)?),
};

pub(crate) static PLUGIN_SECRETS: Column = Column {
    table: "plugin_secrets",
    column: "sealed",
    key: &[Part::Int("tenant_id"), Part::Text("plugin"), Part::Text("name")],
    join: "",
    facts: "t.tenant_id, t.plugin, t.name",
    bound: |row, at| bound(row, at, Some(Kind::PluginSecret), of_plugin(row, at)?),
};

pub(crate) static PLUGIN_KEYS: Column = Column {
    table: "plugin_keys",
    column: "sealed",
    key: &[Part::Int("tenant_id"), Part::Text("plugin"), Part::Text("name")],
    join: "",
    facts: "t.tenant_id, t.plugin, t.name",
    bound: |row, at| bound(row, at, Some(Kind::PluginKey), of_plugin(row, at)?),
};

pub(crate) static COMMANDS: Column = Column {
    table: "commands",
    column: "payload",
    key: &[Part::Int("id")],
    join: "",
    facts: "t.tenant_id, t.uuid",
    bound: |row, at| {
        let uuid: uuid::Uuid = row.get(at + 1)?;
        bound(row, at, Some(Kind::Command), uuid.to_string())
    },
};

pub(crate) static RESULTS: Column = Column {
    table: "queue_entries",
    column: "result",
    key: &[Part::Int("id")],
    join: "LEFT JOIN commands c ON c.id = t.command_id",
    facts: "t.enrollment_id, c.uuid",
    bound: |row, at| {
        let enrollment = EnrollmentId(row.get(at)?);
        let uuid: Option<uuid::Uuid> = row.get(at + 1)?;
        Ok(uuid.map(|uuid| Bound {
            tenant: crate::commands::OF_THE_ENROLLMENT,
            kind: Kind::Result,
            row: crate::commands::result_row(enrollment, uuid),
        }))
    },
};

pub(crate) static RECORDED_CALLS: Column = Column {
    table: "decisions",
    column: "sealed",
    key: &[Part::Int("id")],
    join: "",
    facts: "t.tenant_id, t.sealed_as",
    bound: |row, at| {
        let name: Option<uuid::Uuid> = row.get(at + 1)?;
        let kind = name.is_some().then_some(Kind::RecordedCall);
        bound(row, at, kind, name.unwrap_or_default().to_string())
    },
};

fn bound(row: &Row, at: usize, kind: Option<Kind>, name: String) -> Result<Option<Bound>, StoreError> {
    let tenant = TenantId(row.get(at)?);
    Ok(kind.map(|kind| Bound {
        tenant,
        kind,
        row: name,
    }))
}

fn of_plugin(row: &Row, at: usize) -> Result<String, StoreError> {
    Ok(crate::plugin_secrets::row(
        &row.get::<String>(at + 1)?,
        &row.get::<String>(at + 2)?,
    ))
}
