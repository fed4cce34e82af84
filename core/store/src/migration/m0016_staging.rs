//! A revision that waits for grants remembers what is to become of it once it has them.

pub(super) const SQL: &str = "
-- JSON of the caller; null where the revision is to be put into use.
ALTER TABLE plugin_revisions ADD COLUMN staging TEXT;
";
