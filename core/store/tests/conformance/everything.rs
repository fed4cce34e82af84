//! A server with something in every column that is sealed, and around it what makes a server: for what goes through all of
//! a database.

use jiff::Timestamp;
use russet_store::{
    DecisionFilter, EnrollmentId, EscrowKind, NewDecision, Poll, PushCertificate, RecordedCall, ReportStatus,
    SecretKind, Store, TenantId, TokenTarget, UserFacts,
};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::bench::{Bench, at};
use crate::queue::report;

pub(crate) const PLUGIN: &str = "gate";

/// What is to be found again.
pub(crate) struct Everything {
    tenant: TenantId,
    pub(crate) device: EnrollmentId,
    answered: Uuid,
    waiting: Uuid,
    handed_out: Vec<u8>,
}

fn call() -> RecordedCall {
    RecordedCall {
        input: "{}".to_owned(),
        journal: "[]".to_owned(),
        verdict: "\"allow\"".to_owned(),
    }
}

pub(crate) async fn everything(bench: &Bench) -> Everything {
    let (store, tenant) = (&bench.store, bench.tenant);
    let device = bench.enrolled("device").await;
    let user = TokenTarget::User {
        parent: device,
        key: "device:ada".to_owned(),
        channel: russet_protocol::Channel::User,
        user: UserFacts::default(),
    };
    store.token_update(bench.token(user), at(2)).await.unwrap();
    let kinds = [EscrowKind::BootstrapToken, EscrowKind::FileVaultKey];
    for kind in kinds {
        let secret = Zeroizing::new(kind.as_str().as_bytes().to_vec());
        let none = russet_store::Decided::default();
        store.escrow_put(device, kind, secret, None, none, at(3)).await.unwrap();
    }
    for kind in [SecretKind::CaKey, SecretKind::Server] {
        store.put_secret(tenant, kind, "one", b"secret", at(3)).await.unwrap();
    }
    let certificate = PushCertificate {
        topic: "com.apple.mgmt.test".to_owned(),
        certificate: b"pem".to_vec(),
        subject: "CN=push".to_owned(),
        not_after: at(1_000_000),
        updated_at: at(3),
    };
    store
        .put_push_certificate(tenant, certificate, b"push key")
        .await
        .unwrap();
    store
        .put_plugin_secret(tenant, PLUGIN, "api", b"plugin secret", at(3))
        .await
        .unwrap();
    store
        .plugin_key(tenant, PLUGIN, "signing", b"plugin key", at(3))
        .await
        .unwrap();
    let answered = bench.queued(device, "DeviceInformation").await;
    store.next(device, at(4), Poll::Idle).await.unwrap().unwrap();
    store
        .report(device, report(answered, ReportStatus::Acknowledged), at(5))
        .await
        .unwrap();
    let waiting = bench.queued(device, "SecurityInfo").await;
    let decision = NewDecision {
        call: store.sealed_call(tenant, &call()).unwrap(),
        ..bench.decision("allow")
    };
    store.record_decisions(tenant, vec![decision], at(6)).await.unwrap();
    bench.chained().await;
    let group = vec![device];
    store.put_group(tenant, "all", group, false, at(6)).await.unwrap();
    Everything {
        tenant,
        device,
        answered,
        waiting,
        handed_out: store.seal_for_plugin(tenant, PLUGIN, b"kept outside").unwrap(),
    }
}

impl Everything {
    /// Everything that is sealed opens, and is what it was.
    pub(crate) async fn opens(&self, store: &Store) {
        self.tables_open(store).await;
        let kept = store.open_for_plugin(self.tenant, PLUGIN, &self.handed_out).unwrap();
        assert_eq!(kept.as_slice(), b"kept outside");
    }

    /// As [`opens`](Self::opens), without what the plugin keeps itself.
    pub(crate) async fn tables_open(&self, store: &Store) {
        let tenant = self.tenant;
        for kind in [EscrowKind::BootstrapToken, EscrowKind::FileVaultKey] {
            let (secret, _) = store.escrow_get(self.device, kind).await.unwrap().unwrap();
            assert_eq!(secret.as_slice(), kind.as_str().as_bytes());
        }
        for kind in [SecretKind::CaKey, SecretKind::Server] {
            let secret = store.secret(tenant, kind, "one").await.unwrap().unwrap();
            assert_eq!(secret.as_slice(), b"secret");
        }
        let push = store
            .push_identity(tenant, "com.apple.mgmt.test")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(push.private_key.as_slice(), b"push key");
        let secret = store.plugin_secret(tenant, PLUGIN, "api").await.unwrap().unwrap();
        assert_eq!(secret.as_slice(), b"plugin secret");
        let key = store.plugin_key(tenant, PLUGIN, "signing", b"another", at(9)).await;
        assert_eq!(key.unwrap().unwrap().as_slice(), b"plugin key");
        for uuid in [self.answered, self.waiting] {
            let payload = store.command_payload(tenant, uuid).await.unwrap().unwrap();
            assert_eq!(payload, b"<plist/>");
        }
        let entry = store.command_entry(self.device, self.answered).await.unwrap().unwrap();
        assert_eq!(entry.result.as_deref(), Some(b"<plist/>".as_slice()));
        let page = store
            .decisions_where(tenant, &DecisionFilter::default(), None, 10)
            .await
            .unwrap();
        let decision = page.items.first().unwrap().id;
        assert_eq!(store.recorded_call(tenant, decision).await.unwrap().unwrap(), call());
        assert_eq!(store.verify_decisions(tenant, None).await.unwrap().broken, None);
    }

    /// The device goes on where it was: it gets the command that waits for it.
    pub(crate) async fn goes_on(&self, store: &Store, now: Timestamp) {
        let next = store.next(self.device, now, Poll::Idle).await.unwrap().unwrap();
        assert_eq!(
            (next.uuid, next.payload.as_slice()),
            (self.waiting, b"<plist/>".as_slice())
        );
    }
}
