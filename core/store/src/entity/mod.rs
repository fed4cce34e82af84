//! Entities of the tables that administration reads. The hot path (poll, report, token update) uses statements of its
//! own, and so do writes whose meaning is in their SQL.

#![allow(unreachable_pub, reason = "the derive makes everything of an entity public")]

macro_rules! entity {
    ($module:ident, $table:literal, { $($(#[$attribute:meta])* $field:ident: $type:ty),+ $(,)? }) => {
        pub(crate) mod $module {
            use sea_orm::entity::prelude::*;

            #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
            #[sea_orm(table_name = $table)]
            pub struct Model {
                $($(#[$attribute])* pub $field: $type,)+
            }

            #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
            pub enum Relation {}

            impl ActiveModelBehavior for ActiveModel {}
        }
    };
}

entity!(tenant, "tenants", {
    #[sea_orm(primary_key)]
    id: i64,
    name: String,
    plugin_generation: i64,
    created_at: i64,
});

entity!(api_token, "api_tokens", {
    #[sea_orm(primary_key)]
    id: i64,
    tenant_id: Option<i64>,
    name: String,
    token_sha256: Vec<u8>,
    role: String,
    created_at: i64,
    revoked_at: Option<i64>,
});

entity!(certificate, "certificates", {
    #[sea_orm(primary_key)]
    id: i64,
    tenant_id: i64,
    sha256: Vec<u8>,
    serial_number: String,
    subject: String,
    der: Vec<u8>,
    not_before: i64,
    not_after: i64,
    person: Option<String>,
    attributes: String,
    bound_serial: Option<String>,
    bound_udid: Option<String>,
    renews_sha256: Option<Vec<u8>>,
    enrollment_id: Option<i64>,
    revoked_at: Option<i64>,
    revoke_reason: Option<String>,
    created_at: i64,
});

entity!(push_certificate, "push_certificates", {
    #[sea_orm(primary_key)]
    id: i64,
    tenant_id: i64,
    topic: String,
    certificate: Vec<u8>,
    sealed_key: Vec<u8>,
    subject: String,
    not_after: i64,
    updated_at: i64,
});

entity!(profile, "profiles", {
    #[sea_orm(primary_key)]
    id: i64,
    tenant_id: i64,
    name: String,
    content: Vec<u8>,
    template: Option<String>,
    settings: String,
    updated_at: i64,
});
