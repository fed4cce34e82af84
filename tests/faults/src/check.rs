//! The invariants: what the tables hold, compared with what devices and administrators were told.
//!
//! Read by plain SQL, on either database: the checker must not believe the code that it checks. Each finding is a line of
//! text; none means that nothing was lost. While the load runs, only what is true at any time is looked at; once it has
//! ended and everything was fetched, also what has to be true at last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use russet_protocol::ReportStatus;
use russet_store::testing::Inspection;
use russet_tests::{ApiUser, eventually};

use crate::fleet::{Fleet, Member};
use crate::journal::{Accepted, DeviceJournal, lock};

/// Where a server keeps its data, and whom to ask about what only it can read.
#[derive(Debug)]
pub struct Checker {
    look: Inspection,
    admin: ApiUser,
    /// What is over may be gone.
    forgets: bool,
}

/// What was found, and how much was looked at.
#[derive(Debug, Default)]
pub struct Findings {
    /// What is wrong, a line each.
    pub wrong: Vec<String>,
    /// How many single things were compared.
    pub compared: u64,
}

impl Findings {
    fn expect(&mut self, right: bool, what: impl FnOnce() -> String) {
        self.compared += 1;
        if !right {
            self.wrong.push(what());
        }
    }

    /// Ends the test if anything is wrong.
    ///
    /// # Panics
    /// With all that is wrong.
    #[track_caller]
    pub fn assert_none(self, when: &str) -> u64 {
        let shown: Vec<_> = self.wrong.iter().take(20).collect();
        assert!(
            self.wrong.is_empty(),
            "{} findings {when}: {shown:#?}",
            self.wrong.len()
        );
        self.compared
    }
}

/// What the tables must never hold, by a query for the rows that do: an id, and what it is about.
const IMPOSSIBLE: &[(&str, &str)] = &[
    (
        "an entry is in a state that there is not",
        "SELECT CAST(id AS TEXT), state FROM queue_entries WHERE state NOT IN ('pending', 'held', 'sent', 'stuck', \
         'not_now', 'acknowledged', 'failed', 'expired', 'cancelled')",
    ),
    (
        "an entry is over and not over",
        "SELECT CAST(id AS TEXT), state FROM queue_entries WHERE (finished_at IS NULL) <> \
         (state IN ('pending', 'held', 'sent', 'stuck', 'not_now'))",
    ),
    (
        "an entry was answered without an answer",
        "SELECT CAST(id AS TEXT), state FROM queue_entries WHERE state IN ('acknowledged', 'failed') \
         AND (status IS NULL OR answered_at IS NULL OR attempts = 0 OR status NOT IN ('Acknowledged', 'Error', \
         'CommandFormatError') OR (state = 'acknowledged') <> (status = 'Acknowledged'))",
    ),
    (
        "an entry was sent and never delivered",
        "SELECT CAST(id AS TEXT), state FROM queue_entries WHERE state IN ('sent', 'stuck', 'not_now') \
         AND (attempts = 0 OR sent_at IS NULL)",
    ),
    (
        "an entry counts wrong",
        "SELECT CAST(id AS TEXT), state FROM queue_entries WHERE attempts < 0 OR unanswered < 0 OR put_off < 0 \
         OR unanswered > attempts",
    ),
    (
        "an entry belongs to nobody, or to another tenant than its command or its device",
        "SELECT CAST(q.id AS TEXT), q.state FROM queue_entries q LEFT JOIN commands c ON c.id = q.command_id \
         LEFT JOIN enrollments e ON e.id = q.enrollment_id WHERE c.id IS NULL OR e.id IS NULL \
         OR c.tenant_id <> q.tenant_id OR e.tenant_id <> q.tenant_id",
    ),
    (
        "a removed device still has something to fetch",
        "SELECT CAST(q.id AS TEXT), q.state FROM queue_entries q JOIN enrollments e ON e.id = q.enrollment_id \
         WHERE e.state = 'removed' AND q.finished_at IS NULL",
    ),
    (
        "a device is active without push token, certificate or topic",
        "SELECT CAST(id AS TEXT), state FROM enrollments WHERE state = 'active' AND parent_id IS NULL \
         AND (push_token IS NULL OR push_magic IS NULL OR push_topic IS NULL OR certificate_sha256 IS NULL)",
    ),
    (
        "a device is active with a certificate that was not issued to it",
        "SELECT CAST(e.id AS TEXT), e.state FROM enrollments e LEFT JOIN certificates c ON c.sha256 = e.certificate_sha256 \
         WHERE e.certificate_sha256 IS NOT NULL AND (c.id IS NULL OR c.enrollment_id IS NULL OR c.enrollment_id <> e.id)",
    ),
    (
        "a push is leased to nobody, or by nobody",
        "SELECT CAST(enrollment_id AS TEXT), 'push' FROM push_outbox WHERE (claim IS NULL) <> (lease_until IS NULL)",
    ),
    (
        "a push is for nobody",
        "SELECT CAST(p.enrollment_id AS TEXT), 'push' FROM push_outbox p LEFT JOIN enrollments e ON e.id = p.enrollment_id \
         WHERE e.id IS NULL OR e.tenant_id <> p.tenant_id",
    ),
    (
        "a secret in escrow belongs to nobody, or is empty",
        "SELECT CAST(s.enrollment_id AS TEXT), s.kind FROM escrow s LEFT JOIN enrollments e ON e.id = s.enrollment_id \
         WHERE e.id IS NULL OR e.tenant_id <> s.tenant_id OR length(s.sealed) = 0",
    ),
    (
        "a place in the chain of decisions is taken and has no hash, or the other way round",
        "SELECT CAST(id AS TEXT), hook FROM decisions WHERE (chain_seq IS NULL) <> (chain_hash IS NULL)",
    ),
    (
        "a place in the chain of decisions is empty",
        "SELECT CAST(c.tenant_id AS TEXT), CAST(c.seq AS TEXT) FROM decision_chains c WHERE c.seq - c.anchor_seq <> \
         (SELECT COUNT(*) FROM decisions d WHERE d.tenant_id = c.tenant_id AND d.chain_seq IS NOT NULL)",
    ),
    (
        "two challenges or certificates came of one",
        "SELECT {hex:certificate_sha256}, 'challenge' FROM scep_challenges WHERE certificate_sha256 IS NOT NULL \
         GROUP BY certificate_sha256 HAVING COUNT(*) > 1",
    ),
];

/// An entry of a queue, as the tables have it.
struct Entry {
    state: String,
    status: Option<String>,
    has_result: bool,
}

impl Checker {
    /// Looks at the database of a URL.
    ///
    /// # Panics
    /// When it cannot be reached.
    pub async fn open(url: &str, admin: ApiUser) -> Self {
        let look = Inspection::open(url).await.expect("the database can be looked at");
        Self {
            look,
            admin,
            forgets: false,
        }
    }

    /// The server throws away what is over, while the fleet works.
    pub fn forgets(&mut self) {
        self.forgets = true;
    }

    /// The tables.
    pub fn tables(&self) -> &Inspection {
        &self.look
    }

    /// The rows of a query.
    ///
    /// # Panics
    /// With what the database said.
    pub async fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        match self.look.rows(sql).await {
            Ok(rows) => rows,
            Err(said) => panic!("the tables cannot be read: {said} at {sql}"),
        }
    }

    /// What has to be true at any time, under load too.
    pub async fn any_time(&self, fleet: &Fleet) -> Findings {
        let mut findings = Findings::default();
        // What was told before the tables are read is in them; what is told meanwhile may be.
        let told: Vec<_> = fleet
            .members()
            .into_iter()
            .map(|member| {
                let journal = lock(&member.journal).clone();
                (member.finished(), journal, member)
            })
            .collect();
        let mut accepted = fleet.books.accepted();
        self.possible(&mut findings).await;
        let entries = self.entries().await;
        // What somebody began to take back meanwhile may be taken back in what was read.
        for command in &mut accepted {
            command.taken_back = fleet.books.is_taken_back(&command.uuid);
        }
        for (finished, journal, member) in &told {
            answers(&mut findings, member, finished, &entries, self.forgets);
            queued(&mut findings, member, journal, &accepted, &entries, self.forgets);
        }
        self.registers(&mut findings, &told).await;
        findings.wrong.extend(fleet.books.complaints());
        findings
    }

    /// What has to be true once everything was fetched, and the devices ask for nothing more.
    pub async fn at_last(&self, fleet: &Fleet) -> Findings {
        let mut findings = self.any_time(fleet).await;
        let open = self
            .rows(
                "SELECT CAST(q.id AS TEXT), q.state, c.request_type, e.serial_number, CAST(q.not_before AS TEXT), \
                 q.defer_reason FROM queue_entries q JOIN commands c ON c.id = q.command_id \
                 JOIN enrollments e ON e.id = q.enrollment_id WHERE q.finished_at IS NULL",
            )
            .await;
        // Where things are forgotten, there are devices that do not come any more.
        findings.expect(open.is_empty() || self.forgets, || {
            format!("entries are still open: {open:?}")
        });
        for (uuid, serial) in fleet.missing() {
            let entry = self.entry(&uuid, &serial).await;
            findings.expect(false, || {
                format!("{uuid} was accepted for {serial} and never arrived: {entry}")
            });
        }
        for member in fleet.members() {
            // What it says goes to the complaints.
            let asked = fleet.ask_for_escrow(&member).await;
            findings.expect(asked, || format!("{} cannot ask for its escrow", member.serial()));
        }
        findings.wrong.extend(fleet.books.complaints());
        self.outbox(&mut findings).await;
        self.chain(&mut findings).await;
        findings
    }

    /// How many rows each table has.
    pub async fn sizes(&self) -> BTreeMap<String, u64> {
        let names = match self.look.backend_name() {
            "sqlite" => "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
            _ => "SELECT CAST(table_name AS TEXT) FROM information_schema.tables WHERE table_schema = current_schema()",
        };
        let names = self.rows(names).await.into_iter().filter_map(|mut row| row.remove(0));
        let count = |name: String| format!("SELECT '{name}', CAST(COUNT(*) AS TEXT) FROM \"{name}\"");
        let counts: Vec<_> = names.map(count).collect();
        let counts = self.rows(&counts.join(" UNION ALL ")).await;
        let pair = |row: Vec<Option<String>>| match &row[..] {
            [Some(name), Some(rows)] => Some((name.clone(), rows.parse().ok()?)),
            _ => None,
        };
        counts.into_iter().filter_map(pair).collect()
    }

    async fn possible(&self, findings: &mut Findings) {
        for (what, sql) in IMPOSSIBLE {
            let rows = self.rows(sql).await;
            findings.expect(rows.is_empty(), || format!("{what}: {rows:?}"));
        }
        if self.look.backend_name() == "sqlite" {
            for check in ["PRAGMA quick_check", "PRAGMA foreign_key_check"] {
                let rows = self.rows(check).await;
                let well = rows.is_empty() || rows == [[Some("ok".to_owned())]];
                findings.expect(well, || format!("the file is damaged: {rows:?}"));
            }
        }
    }

    /// All entries, by serial number and UUID in plain digits.
    async fn entries(&self) -> BTreeMap<(String, String), Entry> {
        let sql = "SELECT e.serial_number, {uuid:c.uuid}, q.state, q.status, \
             CASE WHEN q.result IS NULL THEN NULL ELSE '1' END FROM queue_entries q \
             JOIN commands c ON c.id = q.command_id JOIN enrollments e ON e.id = q.enrollment_id \
             WHERE e.serial_number IS NOT NULL";
        let mut entries = BTreeMap::new();
        for row in self.rows(sql).await {
            let [serial, uuid, state, status, result] = &row[..] else {
                panic!("five columns: {row:?}");
            };
            let text = |value: &Option<String>| value.clone().unwrap_or_default();
            entries.insert(
                (text(serial), text(uuid)),
                Entry {
                    state: text(state),
                    status: status.clone(),
                    has_result: result.is_some(),
                },
            );
        }
        entries
    }

    /// What the tables have about a command that is missing, for whoever looks for the reason.
    async fn entry(&self, uuid: &str, serial: &str) -> String {
        let sql = "SELECT {uuid:c.uuid}, q.state, CAST(q.attempts AS TEXT), CAST(q.unanswered AS TEXT), \
             CAST(q.put_off AS TEXT), CAST(q.sent_at AS TEXT), CAST(q.retry_at AS TEXT), CAST(q.answered_at AS TEXT), \
             CAST(p.due_at AS TEXT), CAST(p.attempts AS TEXT), CAST(p.lease_until AS TEXT) FROM queue_entries q \
             JOIN commands c ON c.id = q.command_id JOIN enrollments e ON e.id = q.enrollment_id \
             LEFT JOIN push_outbox p ON p.enrollment_id = e.id WHERE e.serial_number = ";
        let rows = self.rows(&format!("{sql}'{serial}'")).await;
        let names = "state, attempts, unanswered, put off, sent, retry, answered; its push: due, attempts, lease";
        let row = rows.into_iter().find(|row| row[0].as_deref() == Some(&plain(uuid)));
        row.map_or_else(
            || "it is in no queue".to_owned(),
            |row| format!("{names}: {:?}", &row[1..]),
        )
    }

    /// Push tokens and escrowed secrets of those devices whose journals stayed the same while the tables were read.
    async fn registers(&self, findings: &mut Findings, told: &[Told]) {
        let sql = "SELECT e.serial_number, e.state, {hex:e.push_token}, e.push_magic, \
             (SELECT '1' FROM escrow s WHERE s.enrollment_id = e.id AND s.kind = 'bootstrap-token') \
             FROM enrollments e WHERE e.parent_id IS NULL AND e.serial_number IS NOT NULL";
        let mut rows: BTreeMap<String, Vec<Vec<Option<String>>>> = BTreeMap::new();
        for row in self.rows(sql).await {
            rows.entry(row[0].clone().unwrap_or_default()).or_default().push(row);
        }
        for (_, journal, member) in told {
            if !journal.enrolled {
                continue;
            }
            let serial = member.serial();
            let own = rows.get(serial).map(Vec::as_slice).unwrap_or_default();
            let [row] = own else {
                findings.expect(false, || format!("{serial} is enrolled and has {} rows", own.len()));
                continue;
            };
            findings.expect(row[1].as_deref() == Some("active"), || {
                format!("{serial} is enrolled, and the server has it as {:?}", row[1])
            });
            let now = lock(&member.journal).clone();
            if now.push.changes() == journal.push.changes() {
                let stored = row[2].as_deref().map(bytes).zip(row[3].clone());
                findings.expect(journal.push.may_be(stored.as_ref()), || {
                    format!("{serial} has another push token or magic than it said last")
                });
            }
            if journal.escrow.acknowledged().is_some() {
                findings.expect(row[4].is_some(), || format!("the bootstrap token of {serial} is gone"));
            }
        }
    }

    /// Every push that is due goes out: what waits for a later time may wait.
    async fn outbox(&self, findings: &mut Findings) {
        let sql = "SELECT CAST(enrollment_id AS TEXT), CAST(due_at AS TEXT), CAST(attempts AS TEXT) FROM push_outbox p \
             WHERE lease_until IS NOT NULL OR NOT again";
        let drained = async {
            eventually("the outbox is empty", || async {
                self.rows(sql).await.is_empty().then_some(())
            })
            .await;
        };
        let waited = tokio::time::timeout(russet_tests::PATIENCE / 2, drained).await;
        let left = if waited.is_ok() {
            Vec::new()
        } else {
            self.rows(sql).await
        };
        findings.expect(left.is_empty(), || format!("pushes are left in the outbox: {left:?}"));
    }

    /// The chain of decision records is whole, and nothing waits to join it for long.
    async fn chain(&self, findings: &mut Findings) {
        let report = eventually("all decisions are in their chain", || async {
            let report = self.admin.get("/decisions/verify").await.ok();
            (report["waiting"] == 0).then_some(report)
        })
        .await;
        findings.expect(report["intact"] == true, || format!("the chain is broken: {report}"));
        let verified = report["verified"].as_u64().unwrap_or_default();
        findings.expect(verified > 0, || "there are no decisions".to_owned());
    }
}

/// What a device had finished, its journal, and the device, when the tables began to be read.
type Told = (Vec<(String, ReportStatus)>, DeviceJournal, Arc<Member>);

/// Every answer that a device was told was taken is there, once.
fn answers(
    findings: &mut Findings,
    member: &Member,
    finished: &[(String, ReportStatus)],
    entries: &BTreeMap<(String, String), Entry>,
    forgets: bool,
) {
    let serial = member.serial();
    let mut seen = BTreeSet::new();
    for (uuid, status) in finished {
        findings.expect(seen.insert(uuid), || {
            format!("{uuid} was delivered to {serial} again after its answer was taken")
        });
        let Some(entry) = entries.get(&(serial.to_owned(), plain(uuid))) else {
            findings.expect(forgets, || format!("{uuid} was answered by {serial} and is gone"));
            continue;
        };
        let state = match status {
            ReportStatus::Acknowledged => "acknowledged",
            _ => "failed",
        };
        let has_result = entry.has_result || forgets;
        let right = entry.state == state && has_result && entry.status.as_deref() == Some(&format!("{status:?}"));
        findings.expect(right, || {
            let (state, status_, result) = (&entry.state, &entry.status, entry.has_result);
            format!("{serial} answered {uuid} with {status:?}; stored: {state}, {status_:?}, with its result: {result}")
        });
    }
}

/// Every command that was accepted is in the queue of each of its devices, and was answered or may still be.
fn queued(
    findings: &mut Findings,
    member: &Member,
    journal: &DeviceJournal,
    accepted: &[Accepted],
    entries: &BTreeMap<(String, String), Entry>,
    forgets: bool,
) {
    let serial = member.serial();
    if !journal.enrolled {
        return;
    }
    for command in accepted {
        if !command.devices.iter().any(|device| device == serial) {
            continue;
        }
        let uuid = &command.uuid;
        match entries.get(&(serial.to_owned(), plain(uuid))) {
            None => findings.expect(forgets, || format!("{uuid} was accepted for {serial} and is gone")),
            Some(entry) => findings.expect(
                command.taken_back || !matches!(entry.state.as_str(), "cancelled" | "expired" | "held"),
                || format!("{uuid} was accepted for {serial}, and is {}", entry.state),
            ),
        }
    }
}

fn plain(uuid: &str) -> String {
    uuid.chars()
        .filter(char::is_ascii_hexdigit)
        .map(|digit| digit.to_ascii_lowercase())
        .collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16).unwrap_or_default();
    hex.as_bytes()
        .chunks(2)
        .map(|pair| {
            pair.iter().fold(0_u8, |byte, digit_| {
                (byte << 4) | u8::try_from(digit(*digit_)).unwrap_or_default()
            })
        })
        .collect()
}
