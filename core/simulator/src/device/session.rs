//! The command channel: polling, answering, and what follows from an answer.

use russet_protocol::ReportStatus;
use russet_protocol::plist::Dictionary;

use super::answer::{Answer, ReceivedCommand, chain_item};
use super::channel::Channel;
use super::commands::{Executor, Outcome};
use super::error::{DeviceError, Step};
use super::event::DeviceEvent;
use super::profile::EnrollmentProfile;
use super::state::{After, Answered, Scripted, Undelivered, lock};

/// How many commands a device takes in one session before it takes the server to be stuck.
const MAX_COMMANDS: usize = 10_000;

/// What a session with the server came to.
#[derive(Debug, Clone, Default)]
pub struct Session {
    /// The commands that were answered, in order.
    pub answered: Vec<Answered>,
    /// The last answer was "not now": a real device polls again by itself in a while.
    pub not_now_last: bool,
}

impl Channel<'_> {
    /// Sends one report. Returns the command that came back, and the answer that was waiting when this delivered it.
    pub(crate) async fn report(
        &self,
        answer: &Answer,
    ) -> Result<(Option<ReceivedCommand>, Option<Undelivered>), DeviceError> {
        let step = Step::Connect;
        let response = self
            .send_connect(step, answer.encode(&self.names()))
            .await?
            .accepted(step);
        let response = self.watch_refusal(response)?;
        // Taken is taken, even if what came back cannot be read.
        let delivered = self.delivered(answer);
        Ok((ReceivedCommand::read(&response.body)?, delivered))
    }

    /// Sends one report and does what follows from it; returns the command that came back.
    pub(crate) async fn poll(&self, answer: &Answer) -> Result<Option<ReceivedCommand>, DeviceError> {
        let (next, delivered) = self.report(answer).await?;
        if let Some(delivered) = delivered {
            Box::pin(self.follow(delivered.after)).await?;
        }
        Ok(next)
    }

    /// Notes that the server took an answer.
    fn delivered(&self, answer: &Answer) -> Option<Undelivered> {
        let mut state = lock(self.state);
        let same = |waiting: &mut Undelivered| answer.command_uuid.as_ref() == Some(&waiting.command_uuid);
        let waiting = state.undelivered.take_if(same)?;
        state.answered.push(Answered {
            command_uuid: waiting.command_uuid.clone(),
            request_type: waiting.request_type.clone(),
            answer: answer.clone(),
        });
        drop(state);
        self.device.emit(&DeviceEvent::Answered {
            request_type: waiting.request_type.clone(),
            status: answer.status_name(),
        });
        Some(waiting)
    }

    /// Carries a command out and keeps the answer until the server has taken it.
    pub(crate) async fn execute(&self, command: &ReceivedCommand) -> Answer {
        let request_type = command.request_type().to_owned();
        let script = lock(self.state).take_script(&request_type);
        let (answer, after) = match script {
            Some(scripted) => (scripted_answer(command, scripted), After::Continue),
            None => self.carry_out(command).await,
        };
        lock(self.state).undelivered = Some(Undelivered {
            command_uuid: command.uuid.clone(),
            request_type,
            answer: answer.clone(),
            after,
        });
        answer
    }

    async fn carry_out(&self, command: &ReceivedCommand) -> (Answer, After) {
        let token = lock(self.state).token.clone();
        let outcome = {
            let mut state = lock(&self.device.state);
            let mut executor = Executor {
                settings: &self.device.settings,
                state: &mut state,
                push_token: token.expose(),
                user: self.user.is_some(),
            };
            executor.run(command)
        };
        match outcome {
            Outcome::Done(answer, after) => (answer, after),
            Outcome::Renew(profile) => {
                let answer = match Box::pin(self.renew_by_profile(*profile)).await {
                    Ok(()) => Answer::acknowledged(&command.uuid, Dictionary::new()),
                    Err(error) => {
                        let text = format!("The profile could not be installed: {error}.");
                        Answer::error(
                            &command.uuid,
                            vec![chain_item(4001, "MCInstallationErrorDomain", &text)],
                        )
                    }
                };
                (answer, After::Continue)
            }
        }
    }

    /// A profile with the identifier of the enrollment's own brings a new identity: check-in restarts with it, and when
    /// anything of that fails, the old one stays.
    async fn renew_by_profile(&self, profile: EnrollmentProfile) -> Result<(), DeviceError> {
        let device = self.device;
        let before = lock(&device.state).enrollment.clone();
        let http = device.client();
        let renewed = async {
            let current = before.as_ref().and_then(|enrollment| enrollment.identity.clone());
            let identity = match (&profile.scep.challenge, current) {
                (None, Some(current)) => device.scep_client(&profile.scep, &http).renew(&current).await?,
                _ => device.scep_client(&profile.scep, &http).enroll().await?,
            };
            device.set_enrollment(profile.clone(), Some(identity))?;
            device.authenticate().await?;
            device.channel().token_update().await
        }
        .await;
        if let Err(error) = renewed {
            device.restore_enrollment(before)?;
            return Err(error);
        }
        device.replace_profile(profile.profile);
        Ok(())
    }

    /// The answer that is waiting, or that there is none.
    pub(crate) fn next_answer(&self) -> Answer {
        let state = lock(self.state);
        state
            .undelivered
            .as_ref()
            .map_or_else(Answer::idle, |waiting| waiting.answer.clone())
    }

    /// Polls and answers until there is no command left. An answer that was not taken last time goes first.
    pub(crate) async fn run_until_idle(&self) -> Result<Session, DeviceError> {
        let _one_at_a_time = self.session.lock().await;
        let mut session = Session::default();
        let mut later = Vec::new();
        for _ in 0..MAX_COMMANDS {
            let (next, delivered) = self.report(&self.next_answer()).await?;
            if let Some(delivered) = delivered {
                session.not_now_last = delivered.answer.status == ReportStatus::NotNow;
                session.answered.push(Answered {
                    command_uuid: delivered.command_uuid,
                    request_type: delivered.request_type,
                    answer: delivered.answer,
                });
                match delivered.after {
                    After::Continue => {}
                    // Nothing more is read from this session.
                    After::Erase | After::Unenroll => {
                        self.follow(delivered.after).await?;
                        return Ok(session);
                    }
                    other => later.push(other),
                }
            }
            let Some(command) = next else {
                for after in later {
                    self.follow(after).await?;
                }
                return Ok(session);
            };
            self.execute(&command).await;
        }
        Err(DeviceError::answer(
            Step::Connect,
            format!("the server handed out {MAX_COMMANDS} commands in one session"),
        ))
    }

    /// Does what follows from an answer that the server took.
    pub(crate) async fn follow(&self, after: After) -> Result<(), DeviceError> {
        match after {
            After::Continue => Ok(()),
            After::Erase => {
                self.device.erase();
                Ok(())
            }
            After::Unenroll => self.device.remove_enrollment().await,
            After::SyncDeclarations => self.sync_declarations().await,
            After::Configured => {
                lock(&self.device.state).awaiting_configuration = false;
                self.token_update().await
            }
        }
    }
}

fn scripted_answer(command: &ReceivedCommand, scripted: Scripted) -> Answer {
    match scripted {
        Scripted::NotNow => Answer::not_now(&command.uuid),
        Scripted::Error(chain) => Answer::error(&command.uuid, chain),
        Scripted::CommandFormatError => Answer::format_error(&command.uuid, Vec::new()),
        Scripted::Acknowledged(result) => Answer::acknowledged(&command.uuid, result),
    }
}
