//! The authorities of other servers, which issued the certificates of imported devices: kept for each tenant, and looked at
//! only where the server's own authority did not issue a certificate.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use jiff::Timestamp;
use russet_pki::{Certificate, ChainError, ChainPolicy, TrustAnchors};
use russet_store::{IdentityAuthority, NewIdentityAuthority, Sha256, StoreError, TenantId};

use crate::{Administrator, Engine, EngineError, IdentityError, TenantRef};

/// The most authorities of a tenant.
const MOST: u32 = 32;

/// The most verified certificates that are remembered.
const REMEMBERED: usize = 100_000;

/// What is known of a certificate that the server's own authority did not issue.
#[derive(Clone, Debug)]
pub(crate) struct ForeignIdentity {
    tenants: Arc<[TenantId]>,
    /// When it was verified.
    pub(crate) verified_at: Timestamp,
}

impl ForeignIdentity {
    /// Whether this tenant trusts the authority that issued it.
    pub(crate) fn is_for(&self, tenant: TenantId) -> bool {
        self.tenants.contains(&tenant)
    }
}

/// The authorities that tenants trust, as last read from the store.
#[derive(Debug, Default)]
pub(crate) struct OtherAuthorities(RwLock<Arc<Known>>);

#[derive(Debug, Default)]
struct Known {
    digests: Vec<(TenantId, Sha256)>,
    by_tenant: Vec<(TenantId, TrustAnchors)>,
    /// Goes with the authorities: what one of them vouched for is forgotten when it is removed.
    verified: Mutex<HashMap<Sha256, Verified>>,
}

/// The start and the end of a certificate's validity, and the tenants that trust its authority.
type Verified = (Timestamp, Timestamp, Arc<[TenantId]>);

impl OtherAuthorities {
    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a tenant trusts any.
    pub(crate) fn are_known_for(&self, tenant: TenantId) -> bool {
        self.known().by_tenant.iter().any(|(of, _)| *of == tenant)
    }

    /// Who vouches for a certificate that the server's own authority did not issue.
    pub(crate) fn verify(&self, certificate: &Certificate, now: Timestamp) -> Result<ForeignIdentity, IdentityError> {
        let known = self.known();
        if known.by_tenant.is_empty() {
            return Err(IdentityError::UnknownAuthority);
        }
        let sha256 = certificate.sha256();
        let remembered = known.remembered(&sha256);
        let (not_before, not_after, tenants) = match remembered {
            Some(remembered) => remembered,
            None => known.check(certificate, now)?,
        };
        if now < not_before || now > not_after {
            return Err(IdentityError::NotValidNow);
        }
        Ok(ForeignIdentity {
            tenants,
            verified_at: now,
        })
    }
}

impl Known {
    fn new(authorities: &[IdentityAuthority], legacy: bool) -> Self {
        let mut anchors: Vec<(TenantId, Vec<Certificate>)> = Vec::new();
        let mut digests = Vec::with_capacity(authorities.len());
        for IdentityAuthority { authority, .. } in authorities {
            digests.push((authority.tenant, authority.sha256));
            let Ok(certificate) = Certificate::parse(&authority.der) else {
                tracing::error!(subject = %authority.subject, "a stored authority of another server does not read");
                continue;
            };
            match anchors.iter_mut().find(|(tenant, _)| *tenant == authority.tenant) {
                Some((_, certificates)) => certificates.push(certificate),
                None => anchors.push((authority.tenant, vec![certificate])),
            }
        }
        let policy = ChainPolicy {
            legacy,
            ..ChainPolicy::default()
        };
        let trusting = |certificates| TrustAnchors::new(certificates).with_policy(policy.clone());
        Self {
            digests,
            by_tenant: anchors
                .into_iter()
                .map(|(tenant, certificates)| (tenant, trusting(certificates)))
                .collect(),
            verified: Mutex::default(),
        }
    }

    fn remembered(&self, sha256: &Sha256) -> Option<Verified> {
        self.verified
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(sha256)
            .cloned()
    }

    fn check(&self, certificate: &Certificate, now: Timestamp) -> Result<Verified, IdentityError> {
        let mut refusal = IdentityError::UnknownAuthority;
        let mut tenants = Vec::new();
        for (tenant, anchors) in &self.by_tenant {
            // An authority is no device.
            if anchors.certificates().contains(certificate) {
                continue;
            }
            match anchors.verify_chain(certificate, &[], now) {
                Ok(()) => tenants.push(*tenant),
                Err(ChainError::Expired { .. } | ChainError::NotYetValid { .. }) => {
                    refusal = IdentityError::NotValidNow;
                }
                Err(_) => {}
            }
        }
        if tenants.is_empty() {
            return Err(refusal);
        }
        let verified: Verified = (certificate.not_before(), certificate.not_after(), tenants.into());
        let mut remembered = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED {
            remembered.clear();
        }
        remembered.insert(certificate.sha256(), verified.clone());
        Ok(verified)
    }
}

impl Engine {
    /// Reads which authorities of other servers tenants trust; whether that has changed. Each node has to ask now and then:
    /// another one may have added one.
    ///
    /// # Errors
    ///
    /// When the database fails; what was known stays.
    pub async fn follow_authorities(&self) -> Result<bool, StoreError> {
        let stored = self.inner.store.identity_authorities(None).await?;
        let known = self.inner.others.known();
        let same = known.digests.len() == stored.len()
            && stored
                .iter()
                .zip(&known.digests)
                .all(|(stored, known)| (stored.authority.tenant, stored.authority.sha256) == *known);
        if same {
            return Ok(false);
        }
        let new = Known::new(&stored, self.inner.settings.enrollment.legacy_algorithms);
        *self.inner.others.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        Ok(true)
    }

    /// The certificates of all authorities whose certificates devices may show, in DER: what TLS asks clients for.
    pub fn client_authorities_der(&self) -> Vec<Vec<u8>> {
        let known = self.inner.others.known();
        let others = known.by_tenant.iter().flat_map(|(_, anchors)| anchors.certificates());
        std::iter::once(self.device_authority_der().to_vec())
            .chain(others.map(|certificate| certificate.der().to_vec()))
            .collect()
    }

    /// The authorities of other servers that a tenant trusts.
    ///
    /// # Errors
    ///
    /// A failure of the store.
    pub async fn trusted_authorities(&self, tenant: &TenantRef) -> Result<Vec<IdentityAuthority>, EngineError> {
        Ok(self.inner.store.identity_authorities(Some(tenant.id)).await?)
    }

    /// Lets imported devices of a tenant go on with certificates that these authorities issued: theirs and those of
    /// intermediates, in PEM. Says which; those that were trusted already are no fault.
    ///
    /// # Errors
    ///
    /// [`EngineError::Invalid`] for anything that is no certificate of an authority, or is not valid now, or if they are too
    /// many.
    pub async fn trust_authorities(
        &self,
        tenant: &TenantRef,
        pem: &str,
        by: &Administrator,
        now: Timestamp,
    ) -> Result<Vec<NewIdentityAuthority>, EngineError> {
        let certificates = Certificate::chain_from_pem(pem).map_err(|error| {
            EngineError::invalid(format!("the certificates cannot be read: {error}; give them in PEM"))
        })?;
        for certificate in &certificates {
            let subject = certificate.subject();
            if !certificate.is_ca() {
                return Err(EngineError::invalid(format!(
                    "{subject} is not a certificate of an authority; give the one that issued the devices' certificates"
                )));
            }
            if now < certificate.not_before() || now > certificate.not_after() {
                return Err(EngineError::invalid(format!(
                    "the certificate of {subject} is not valid at this time"
                )));
            }
            if certificate.der() == self.device_authority_der() {
                return Err(EngineError::invalid(
                    "this is the server's own authority, which is trusted already",
                ));
            }
        }
        let mut trusted = Vec::with_capacity(certificates.len());
        for certificate in certificates {
            let authority = NewIdentityAuthority {
                tenant: tenant.id,
                sha256: certificate.sha256(),
                subject: certificate.subject().to_owned(),
                der: certificate.der().to_vec(),
                not_after: certificate.not_after(),
                added_by: by.name.clone(),
            };
            self.inner
                .store
                .add_identity_authority(authority.clone(), MOST, now)
                .await
                .map_err(|error| match error {
                    StoreError::Exists(_) => EngineError::invalid(format!(
                        "a tenant trusts at most {MOST} authorities of other servers; remove one first"
                    )),
                    other => other.into(),
                })?;
            trusted.push(authority);
        }
        self.follow_authorities().await?;
        Ok(trusted)
    }

    /// Takes the trust in an authority back: devices that still show its certificates are refused from now on, on this node
    /// at once and on others within seconds.
    ///
    /// # Errors
    ///
    /// [`EngineError::NotFound`].
    pub async fn distrust_authority(&self, tenant: &TenantRef, sha256: &Sha256) -> Result<(), EngineError> {
        self.inner.store.remove_identity_authority(tenant.id, sha256).await?;
        self.follow_authorities().await?;
        Ok(())
    }
}
