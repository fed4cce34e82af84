//! What a call leaves beside its verdict, and the hooks whose implementors see what the one before made of the question.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use russet_hooks::{
    Ask, CommandFailure, CommandHook, CommandPolicy, CommandRequest, CommandStage, CommandVerdict, DeclarationPlanner,
    Device, DirectoryRequest, Effect, EffectAction, EscrowHook, EscrowKind, EscrowOperation, EscrowPolicy,
    EscrowRequest, EscrowVerdict, Event, Explanation, FailureRule, FaultKind, Hook, HookInput, HookKind, HookSet,
    Observer, ObserverHook, PlanRequest, PlannedDeclaration, PlannerHook, PluginFault, Requester, Schedule,
    ScheduleTime, Scheduled, ScheduledHook, ScheduledRun, Scope, Secret, SignIn, TemplateRequest,
};

fn scope() -> Scope {
    Scope::new("default", "test", Duration::from_secs(5))
}

fn fault(kind: FaultKind) -> PluginFault {
    PluginFault::new("scripted", kind, "scripted")
}

/// Answers what it was made with, and remembers what it was asked.
struct Policy {
    answer: Result<CommandVerdict, FaultKind>,
    seen: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl CommandPolicy for Policy {
    async fn check(&self, ask: &Ask<CommandHook>) -> Result<CommandVerdict, PluginFault> {
        self.seen.lock().unwrap().push(ask.request.command.as_ref().to_owned());
        self.answer.clone().map_err(fault)
    }
}

fn command(destructive: bool) -> CommandRequest {
    CommandRequest {
        stage: CommandStage::Enqueue,
        uuid: "0195f9d4-7c3e-7000-8000-0123456789ab".into(),
        request_type: "DeviceLock".into(),
        command: r#"{"RequestType":"DeviceLock"}"#.into(),
        destructive,
        requester: Requester::Administrator("ops".into()),
        approved_by: None,
        targets: 1,
        device: None,
        person: None,
    }
}

fn chain(answers: &[Result<CommandVerdict, FaultKind>]) -> (Arc<HookSet>, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let set = answers
        .iter()
        .enumerate()
        .fold(HookSet::builder(), |set, (index, answer)| {
            let policy = Policy {
                answer: answer.clone(),
                seen: Arc::clone(&seen),
            };
            set.command_policy(format!("policy-{index}"), policy)
        });
    (set.build(), seen)
}

fn because(reason: &str) -> Explanation {
    Explanation {
        reason: reason.to_owned(),
        message: "Because.".to_owned(),
    }
}

const WITH_PIN: &str = r#"{"PIN":"123456","RequestType":"DeviceLock"}"#;

#[tokio::test]
async fn each_command_policy_sees_what_the_one_before_made_of_the_command() {
    let (set, seen) = chain(&[
        Ok(CommandVerdict::Allow),
        Ok(CommandVerdict::Replace(WITH_PIN.into())),
        Ok(CommandVerdict::Allow),
    ]);
    let outcome = set.check_command(&scope(), command(true), CommandFailure::Closed).await;
    assert_eq!(outcome.verdict, Ok(CommandVerdict::Replace(WITH_PIN.into())));
    let original = r#"{"RequestType":"DeviceLock"}"#;
    assert_eq!(*seen.lock().unwrap(), [original, original, WITH_PIN]);
    let shown = &outcome.decisions[1].verdict_json;
    assert!(shown.contains("sha256") && !shown.contains("123456"), "{shown}");
}

#[tokio::test]
async fn a_command_of_another_type_can_not_take_the_place_of_one() {
    for bad in [r#"{"RequestType":"EraseDevice"}"#, "{}", "nonsense"] {
        let (set, _) = chain(&[Ok(CommandVerdict::Replace(bad.into()))]);
        let outcome = set.check_command(&scope(), command(true), CommandFailure::Open).await;
        let undecided = outcome.verdict.unwrap_err();
        assert_eq!(
            (undecided.rule, undecided.fault.kind),
            (FailureRule::Closed, FaultKind::BadAnswer),
            "{bad}"
        );
        assert_eq!(outcome.decisions[0].verdict, "fault");
    }
}

#[tokio::test]
async fn a_denial_stands_before_a_failure_before_a_hold_before_an_approval() {
    let hold = || Ok(CommandVerdict::Hold(because("four-eyes")));
    let deny = || Ok(CommandVerdict::Deny(because("never")));
    let broken = || Err(FaultKind::Trap);
    let verdict = async |answers: &[Result<CommandVerdict, FaultKind>]| {
        let (set, _) = chain(answers);
        set.check_command(&scope(), command(true), CommandFailure::Open).await
    };
    assert_eq!(verdict(&[]).await.verdict, Ok(CommandVerdict::Allow));
    assert_eq!(
        verdict(&[hold(), Ok(CommandVerdict::Allow)]).await.verdict,
        hold_of("four-eyes")
    );
    assert_eq!(
        verdict(&[broken(), hold()]).await.verdict.unwrap_err().rule,
        FailureRule::Closed
    );
    let denied = verdict(&[hold(), broken(), deny(), Ok(CommandVerdict::Allow)]).await;
    assert_eq!(denied.verdict, Ok(CommandVerdict::Deny(because("never"))));
    assert_eq!(denied.decisions.len(), 3, "a denial ends the chain");
    assert_eq!(denied.decisions[2].reason.as_deref(), Some("never"));
}

fn hold_of(reason: &str) -> Result<CommandVerdict, russet_hooks::Undecided> {
    Ok(CommandVerdict::Hold(because(reason)))
}

#[tokio::test]
async fn a_failing_command_policy_closes_for_destructive_commands_and_else_as_the_operator_says() {
    for (destructive, setting, rule) in [
        (true, CommandFailure::Closed, FailureRule::Closed),
        (true, CommandFailure::Open, FailureRule::Closed),
        (false, CommandFailure::Closed, FailureRule::Closed),
        (false, CommandFailure::Open, FailureRule::Open),
    ] {
        let (set, _) = chain(&[Err(FaultKind::Deadline)]);
        let outcome = set.check_command(&scope(), command(destructive), setting).await;
        assert_eq!(outcome.decisions[0].failure_rule, Some(rule));
        assert_eq!(outcome.verdict.is_ok(), rule == FailureRule::Open);
    }
}

/// Puts a byte behind the secret.
struct Wraps(u8);

#[async_trait]
impl EscrowPolicy for Wraps {
    async fn decide(&self, ask: &Ask<EscrowHook>) -> Result<EscrowVerdict, PluginFault> {
        let mut secret = ask.request.secret.as_ref().unwrap().expose().to_vec();
        secret.push(self.0);
        Ok(EscrowVerdict::AllowAs(Secret::new(secret)))
    }
}

#[tokio::test]
async fn each_escrow_policy_sees_the_secret_as_the_one_before_left_it_and_no_record_does() {
    let set = HookSet::builder()
        .escrow_policy("one", Wraps(b'1'))
        .escrow_policy("two", Wraps(b'2'))
        .build();
    let request = EscrowRequest {
        operation: EscrowOperation::Deposit,
        kind: EscrowKind::BootstrapToken,
        device: Device::default(),
        person: None,
        requester: Requester::Device,
        age_seconds: None,
        secret: Some(Secret::new(*b"token")),
    };
    let outcome = set.decide_escrow(&scope(), request).await;
    assert_eq!(outcome.verdict, Ok(EscrowVerdict::AllowAs(Secret::new(*b"token12"))));
    let shown = format!("{:?}", outcome.decisions);
    assert!(
        !shown.contains("token1") && !shown.contains(&format!("{:?}", b"token")),
        "{shown}"
    );
    let Some(HookInput::EscrowPolicy(recorded)) = &outcome.decisions[1].input else {
        panic!("no input");
    };
    assert_eq!(recorded.secret, None);
}

/// Records an effect, and then answers.
struct Acts(Result<(), FaultKind>);

#[async_trait]
impl Observer for Acts {
    async fn observe(&self, ask: &Ask<ObserverHook>) -> Result<(), PluginFault> {
        ask.recorder.effect(Effect {
            target: None,
            action: EffectAction::Push,
        });
        self.0.map_err(fault)
    }
}

fn event() -> Event {
    Event {
        id: 7,
        kind: "enrollment.enrolled".into(),
        time: 0,
        device: None,
        person: None,
        detail: "{}".into(),
        attempt: 0,
        depth: 0,
    }
}

#[tokio::test]
async fn effects_of_a_call_that_failed_are_dropped() {
    for (answer, effects) in [(Ok(()), 1), (Err(FaultKind::Trap), 0)] {
        let set = HookSet::builder()
            .observer("acts", Acts(answer), vec!["enrollment".into()])
            .build();
        let outcome = set.observe(&scope(), "acts", event()).await;
        assert_eq!(outcome.decisions[0].effects.len(), effects);
        if let Err(undecided) = outcome.verdict {
            assert_eq!(undecided.rule, FailureRule::Retry);
        }
    }
}

#[tokio::test]
async fn an_observer_is_asked_by_its_name_and_only_kinds_that_somebody_takes_are_observed() {
    let set = HookSet::builder()
        .observer("acts", Acts(Ok(())), vec!["enrollment".into()])
        .build();
    assert!(set.observes("enrollment.enrolled"));
    assert!(!set.observes("command.answered"));
    assert_eq!(
        set.observers().collect::<Vec<_>>(),
        [("acts", &["enrollment".to_owned()][..])]
    );
    let outcome = set.observe(&scope(), "nobody", event()).await;
    assert_eq!(outcome.verdict.unwrap_err().fault.kind, FaultKind::Unusable);
}

struct Works;

#[async_trait]
impl Scheduled for Works {
    async fn run(&self, _: &Ask<ScheduledHook>) -> Result<(), PluginFault> {
        Err(fault(FaultKind::CpuLimit))
    }
}

#[tokio::test]
async fn scheduled_work_that_fails_is_tried_again() {
    let nightly = Schedule {
        name: "nightly".into(),
        when: ScheduleTime::DailyAt { hour: 2, minute: 0 },
    };
    let set = HookSet::builder()
        .scheduled("works", Works, vec![nightly.clone()])
        .build();
    assert_eq!(set.schedules().collect::<Vec<_>>(), [("works", &[nightly][..])]);
    let run = ScheduledRun {
        name: "nightly".into(),
        due: 0,
        payload: String::new(),
        attempt: 0,
    };
    let outcome = set.run_scheduled(&scope(), "works", run).await;
    assert_eq!(outcome.verdict.unwrap_err().rule, FailureRule::Retry);
    assert_eq!(outcome.decisions[0].failure_rule, Some(FailureRule::Retry));
}

struct Plans(Result<Vec<PlannedDeclaration>, FaultKind>);

#[async_trait]
impl DeclarationPlanner for Plans {
    async fn plan(&self, _: &Ask<PlannerHook>) -> Result<Vec<PlannedDeclaration>, PluginFault> {
        self.0.clone().map_err(fault)
    }
}

#[tokio::test]
async fn every_planner_answers_for_itself() {
    let declaration = PlannedDeclaration {
        identifier: "passcode".into(),
        declaration_type: "com.apple.configuration.passcode.settings".into(),
        payload: "{}".into(),
    };
    let set = HookSet::builder()
        .planner("broken", Plans(Err(FaultKind::MemoryLimit)))
        .planner("works", Plans(Ok(vec![declaration.clone()])))
        .build();
    let request = PlanRequest {
        device: Device::default(),
        person: None,
        status: BTreeMap::new(),
    };
    let plans = set.plan(&scope(), request).await;
    assert_eq!(plans[0].plan.as_ref().unwrap_err().kind, FaultKind::MemoryLimit);
    assert_eq!(plans[0].decision.failure_rule, Some(FailureRule::LastGoodPlan));
    assert_eq!(plans[1].plan, Ok(vec![declaration]));
    assert_eq!(plans[1].decision.failure_rule, None);
}

#[test]
fn a_plan_is_compared_as_a_set() {
    let declaration = |identifier: &str, payload: &str| PlannedDeclaration {
        identifier: identifier.into(),
        declaration_type: "t".into(),
        payload: payload.into(),
    };
    let json = |plan: Vec<PlannedDeclaration>| PlannerHook::verdict_json(&plan);
    let (a, b) = (declaration("a", "{}"), declaration("b", "{}"));
    assert_eq!(json(vec![a.clone(), b.clone()]), json(vec![b.clone(), a.clone()]));
    assert_ne!(json(vec![a, b.clone()]), json(vec![declaration("a", r#"{"x":1}"#), b]));
}

#[test]
fn every_question_but_a_sign_in_survives_being_recorded() {
    let device = Device {
        serial_number: Some("C02X".into()),
        ..Device::default()
    };
    let inputs = [
        HookInput::Directory(Arc::new(DirectoryRequest::Find("ada".into()))),
        HookInput::ProfileTemplate(Arc::new(TemplateRequest {
            name: "wifi".into(),
            template: "<plist/>".into(),
            variables: "{}".into(),
            device: device.clone(),
            person: None,
        })),
        HookInput::CommandPolicy(Arc::new(command(true))),
        HookInput::DeclarationPlanner(Arc::new(PlanRequest {
            device,
            person: None,
            status: [("device.operating-system.version".to_owned(), "\"27.1\"".to_owned())].into(),
        })),
        HookInput::Observer(Arc::new(event())),
    ];
    for input in inputs {
        let text = input.to_json().unwrap();
        assert_eq!(HookInput::from_json(input.kind(), &text).unwrap(), input);
    }
    let sign_in = DirectoryRequest::SignIn(SignIn {
        user_name: "ada".into(),
        password: "secret".to_owned().into(),
    });
    assert!(russet_hooks::DirectoryHook::input(&Arc::new(sign_in.clone())).is_none());
    assert!(HookInput::Directory(Arc::new(sign_in)).to_json().is_err());
    assert!(HookInput::from_json(HookKind::Observer, "{}").is_err());
}

#[test]
fn an_effect_is_shown_without_the_secret_that_it_keeps() {
    let effect = Effect {
        target: None,
        action: EffectAction::PutSecret {
            name: "api".into(),
            value: Secret::new(*b"hunter2"),
        },
    };
    let shown = serde_json::to_string(&effect).unwrap();
    assert_eq!(shown, r#"{"target":null,"action":"put-secret","name":"api"}"#);
    assert!(!format!("{effect:?}").contains("hunter2"));
}
