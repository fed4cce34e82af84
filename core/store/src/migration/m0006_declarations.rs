//! Declarations (sets, who has them, plans, what devices report), and stored profiles that devices have for good.

pub(super) const SQL: &str = "
-- What a set holds: a JSON array of {identifier, type, payload}.
CREATE TABLE declaration_sets (
    id {row_id},
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    name TEXT NOT NULL,
    declarations TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (tenant_id, name)
);

CREATE TABLE declaration_assignments (
    enrollment_id BIGINT NOT NULL REFERENCES enrollments (id),
    set_name TEXT NOT NULL,
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    assigned_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (enrollment_id, set_name)
);
CREATE INDEX declaration_assignments_set ON declaration_assignments (tenant_id, set_name);

-- A declaration is kept once for all plans that have it: its token is the digest of its content.
CREATE TABLE declaration_contents (
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    server_token TEXT NOT NULL,
    declaration_type TEXT NOT NULL,
    payload TEXT NOT NULL,
    used_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, server_token)
);
CREATE INDEX declaration_contents_age ON declaration_contents (used_at);

CREATE TABLE declaration_plans (
    enrollment_id BIGINT PRIMARY KEY REFERENCES enrollments (id),
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    token TEXT NOT NULL,
    faults TEXT NOT NULL,
    changed_at BIGINT NOT NULL
);

-- What each source (a set, a planner) gives to a plan. An identifier is kept out where another source has it already.
CREATE TABLE declaration_plan_items (
    enrollment_id BIGINT NOT NULL REFERENCES enrollments (id),
    source TEXT NOT NULL,
    identifier TEXT NOT NULL,
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    kind TEXT NOT NULL,
    server_token TEXT NOT NULL,
    kept_out BOOLEAN NOT NULL,
    PRIMARY KEY (enrollment_id, source, identifier)
);
CREATE INDEX declaration_plan_items_identifier ON declaration_plan_items (enrollment_id, identifier);
CREATE INDEX declaration_plan_items_content ON declaration_plan_items (tenant_id, server_token);

-- One row per enrollment whose plan is to be made anew. seq counts the requests: a plan that was being made when another
-- request came does not answer for it.
CREATE TABLE declaration_plan_requests (
    enrollment_id BIGINT PRIMARY KEY REFERENCES enrollments (id),
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    seq BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    claim {uuid},
    lease_until BIGINT
);
CREATE INDEX declaration_plan_requests_due ON declaration_plan_requests (due_at) WHERE lease_until IS NULL;
CREATE INDEX declaration_plan_requests_lease ON declaration_plan_requests (lease_until) WHERE lease_until IS NOT NULL;

-- The generation of plugins that a tenant's plans are made with, and how far the walk over its enrollments is.
CREATE TABLE declaration_sweeps (
    tenant_id BIGINT PRIMARY KEY REFERENCES tenants (id),
    generation BIGINT NOT NULL,
    planners BOOLEAN NOT NULL,
    after_enrollment BIGINT
);

CREATE TABLE declaration_status (
    enrollment_id BIGINT NOT NULL REFERENCES enrollments (id),
    item TEXT NOT NULL,
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    value TEXT NOT NULL,
    reported_at BIGINT NOT NULL,
    PRIMARY KEY (enrollment_id, item)
);

-- Reports, or parts of them, that could not be read.
CREATE TABLE declaration_status_problems (
    enrollment_id BIGINT NOT NULL REFERENCES enrollments (id),
    problem TEXT NOT NULL,
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    excerpt {bytes},
    times BIGINT NOT NULL,
    reported_at BIGINT NOT NULL,
    PRIMARY KEY (enrollment_id, problem)
);

-- identifier: the PayloadIdentifier that was delivered last, by which the profile is removed again. A row whose profile was
-- taken away stays for that.
CREATE TABLE profile_assignments (
    enrollment_id BIGINT NOT NULL REFERENCES enrollments (id),
    profile_name TEXT NOT NULL,
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    identifier TEXT,
    assigned_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    removed_at BIGINT,
    PRIMARY KEY (enrollment_id, profile_name)
);
CREATE INDEX profile_assignments_profile ON profile_assignments (tenant_id, profile_name) WHERE removed_at IS NULL;

CREATE INDEX commands_profile ON commands (tenant_id, profile_name) WHERE profile_name IS NOT NULL;

-- The enrollment whose identity a challenge renews.
ALTER TABLE scep_challenges ADD COLUMN renews_enrollment_id BIGINT REFERENCES enrollments (id);

CREATE INDEX escrow_held ON escrow (tenant_id, enrollment_id) WHERE held_reason IS NOT NULL;
";
