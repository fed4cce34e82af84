//! Pushes that APNs refused are counted for monitoring: they are due later again and again, and never late.

pub(super) const SQL: &str = "
CREATE INDEX push_refused ON push_outbox (enrollment_id) WHERE attempts > 0;
";
