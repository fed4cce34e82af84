//! Decides what happens to escrowed secrets: devices get theirs back, administrators only those of the named tokens.

use russet_plugin::escrow::{EscrowPolicy, EscrowRequest, Requester, Verdict};
use russet_plugin::{Error, log};

/// The policy.
#[derive(Debug)]
pub struct Policy;

/// What the operator sets; `settings.schema.json` says the same to the server.
#[derive(Debug, serde::Deserialize)]
pub struct Settings {
    /// The API tokens, by name, that may read secrets.
    pub administrators: Vec<String>,
}

impl EscrowPolicy for Policy {
    type Settings = Settings;

    fn deposit(_settings: Settings, _request: &EscrowRequest) -> Result<Verdict, Error> {
        Ok(Verdict::Allow)
    }

    fn release(settings: Settings, request: &EscrowRequest) -> Result<Verdict, Error> {
        Ok(match request.requester() {
            Requester::Device => Verdict::Allow,
            Requester::Administrator(name) if settings.administrators.contains(&name) => Verdict::Allow,
            Requester::Administrator(name) => {
                log::warn(format_args!("{name} asked for a secret"));
                Verdict::deny("this administrator may not read secrets")
            }
        })
    }
}

russet_plugin::escrow_policy!(Policy);

#[cfg(test)]
mod tests {
    use russet_plugin::escrow::Kind;

    use super::*;

    fn settings() -> Settings {
        Settings { administrators: vec!["help-desk".to_owned()] }
    }

    #[test]
    fn a_device_gets_its_secret_back() {
        let request = EscrowRequest::builder(Kind::BootstrapToken).build();
        assert_eq!(Policy::deposit(settings(), &request).unwrap(), Verdict::Allow);
        assert_eq!(Policy::release(settings(), &request).unwrap(), Verdict::Allow);
    }

    #[test]
    fn only_named_administrators_read_secrets() {
        let release = |name: &str| {
            let request = EscrowRequest::builder(Kind::UnlockToken).administrator(name).build();
            Policy::release(settings(), &request).unwrap()
        };
        assert_eq!(release("help-desk"), Verdict::Allow);
        assert!(matches!(release("intern"), Verdict::Deny(_)));
    }
}
