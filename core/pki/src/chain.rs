//! Certificate chains (RFC 5280 section 6, without policies and name constraints): from a leaf to a trust anchor.
//!
//! Deliberately absent: revocation (the caller's records are the truth), name constraints and policy mapping; a chain
//! with a critical extension that this crate does not understand is refused.

use jiff::Timestamp;

use crate::ObjectIdentifier;
use crate::algorithm::VerifyError;
use crate::certificate::{Certificate, KeyUsage};

/// Most signature checks in one search: hostile intermediates must not make it exponential.
const MAX_CHECKS: usize = 64;

/// What a chain may look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainPolicy {
    /// Accept SHA-1 signatures and RSA below 2,048 bits in the chain (as in Apple's device CA).
    pub legacy: bool,
    /// Most certificates between the leaf and the anchor.
    pub max_intermediates: usize,
}

impl Default for ChainPolicy {
    fn default() -> Self {
        Self {
            legacy: false,
            max_intermediates: 6,
        }
    }
}

/// Why no chain was found; the reason that came closest to success.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// Nobody with the issuer's name and key is among the anchors and intermediates.
    #[error("issued by {issuer}, which is not trusted")]
    UnknownIssuer {
        /// The issuer that is missing, as text.
        issuer: String,
    },
    /// A certificate that may not issue others stands as issuer.
    #[error("{subject} is not a certificate authority or may not sign this certificate")]
    NotAnIssuer {
        /// The certificate in question.
        subject: String,
    },
    /// Longer than a path length constraint or the policy allows.
    #[error("the certificate chain is longer than allowed")]
    TooLong,
    /// A critical extension that is not understood.
    #[error("{subject} has the critical extension {extension}, which is not supported")]
    CriticalExtension {
        /// The certificate in question.
        subject: String,
        /// The extension.
        extension: ObjectIdentifier,
    },
    /// A weak or unknown algorithm.
    #[error("{subject}: {source}")]
    Algorithm {
        /// The certificate whose signature it is.
        subject: String,
        /// What is wrong with it.
        source: VerifyError,
    },
    /// The signature of a certificate does not match its issuer's key.
    #[error("the signature of {subject} does not match its issuer")]
    BadSignature {
        /// The certificate in question.
        subject: String,
    },
    /// Not valid yet.
    #[error("{subject} is not valid before {not_before}; check the clock")]
    NotYetValid {
        /// The certificate in question.
        subject: String,
        /// Start of its validity.
        not_before: Timestamp,
    },
    /// Not valid any more.
    #[error("{subject} expired at {not_after}")]
    Expired {
        /// The certificate in question.
        subject: String,
        /// End of its validity.
        not_after: Timestamp,
    },
}

impl ChainError {
    /// How close to success: a bad signature outweighs an unknown issuer, expiry outweighs both.
    fn rank(&self) -> u8 {
        match self {
            Self::UnknownIssuer { .. } => 0,
            Self::NotAnIssuer { .. } => 1,
            Self::BadSignature { .. } => 2,
            Self::TooLong => 3,
            Self::Algorithm { .. } => 4,
            Self::CriticalExtension { .. } => 5,
            Self::NotYetValid { .. } => 6,
            Self::Expired { .. } => 7,
        }
    }
}

/// Certificates that are trusted as such.
#[derive(Debug, Clone, Default)]
pub struct TrustAnchors {
    anchors: Vec<Certificate>,
    policy: ChainPolicy,
}

impl TrustAnchors {
    /// Trusts these certificates, with the default policy.
    pub fn new(anchors: Vec<Certificate>) -> Self {
        Self {
            anchors,
            policy: ChainPolicy::default(),
        }
    }

    /// The same anchors under another policy.
    #[must_use]
    pub fn with_policy(mut self, policy: ChainPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// The trusted certificates.
    pub fn certificates(&self) -> &[Certificate] {
        &self.anchors
    }

    /// Finds a chain from `leaf` over any of `intermediates` to an anchor, and checks it: signatures, validity of every
    /// certificate (the anchor's too), basicConstraints, path length, keyUsage, critical extensions.
    ///
    /// The purpose of the leaf is the caller's question: [`Certificate::allows`].
    ///
    /// # Errors
    /// [`ChainError`], the one that came closest to success.
    pub fn verify_chain(
        &self,
        leaf: &Certificate,
        intermediates: &[Certificate],
        now: Timestamp,
    ) -> Result<(), ChainError> {
        let mut search = Search {
            trust: self,
            intermediates,
            now,
            checks: 0,
            path: vec![leaf.clone()],
            best: None,
        };
        if self.anchors.contains(leaf) {
            return acceptable(leaf, now);
        }
        let found = match acceptable(leaf, now) {
            Ok(()) => search.extend(leaf),
            // An expired certificate of an unknown issuer is first of all unknown, so look on before saying so.
            Err(error) => {
                if search.extend(leaf) {
                    return Err(error);
                }
                false
            }
        };
        if found {
            return Ok(());
        }
        Err(search.best.unwrap_or_else(|| ChainError::UnknownIssuer {
            issuer: leaf.issuer().to_owned(),
        }))
    }
}

/// One depth-first search. `path` starts at the leaf.
struct Search<'a> {
    trust: &'a TrustAnchors,
    intermediates: &'a [Certificate],
    now: Timestamp,
    checks: usize,
    path: Vec<Certificate>,
    best: Option<ChainError>,
}

impl Search<'_> {
    /// Whether `child`, the end of the path, leads to an anchor. Recursion is capped by the policy's depth.
    fn extend(&mut self, child: &Certificate) -> bool {
        let trust = self.trust;
        for anchor in trust.anchors.iter().filter(|anchor| may_issue(anchor, child)) {
            if self.link(child, anchor) {
                return true;
            }
        }
        let candidates = self.intermediates;
        for issuer in candidates.iter().filter(|issuer| may_issue(issuer, child)) {
            if self.path.contains(issuer) || trust.anchors.contains(issuer) {
                continue;
            }
            if self.path.len() > trust.policy.max_intermediates {
                self.note(ChainError::TooLong);
                return false;
            }
            if self.link(child, issuer) {
                self.path.push(issuer.clone());
                if self.extend(issuer) {
                    return true;
                }
                self.path.pop();
            }
        }
        if self.best.is_none() {
            self.note(ChainError::UnknownIssuer {
                issuer: child.issuer().to_owned(),
            });
        }
        false
    }

    /// Whether `issuer` signed `child` and was allowed to.
    fn link(&mut self, child: &Certificate, issuer: &Certificate) -> bool {
        match self.check_link(child, issuer) {
            Ok(()) => true,
            Err(error) => {
                self.note(error);
                false
            }
        }
    }

    fn check_link(&mut self, child: &Certificate, issuer: &Certificate) -> Result<(), ChainError> {
        let subject = || issuer.subject().to_owned();
        let extensions = issuer.extensions();
        let may_sign = issuer
            .key_usage()
            .is_none_or(|usage| usage.contains(KeyUsage::KEY_CERT_SIGN));
        if !extensions.is_ca || !may_sign {
            return Err(ChainError::NotAnIssuer { subject: subject() });
        }
        // Self-issued certificates do not count (RFC 5280 section 4.2.1.9); the leaf never does.
        let below = self
            .path
            .iter()
            .skip(1)
            .filter(|certificate| !certificate.is_self_issued())
            .count();
        if extensions.path_len.is_some_and(|limit| below > limit as usize) {
            return Err(ChainError::TooLong);
        }
        self.checks += 1;
        if self.checks > MAX_CHECKS {
            return Err(ChainError::TooLong);
        }
        child
            .verify_signed_by(issuer.public_key(), self.trust.policy.legacy)
            .map_err(|source| match source {
                VerifyError::Mismatch => ChainError::BadSignature {
                    subject: child.subject().to_owned(),
                },
                source => ChainError::Algorithm {
                    subject: child.subject().to_owned(),
                    source,
                },
            })?;
        acceptable(issuer, self.now)
    }

    fn note(&mut self, error: ChainError) {
        if self.best.as_ref().is_none_or(|best| best.rank() <= error.rank()) {
            self.best = Some(error);
        }
    }
}

/// Whether the names, and the key identifiers where both are there, fit.
fn may_issue(issuer: &Certificate, child: &Certificate) -> bool {
    let fits = match (
        &issuer.extensions().subject_key_id,
        &child.extensions().authority_key_id,
    ) {
        (Some(own), Some(wanted)) => own == wanted,
        _ => true,
    };
    fits && issuer.subject_der() == child.issuer_der()
}

/// What every certificate of a chain must meet by itself.
fn acceptable(certificate: &Certificate, now: Timestamp) -> Result<(), ChainError> {
    let subject = || certificate.subject().to_owned();
    if now > certificate.not_after() {
        return Err(ChainError::Expired {
            subject: subject(),
            not_after: certificate.not_after(),
        });
    }
    if now < certificate.not_before() {
        return Err(ChainError::NotYetValid {
            subject: subject(),
            not_before: certificate.not_before(),
        });
    }
    match certificate.extensions().unknown_critical {
        Some(extension) => Err(ChainError::CriticalExtension {
            subject: subject(),
            extension,
        }),
        None => Ok(()),
    }
}
