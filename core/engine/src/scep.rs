//! SCEP: a one-time challenge, or a certificate to be renewed, becomes an identity certificate.

use jiff::{SignedDuration, Timestamp};
use russet_hooks::{EnrollmentRequest, GateStage, GateVerdict};
use russet_pki::ca::DeviceCertificate;
use russet_pki::scep::{self, FailInfo, MessageType, ScepError, ScepPolicy};
use russet_pki::{Certificate, fingerprint};
use russet_store::{
    Consumed, EnrollmentId, EnrollmentLookup, EnrollmentRecord, EnrollmentState, Issued, NewCertificate, NewDecision,
    TenantId,
};
use serde_json::Value as Json;

use crate::{Engine, EngineError, Request, subject};

/// The answer to a SCEP operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScepAnswer {
    /// The `Content-Type`, which clients compare exactly.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

/// A request that is refused, with what the client is told.
struct Refused(FailInfo, &'static str);

/// A certificate that may be issued.
struct Grant {
    /// What it is issued for: the challenge that was spent, or the certificate that it renews.
    source: Source,
    decisions: Vec<NewDecision>,
}

enum Source {
    Challenge(russet_store::ChallengeId),
    Renewal {
        person: Option<Json>,
        attributes: Json,
        renews: [u8; 32],
    },
    /// The same key asks again with the same challenge: its answer was lost on the way.
    AlreadyIssued([u8; 32]),
}

impl Engine {
    /// The answer to `GetCACaps`.
    pub fn scep_capabilities(&self) -> ScepAnswer {
        ScepAnswer {
            content_type: "text/plain",
            body: scep::capabilities(&self.scep_policy()).into_bytes(),
        }
    }

    /// The answer to `GetCACert`.
    pub fn scep_ca(&self) -> ScepAnswer {
        let (content_type, body) = scep::ca_certificates(&self.inner.authorities.scep);
        ScepAnswer { content_type, body }
    }

    /// The answer to `PKIOperation`. A refusal is an answer too (CertRep with failInfo).
    ///
    /// # Errors
    ///
    /// [`EngineError::Invalid`] if it is not a SCEP message at all, or a failure of the store.
    pub async fn scep(&self, request: &Request, message: &[u8], now: Timestamp) -> Result<ScepAnswer, EngineError> {
        let context = &self.inner.authorities.scep;
        let answer = |body| ScepAnswer {
            content_type: scep::PKI_MESSAGE_TYPE,
            body,
        };
        let parsed = match scep::Request::parse(message, context, &self.scep_policy()) {
            Ok(parsed) => parsed,
            Err(ScepError::Refused(refusal)) => {
                tracing::info!(scep.transaction = refusal.transaction_id(), error = %refusal, "SCEP request refused");
                return Ok(answer(refusal.reply(context).map_err(reply_failed)?));
            }
            Err(error) => return Err(EngineError::invalid(error.to_string())),
        };
        let issued = match self.grant(request, &parsed, now).await? {
            Ok(grant) => self.issue(request, &parsed, grant, now).await?,
            Err(refused) => Err(refused),
        };
        let body = match issued {
            Ok(certificate) => parsed.success(&certificate, self.inner.authorities.devices.chain(), context),
            Err(Refused(fail_info, text)) => {
                tracing::info!(
                    scep.transaction = parsed.transaction_id(),
                    reason = text,
                    "SCEP request refused"
                );
                parsed.failure(fail_info, text, context)
            }
        };
        Ok(answer(body.map_err(reply_failed)?))
    }

    fn scep_policy(&self) -> ScepPolicy {
        ScepPolicy {
            legacy: self.inner.settings.enrollment.legacy_algorithms,
            ..ScepPolicy::default()
        }
    }

    async fn grant(
        &self,
        request: &Request,
        message: &scep::Request,
        now: Timestamp,
    ) -> Result<Result<Grant, Refused>, EngineError> {
        match message.message_type() {
            MessageType::RenewalReq => self.grant_renewal(request, message.signer(), now).await,
            _ => self.grant_challenge(request, message, now).await,
        }
    }

    async fn grant_challenge(
        &self,
        request: &Request,
        message: &scep::Request,
        now: Timestamp,
    ) -> Result<Result<Grant, Refused>, EngineError> {
        let Some(challenge) = message.challenge() else {
            return Ok(Err(Refused(FailInfo::BadRequest, "a challenge password is needed")));
        };
        let challenge = fingerprint::sha256(challenge.as_bytes());
        let key = fingerprint::sha256(message.csr().public_key().der());
        let consumed = self
            .inner
            .store
            .consume_challenge(request.tenant.id, &challenge, &key, now)
            .await?;
        Ok(match consumed {
            Consumed::Consumed(record) | Consumed::SameKeyAgain(record, None) => {
                let decisions = match record.renews {
                    None => Vec::new(),
                    Some(owner) => match self.renewal_allowed(request, owner, now).await? {
                        Ok((_, decisions)) => decisions,
                        Err(refused) => return Ok(Err(refused)),
                    },
                };
                Ok(Grant {
                    source: Source::Challenge(record.id),
                    decisions,
                })
            }
            Consumed::SameKeyAgain(_, Some(issued)) => Ok(Grant {
                source: Source::AlreadyIssued(issued),
                decisions: Vec::new(),
            }),
            Consumed::Unknown => Err(Refused(
                FailInfo::BadRequest,
                "the challenge password is not known here",
            )),
            Consumed::AlreadyUsed => Err(Refused(
                FailInfo::BadRequest,
                "the challenge password was used already; get a new profile",
            )),
            Consumed::Expired => Err(Refused(
                FailInfo::BadRequest,
                "the challenge password is too old; get a new profile",
            )),
        })
    }

    async fn grant_renewal(
        &self,
        request: &Request,
        current: &Certificate,
        now: Timestamp,
    ) -> Result<Result<Grant, Refused>, EngineError> {
        let denied = |text| Ok(Err(Refused(FailInfo::BadRequest, text)));
        if self.verify(current.clone(), now).is_err() {
            return denied("the certificate to renew is not valid here; get a new profile");
        }
        let Some(record) = self.inner.store.certificate(&current.sha256()).await? else {
            return denied("the certificate to renew is not known here");
        };
        if record.certificate.tenant != request.tenant.id || record.revoked_at.is_some() {
            return denied("the certificate to renew is not known here, or was revoked");
        }
        let Some(owner) = record.enrollment else {
            return denied("the certificate to renew belongs to no enrollment");
        };
        let (enrollment, decisions) = match self.renewal_allowed(request, owner, now).await? {
            Ok(allowed) => allowed,
            Err(refused) => return Ok(Err(refused)),
        };
        let source = Source::Renewal {
            person: enrollment.person,
            attributes: enrollment.attributes,
            renews: current.sha256(),
        };
        Ok(Ok(Grant { source, decisions }))
    }

    /// Asks the gates whether an enrollment may have a new certificate.
    async fn renewal_allowed(
        &self,
        request: &Request,
        owner: EnrollmentId,
        now: Timestamp,
    ) -> Result<Result<(EnrollmentRecord, Vec<NewDecision>), Refused>, EngineError> {
        let denied = |text| Ok(Err(Refused(FailInfo::BadRequest, text)));
        let lookup = EnrollmentLookup::Id(owner);
        let enrollment = self.inner.store.enrollment(request.tenant.id, lookup).await?;
        let Some(enrollment) = enrollment.filter(|enrollment| enrollment.state == EnrollmentState::Active) else {
            return denied("the device is not enrolled any more; get a new profile");
        };
        let attributes = subject::attributes(&enrollment.attributes);
        let method = subject::noted_method(&attributes);
        let outcome = request
            .hooks
            .check_enrollment(
                &request.scope,
                EnrollmentRequest {
                    stage: GateStage::Renewal,
                    method,
                    ownership: subject::ownership(method, Some(enrollment.channel)),
                    device: subject::device(&enrollment),
                    person: subject::person(enrollment.person.as_ref()),
                    can_request_software_update: false,
                    replaces: None,
                },
            )
            .await;
        let decisions = self.decided(request, outcome.decisions, Some(owner)).await?;
        if !matches!(outcome.verdict, Ok(GateVerdict::Allow(_))) {
            self.inner
                .store
                .record_decisions(request.tenant.id, decisions, now)
                .await?;
            return denied("an enrollment gate does not allow the renewal");
        }
        Ok(Ok((enrollment, decisions)))
    }

    async fn issue(
        &self,
        request: &Request,
        message: &scep::Request,
        grant: Grant,
        now: Timestamp,
    ) -> Result<Result<Certificate, Refused>, EngineError> {
        if let Source::AlreadyIssued(sha256) = grant.source {
            return self.issued_before(&sha256).await.map(Ok);
        }
        let settings = &self.inner.settings.enrollment;
        let lifetime = SignedDuration::try_from(settings.identity_lifetime)
            .map_err(|_| EngineError::invalid("enrollment.identity_lifetime is too long"))?;
        let device = DeviceCertificate {
            common_name: format!("russet-{}", uuid::Uuid::now_v7()),
            extra: vec![(russet_pki::oid::ORGANIZATION, settings.organization.clone())],
            lifetime,
        };
        let authority = self.inner.authorities.devices.clone();
        let csr = message.csr().clone();
        // An RSA signature takes about a millisecond: not on a thread that serves devices.
        let issued = tokio::task::spawn_blocking(move || authority.issue_device(&csr, &device, now)).await;
        let certificate = match issued {
            Ok(Ok(issued)) => issued.certificate,
            Ok(Err(error)) => {
                tracing::error!(error = %error, "the device authority cannot issue");
                return Ok(Err(Refused(
                    FailInfo::BadRequest,
                    "the server cannot issue certificates now",
                )));
            }
            Err(_) => return Ok(Err(Refused(FailInfo::BadRequest, "the server is shutting down"))),
        };
        let mut new = unbound(&certificate, request.tenant.id);
        match grant.source {
            Source::Challenge(challenge) => {
                if let Issued::AlreadyIssued(sha256) =
                    self.inner.store.issue(challenge, new, grant.decisions, now).await?
                {
                    return self.issued_before(&sha256).await.map(Ok);
                }
            }
            Source::Renewal {
                person,
                attributes,
                renews,
            } => {
                new.person = person;
                new.attributes = attributes;
                new.renews = Some(renews);
                self.inner.store.insert_certificate(new, grant.decisions, now).await?;
            }
            Source::AlreadyIssued(_) => {}
        }
        Ok(Ok(certificate))
    }

    async fn issued_before(&self, sha256: &[u8; 32]) -> Result<Certificate, EngineError> {
        let record = self
            .inner
            .store
            .certificate(sha256)
            .await?
            .ok_or(EngineError::NotFound("certificate"))?;
        Certificate::parse(&record.certificate.der)
            .map_err(|_| EngineError::Store(russet_store::StoreError::Corrupt("certificate")))
    }
}

/// A certificate as it is stored, for nobody in particular yet.
pub(crate) fn unbound(certificate: &Certificate, tenant: TenantId) -> NewCertificate {
    NewCertificate {
        sha256: certificate.sha256(),
        tenant,
        serial_number: certificate.serial_hex(),
        subject: certificate.subject().to_owned(),
        der: certificate.der().to_vec(),
        not_before: certificate.not_before(),
        not_after: certificate.not_after(),
        person: None,
        attributes: Json::Object(serde_json::Map::new()),
        bound_serial: None,
        bound_udid: None,
        renews: None,
    }
}

fn reply_failed(error: scep::ReplyError) -> EngineError {
    EngineError::invalid(format!("the SCEP answer cannot be made: {error}"))
}
