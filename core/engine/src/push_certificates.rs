//! Push certificates of a tenant: asked for, stored, and looked after until they are renewed.
//!
//! The topic in a certificate's subject is what devices listen on. Apple keeps it only for renewals with the same account;
//! a certificate with another topic wakes none of the devices that are enrolled, so it is refused unless it is wanted.

use jiff::{SignedDuration, Timestamp};
use russet_apns::PushCertificate;
use russet_pki::csr::CertificateRequest;
use russet_pki::key::{KeyKind, PrivateKey};
use russet_pki::name::Name;
use russet_pki::{Certificate, fingerprint};
use russet_store::SecretKind;
use zeroize::Zeroizing;

use crate::{Engine, EngineError, TenantRef};

/// A push certificate, without its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushCertificateInfo {
    /// The topic that devices listen on.
    pub topic: String,
    /// Since when it is good.
    pub not_before: Timestamp,
    /// Until when it is good. Renew it with the same Apple account, or every device is lost.
    pub not_after: Timestamp,
}

/// A push certificate to store.
#[derive(Clone, Debug)]
pub struct NewPushCertificate {
    /// The certificate, in PEM.
    pub certificate_pem: String,
    /// Its private key, in PEM; absent if the key was made here, by [`Engine::request_push_certificate`].
    pub private_key_pem: Option<Zeroizing<String>>,
    /// Stores it although the tenant has certificates and none of this topic.
    pub other_topic: bool,
}

/// A push certificate that ends soon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushCertificateReminder {
    /// The tenant's name.
    pub tenant: String,
    /// The topic.
    pub topic: String,
    /// When the certificate ends.
    pub not_after: Timestamp,
    /// Whole days until then; negative when it has ended.
    pub days_left: i64,
}

/// How many days before its end somebody is reminded of a certificate, for the first time and again.
pub const REMINDERS: [i64; 5] = [60, 30, 14, 7, 1];

impl Engine {
    /// Makes a key that stays here, sealed, and a certification request (PKCS#10, in PEM) for it. A vendor signs the request
    /// for Apple, and the certificate that Apple makes of it is stored by [`Engine::put_push_certificate`] without a key.
    ///
    /// # Errors
    ///
    /// The key cannot be made, or a failure of the store.
    pub async fn request_push_certificate(&self, tenant: &TenantRef, now: Timestamp) -> Result<String, EngineError> {
        // Apple takes RSA with 2,048 bits for push certificates.
        let key = tokio::task::spawn_blocking(|| PrivateKey::generate(KeyKind::Rsa2048))
            .await
            .map_err(|_| EngineError::Random)?
            .map_err(|_| EngineError::Random)?;
        let subject = Name::common(format!("Russet push certificate of {}", tenant.name));
        let request = CertificateRequest::build(&subject, None, &key).map_err(|_| EngineError::Random)?;
        let name = pending_name(key.public_key_der());
        let pem = key.to_pem();
        self.inner
            .store
            .put_secret(tenant.id, SecretKind::Server, &name, pem.as_bytes(), now)
            .await?;
        Ok(request.to_pem())
    }

    /// Stores a tenant's push certificate. One with the same topic replaces the one before, as a renewal does.
    ///
    /// # Errors
    ///
    /// [`EngineError::PushCertificate`] and [`EngineError::Invalid`] say what is wrong with it; [`EngineError::OtherTopic`]
    /// if no device that is enrolled would listen to it.
    pub async fn put_push_certificate(
        &self,
        tenant: &TenantRef,
        new: &NewPushCertificate,
        now: Timestamp,
    ) -> Result<PushCertificateInfo, EngineError> {
        let read = |key: &Zeroizing<String>| PushCertificate::from_pem(new.certificate_pem.as_bytes(), key.as_bytes());
        // What is wrong with both together says more than what is wrong with the certificate alone.
        if let Some(key) = &new.private_key_pem {
            read(key)?;
        }
        let parsed = Certificate::from_pem(&new.certificate_pem)
            .map_err(|_| EngineError::invalid("the push certificate does not read; give it in PEM"))?;
        let pending = pending_name(parsed.public_key_der());
        let key = match &new.private_key_pem {
            Some(key) => key.clone(),
            None => self.pending_key(tenant, &pending).await?,
        };
        let certificate = read(&key)?;
        if certificate.not_after() <= now {
            return Err(EngineError::invalid(format!(
                "the push certificate expired at {}; renew it with the same Apple account",
                certificate.not_after()
            )));
        }
        if !new.other_topic {
            let topics: Vec<String> = self
                .inner
                .store
                .push_certificates(tenant.id)
                .await?
                .into_iter()
                .map(|certificate| certificate.topic)
                .collect();
            if !topics.is_empty() && !topics.iter().any(|topic| topic == certificate.topic()) {
                return Err(EngineError::OtherTopic {
                    new: certificate.topic().to_owned(),
                    known: topics,
                });
            }
        }
        let stored = russet_store::PushCertificate {
            topic: certificate.topic().to_owned(),
            certificate: new.certificate_pem.as_bytes().to_vec(),
            subject: parsed.subject().to_owned(),
            not_after: certificate.not_after(),
            updated_at: now,
        };
        self.inner
            .store
            .put_push_certificate(tenant.id, stored, key.as_bytes())
            .await?;
        self.inner
            .store
            .delete_secret(tenant.id, SecretKind::Server, &pending)
            .await?;
        Ok(PushCertificateInfo {
            topic: certificate.topic().to_owned(),
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
        })
    }

    async fn pending_key(&self, tenant: &TenantRef, name: &str) -> Result<Zeroizing<String>, EngineError> {
        let key = self.inner.store.secret(tenant.id, SecretKind::Server, name).await?;
        let key = key.and_then(|key| std::str::from_utf8(&key).ok().map(|pem| Zeroizing::new(pem.to_owned())));
        key.ok_or_else(|| {
            EngineError::invalid(
                "no private key was given, and none was made here for this certificate; give the key, or begin with a \
                 request (russet push-cert request)",
            )
        })
    }

    /// The push certificates of all tenants that have at most `within` to live, soonest first.
    ///
    /// # Errors
    ///
    /// A failure of the store.
    pub async fn ending_push_certificates(
        &self,
        within: SignedDuration,
        now: Timestamp,
    ) -> Result<Vec<PushCertificateReminder>, EngineError> {
        let mut ending = Vec::new();
        for tenant in self.inner.store.tenants().await? {
            for certificate in self.inner.store.push_certificates(tenant.id).await? {
                let left = certificate.not_after.duration_since(now);
                if left <= within {
                    ending.push(PushCertificateReminder {
                        tenant: tenant.name.clone(),
                        topic: certificate.topic,
                        not_after: certificate.not_after,
                        days_left: left.as_hours().div_euclid(24),
                    });
                }
            }
        }
        ending.sort_by_key(|reminder| reminder.not_after);
        Ok(ending)
    }

    /// Reminds of push certificates that end soon: a line of log and an event for each of [`REMINDERS`], once.
    ///
    /// # Errors
    ///
    /// A failure of the store.
    pub async fn remind_of_push_certificates(&self, now: Timestamp) -> Result<(), EngineError> {
        let first = SignedDuration::from_hours(24 * (REMINDERS[0] + 1));
        for ending in self.ending_push_certificates(first, now).await? {
            let Some(days) = reminder_for(ending.days_left) else {
                continue;
            };
            let tenant = self.tenant(&ending.tenant).await?;
            let store = &self.inner.store;
            if store
                .remind_of_push_certificate(tenant.id, &ending.topic, days, now)
                .await?
            {
                tracing::warn!(
                    tenant.name = ending.tenant,
                    push.topic = ending.topic,
                    not_after = %ending.not_after,
                    days = ending.days_left,
                    "a push certificate ends soon; renew it with the same Apple account, or no device can be woken"
                );
            }
        }
        Ok(())
    }

    /// The topic for new enrollments: that of the certificate which lives longest.
    pub(crate) async fn topic(
        &self,
        tenant: &TenantRef,
        now: Timestamp,
    ) -> Result<Option<String>, russet_store::StoreError> {
        let certificates = self.inner.store.push_certificates(tenant.id).await?;
        let good = certificates
            .into_iter()
            .filter(|certificate| certificate.not_after > now);
        Ok(good
            .max_by_key(|certificate| certificate.not_after)
            .map(|certificate| certificate.topic))
    }
}

/// The reminder that a certificate with so many days left is due for: the smallest of [`REMINDERS`] that is not below them.
pub fn reminder_for(days_left: i64) -> Option<i64> {
    REMINDERS.into_iter().rev().find(|reminder| days_left <= *reminder)
}

/// Where the key of a request waits: under the digest of its public key, so that requests do not replace one another.
fn pending_name(public_key_der: &[u8]) -> String {
    format!("push-key:{}", fingerprint::hex(&fingerprint::sha256(public_key_der)))
}

#[cfg(test)]
mod tests {
    use super::reminder_for;

    #[test]
    fn each_reminder_is_due_once_the_days_are_few_enough() {
        let due: Vec<_> = [61, 60, 31, 30, 14, 8, 7, 2, 1, 0, -3].map(reminder_for).into();
        let expected = [
            None,
            Some(60),
            Some(60),
            Some(30),
            Some(14),
            Some(14),
            Some(7),
            Some(7),
            Some(1),
            Some(1),
            Some(1),
        ];
        assert_eq!(due, expected);
    }
}
