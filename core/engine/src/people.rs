//! People: looked up through the directory hook, and kept with an enrollment.

use jiff::Timestamp;
use russet_hooks::{DirectoryRequest, DirectoryVerdict, Person};

use crate::{Engine, EngineError, Request};

impl Engine {
    /// Looks a person up.
    ///
    /// # Errors
    ///
    /// A failure of the store. A directory that fails does not know the person; the decision records show it.
    pub async fn find_person(
        &self,
        request: &Request,
        user_name: &str,
        now: Timestamp,
    ) -> Result<Option<Person>, EngineError> {
        if !request.hooks.has_directory() {
            return Err(EngineError::invalid("no directory plugin is installed"));
        }
        let outcome = request
            .hooks
            .ask_directory(&request.scope, DirectoryRequest::Find(user_name.to_owned()))
            .await;
        let decisions = self.decided(request, outcome.decisions, None).await?;
        self.inner
            .store
            .record_decisions(request.tenant.id, decisions, now)
            .await?;
        match outcome.verdict {
            Ok(DirectoryVerdict::Person(person)) => Ok(Some(person)),
            Ok(DirectoryVerdict::Unknown | DirectoryVerdict::WrongCredentials) => Ok(None),
            Err(_) => Err(EngineError::Undecided),
        }
    }

    /// Looks a person up and keeps them with a device: gates and templates see them from now on.
    ///
    /// # Errors
    ///
    /// Not found, or a failure of the store.
    pub async fn assign_person(
        &self,
        request: &Request,
        device: &str,
        user_name: &str,
        now: Timestamp,
    ) -> Result<Person, EngineError> {
        let device = self.device(&request.tenant, device).await?;
        let person = self
            .find_person(request, user_name, now)
            .await?
            .ok_or(EngineError::NotFound("person"))?;
        let json = serde_json::to_value(&person).map_err(|_| EngineError::invalid("the person cannot be stored"))?;
        self.inner.store.set_person(device.id, Some(json), now).await?;
        Ok(person)
    }
}
