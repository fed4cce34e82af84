//! Decides what happens to escrowed secrets: devices get theirs back, administrators only those of
//! the named tokens.

use russet_plugin::escrow::{Deposit, EscrowPolicy, EscrowRequest, Release, Requester};
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

    fn deposit(_settings: Settings, _request: &EscrowRequest) -> Result<Deposit, Error> {
        Ok(Deposit::Accept)
    }

    fn release(settings: Settings, request: &EscrowRequest) -> Result<Release, Error> {
        Ok(match request.requester() {
            Requester::Device => Release::Release,
            Requester::Administrator(name) if settings.administrators.contains(&name) => {
                Release::Release
            }
            other => {
                log::warn(format_args!("{other:?} asked for a secret"));
                Release::deny("only named administrators may read secrets")
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
        Settings {
            administrators: vec!["help-desk".to_owned()],
        }
    }

    #[test]
    fn a_device_gets_its_secret_back() {
        let request = EscrowRequest::builder(Kind::BootstrapToken).build();
        assert_eq!(Policy::deposit(settings(), &request), Ok(Deposit::Accept));
        assert_eq!(Policy::release(settings(), &request), Ok(Release::Release));
    }

    #[test]
    fn only_named_administrators_read_secrets() {
        let release = |name: &str| {
            let request = EscrowRequest::builder(Kind::UnlockToken).administrator(name);
            Policy::release(settings(), &request.build()).unwrap()
        };
        assert_eq!(release("help-desk"), Release::Release);
        assert!(matches!(release("intern"), Release::Deny(_)));
    }
}
