//! How revisions of plugins are rolled out: their history, comparisons of a candidate with what runs, and the nodes of a
//! cluster.

pub(super) const SQL: &str = "
-- The quarantined revision that a plugin's hooks fail by, when there was none to go back to.
ALTER TABLE plugins ADD COLUMN halted_id BIGINT;

-- The digest of component, settings and grants, known once the revision was probed.
ALTER TABLE plugin_revisions ADD COLUMN revision TEXT;

-- No reference to the revision: what happened to it outlives it.
CREATE TABLE plugin_revision_events (
    id {row_id},
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    plugin_id BIGINT NOT NULL REFERENCES plugins (id),
    revision_id BIGINT NOT NULL,
    version TEXT NOT NULL,
    digest {bytes} NOT NULL,
    from_state TEXT,
    to_state TEXT NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT,
    created_at BIGINT NOT NULL
);
CREATE INDEX plugin_revision_events_plugin ON plugin_revision_events (plugin_id, id);

-- base_id is the revision that is active meanwhile, other_id the one that it is compared with: a candidate, or, after a
-- promotion, what ran before.
CREATE TABLE plugin_rollouts (
    id {row_id},
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    plugin_id BIGINT NOT NULL REFERENCES plugins (id),
    phase TEXT NOT NULL,
    base_id BIGINT NOT NULL,
    other_id BIGINT NOT NULL,
    permille BIGINT NOT NULL,
    gates TEXT NOT NULL,
    automatic BOOLEAN NOT NULL,
    started_by TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    watch_until BIGINT,
    ended_at BIGINT,
    outcome TEXT
);
CREATE UNIQUE INDEX plugin_rollouts_open ON plugin_rollouts (plugin_id) WHERE ended_at IS NULL;
CREATE INDEX plugin_rollouts_plugin ON plugin_rollouts (plugin_id, id);

-- Each node writes its own totals, so that writing them twice changes nothing.
CREATE TABLE plugin_comparisons (
    rollout_id BIGINT NOT NULL REFERENCES plugin_rollouts (id),
    node TEXT NOT NULL,
    counter TEXT NOT NULL,
    total BIGINT NOT NULL,
    PRIMARY KEY (rollout_id, node, counter)
);

CREATE TABLE plugin_comparison_samples (
    id {row_id},
    rollout_id BIGINT NOT NULL REFERENCES plugin_rollouts (id),
    hook TEXT NOT NULL,
    subject TEXT NOT NULL,
    base_verdict TEXT NOT NULL,
    other_verdict TEXT NOT NULL,
    reason TEXT,
    created_at BIGINT NOT NULL
);
CREATE INDEX plugin_comparison_samples_rollout ON plugin_comparison_samples (rollout_id, id);

-- generations: a JSON object, from the name of a tenant to the generation that the node runs.
CREATE TABLE nodes (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    generations TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL
);
";
