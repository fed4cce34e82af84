//! How answers combine and what a failure means, hook by hook.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use russet_hooks::{
    Ask, CallLimits, Denial, Device, Directory, DirectoryHook, DirectoryRequest, DirectoryVerdict, EnrollmentGate,
    EnrollmentMethod, EnrollmentRequest, EscrowHook, EscrowKind, EscrowOperation, EscrowPolicy, EscrowRequest,
    EscrowVerdict, FailureRule, FaultKind, GateHook, GateStage, GateVerdict, HookSet, Ownership, Person, PluginFault,
    Requester, Scope, SignIn, SoftwareUpdate, TemplateRequest,
};

struct Gate(Result<GateVerdict, FaultKind>);

#[async_trait]
impl EnrollmentGate for Gate {
    async fn check(&self, _: &Ask<GateHook>) -> Result<GateVerdict, PluginFault> {
        self.0
            .clone()
            .map_err(|kind| PluginFault::new("gate", kind, "scripted"))
    }
}

struct Hanging;

#[async_trait]
impl EnrollmentGate for Hanging {
    async fn check(&self, _: &Ask<GateHook>) -> Result<GateVerdict, PluginFault> {
        std::future::pending().await
    }
}

struct People(Result<DirectoryVerdict, FaultKind>);

#[async_trait]
impl Directory for People {
    async fn ask(&self, _: &Ask<DirectoryHook>) -> Result<DirectoryVerdict, PluginFault> {
        self.0
            .clone()
            .map_err(|kind| PluginFault::new("people", kind, "scripted"))
    }
}

struct Policy(Result<EscrowVerdict, FaultKind>);

#[async_trait]
impl EscrowPolicy for Policy {
    async fn decide(&self, _: &Ask<EscrowHook>) -> Result<EscrowVerdict, PluginFault> {
        self.0
            .clone()
            .map_err(|kind| PluginFault::new("policy", kind, "scripted"))
    }
}

fn scope() -> Scope {
    Scope::new("default", "test", Duration::from_secs(5))
}

fn enrollment() -> EnrollmentRequest {
    EnrollmentRequest {
        stage: GateStage::Profile,
        method: EnrollmentMethod::Automated,
        ownership: Ownership::Organization,
        device: Device {
            serial_number: Some("C02X".into()),
            ..Device::default()
        },
        person: None,
        can_request_software_update: true,
        replaces: None,
    }
}

fn allow(name: &str, value: &str) -> GateVerdict {
    GateVerdict::Allow([(name.to_owned(), value.to_owned())].into())
}

fn deny() -> GateVerdict {
    GateVerdict::Deny(Denial {
        reason: "no".into(),
        message: "No.".into(),
    })
}

fn update() -> GateVerdict {
    GateVerdict::RequireSoftwareUpdate(SoftwareUpdate {
        os_version: "27.1".into(),
        build_version: None,
        beta: None,
    })
}

fn gates(answers: Vec<Result<GateVerdict, FaultKind>>) -> Arc<HookSet> {
    answers
        .into_iter()
        .enumerate()
        .fold(HookSet::builder(), |set, (index, answer)| {
            set.gate(format!("gate-{index}"), Gate(answer))
        })
        .build()
}

#[tokio::test]
async fn all_gates_must_allow_and_their_attributes_are_united() {
    let outcome = gates(vec![Ok(allow("group", "staff")), Ok(allow("room", "12"))])
        .check_enrollment(&scope(), enrollment())
        .await;
    let Ok(GateVerdict::Allow(attributes)) = outcome.verdict else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        attributes,
        [
            ("group".to_owned(), "staff".to_owned()),
            ("room".to_owned(), "12".to_owned())
        ]
        .into()
    );
    assert_eq!(outcome.decisions.len(), 2);
    assert_eq!(outcome.decisions[0].subject, "C02X");
}

#[tokio::test]
async fn the_strictest_verdict_wins_in_any_order() {
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]] {
        let verdicts = [allow("a", "b"), GateVerdict::RequireSignIn, update(), deny()];
        for strictest in 0..4 {
            let answers = order
                .iter()
                .filter(|index| **index <= strictest)
                .map(|index| Ok(verdicts[*index].clone()));
            let outcome = gates(answers.collect()).check_enrollment(&scope(), enrollment()).await;
            assert_eq!(outcome.verdict, Ok(verdicts[strictest].clone()));
        }
    }
}

#[tokio::test]
async fn a_gate_that_fails_closes_unless_another_denies() {
    let outcome = gates(vec![Ok(allow("a", "b")), Err(FaultKind::Trap)])
        .check_enrollment(&scope(), enrollment())
        .await;
    let undecided = outcome.verdict.unwrap_err();
    assert_eq!(
        (undecided.rule, undecided.fault.kind),
        (FailureRule::Closed, FaultKind::Trap)
    );
    assert_eq!(outcome.decisions[1].failure_rule, Some(FailureRule::Closed));

    let outcome = gates(vec![Err(FaultKind::Trap), Ok(deny())])
        .check_enrollment(&scope(), enrollment())
        .await;
    assert_eq!(outcome.verdict, Ok(deny()));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_ends_at_its_deadline_and_one_that_waits_for_it_is_told_busy() {
    let limits = CallLimits {
        wall: Duration::from_millis(200),
        concurrency: 1,
    };
    let set = HookSet::builder().limits(limits).gate("hanging", Hanging).build();
    let scope = scope();
    let (first, second) = tokio::join!(
        set.check_enrollment(&scope, enrollment()),
        set.check_enrollment(&scope, enrollment())
    );
    assert_eq!(first.verdict.unwrap_err().fault.kind, FaultKind::Deadline);
    assert_eq!(second.verdict.unwrap_err().fault.kind, FaultKind::Busy);
}

#[tokio::test]
async fn the_first_directory_that_knows_the_person_answers() {
    let ada = DirectoryVerdict::Person(Person {
        user_name: "ada".into(),
        ..Person::default()
    });
    let set = HookSet::builder()
        .directory("one", People(Ok(DirectoryVerdict::Unknown)))
        .directory("two", People(Ok(ada.clone())))
        .directory("three", People(Ok(DirectoryVerdict::WrongCredentials)))
        .build();
    let outcome = set.ask_directory(&scope(), DirectoryRequest::Find("ada".into())).await;
    assert_eq!(outcome.verdict, Ok(ada));
    assert_eq!(outcome.decisions.len(), 2);
}

#[tokio::test]
async fn a_directory_that_fails_refuses_a_sign_in_and_does_not_know_a_person() {
    let set = HookSet::builder()
        .directory("broken", People(Err(FaultKind::CouldNotDecide)))
        .build();
    let sign_in = SignIn {
        user_name: "ada".into(),
        password: "secret".to_owned().into(),
    };
    assert!(!format!("{sign_in:?}").contains("secret"));
    let outcome = set.ask_directory(&scope(), DirectoryRequest::SignIn(sign_in)).await;
    assert_eq!(outcome.verdict.unwrap_err().rule, FailureRule::Closed);
    let outcome = set.ask_directory(&scope(), DirectoryRequest::Find("ada".into())).await;
    assert_eq!(outcome.verdict, Ok(DirectoryVerdict::Unknown));
    assert_eq!(outcome.decisions[0].failure_rule, Some(FailureRule::UnknownPerson));
}

fn escrow(operation: EscrowOperation, requester: Requester) -> EscrowRequest {
    EscrowRequest {
        operation,
        kind: EscrowKind::BootstrapToken,
        device: Device::default(),
        person: None,
        requester,
        age_seconds: None,
        secret: None,
    }
}

#[tokio::test]
async fn every_escrow_policy_must_agree_and_a_failure_keeps_the_deposit_but_releases_nothing() {
    let denial = EscrowVerdict::Deny("not now".into());
    let set = HookSet::builder()
        .escrow_policy("one", Policy(Ok(EscrowVerdict::Allow)))
        .escrow_policy("two", Policy(Ok(denial.clone())))
        .build();
    let outcome = set
        .decide_escrow(&scope(), escrow(EscrowOperation::Release, Requester::Device))
        .await;
    assert_eq!(outcome.verdict, Ok(denial));

    let set = HookSet::builder()
        .escrow_policy("broken", Policy(Err(FaultKind::MemoryLimit)))
        .build();
    let outcome = set
        .decide_escrow(&scope(), escrow(EscrowOperation::Deposit, Requester::Device))
        .await;
    assert_eq!(outcome.verdict.unwrap_err().rule, FailureRule::KeepMarked);
    let outcome = set
        .decide_escrow(&scope(), escrow(EscrowOperation::Release, Requester::Device))
        .await;
    assert_eq!(outcome.verdict.unwrap_err().rule, FailureRule::Closed);
}

#[tokio::test]
async fn without_a_policy_a_secret_goes_to_its_own_device_only() {
    let set = HookSet::builder().build();
    let own = set
        .decide_escrow(&scope(), escrow(EscrowOperation::Release, Requester::Device))
        .await;
    assert_eq!(own.verdict, Ok(EscrowVerdict::Allow));
    let admin = escrow(EscrowOperation::Release, Requester::Administrator("ops".into()));
    let admin = set.decide_escrow(&scope(), admin).await;
    assert!(matches!(admin.verdict, Ok(EscrowVerdict::Deny(_))));
}

#[tokio::test]
async fn a_template_without_its_engine_waits() {
    let request = TemplateRequest {
        name: "wifi".into(),
        template: String::new(),
        variables: "{}".into(),
        device: Device::default(),
        person: None,
    };
    let outcome = HookSet::builder()
        .build()
        .render(&scope(), "profile-template", request)
        .await;
    let undecided = outcome.verdict.unwrap_err();
    assert_eq!(
        (undecided.rule, undecided.fault.kind),
        (FailureRule::Wait, FaultKind::Unusable)
    );
}
