//! Which reminder of a push certificate's end was given last, in days before it. Null before the first.

pub(super) const SQL: &str = "
ALTER TABLE push_certificates ADD COLUMN reminded_days BIGINT;
";
