//! A command remembers how many plugins caused one another until it was queued, so that the event of its answer says so too:
//! an observer that answers every answer with a new command comes to an end.

pub(super) const SQL: &str = "
ALTER TABLE commands ADD COLUMN depth BIGINT NOT NULL DEFAULT 0;
";
