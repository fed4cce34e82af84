//! An input for each hook to begin with: change what a test is about.

use std::collections::BTreeMap;

use russet_hooks::{
    CommandRequest, CommandStage, Device, EnrollmentMethod, EnrollmentRequest, EscrowKind, EscrowOperation,
    EscrowRequest, Event, GateStage, Ownership, PlanRequest, Requester, ScheduledRun, TemplateRequest,
};

/// A device of which nothing is known asks for its profile, by hand.
pub fn enrollment() -> EnrollmentRequest {
    EnrollmentRequest {
        stage: GateStage::Profile,
        method: EnrollmentMethod::Manual,
        ownership: Ownership::Unknown,
        device: Device::default(),
        person: None,
        can_request_software_update: false,
        replaces: None,
    }
}

/// A device hands over its first bootstrap token.
pub fn escrow() -> EscrowRequest {
    EscrowRequest {
        operation: EscrowOperation::Deposit,
        kind: EscrowKind::BootstrapToken,
        device: Device::default(),
        person: None,
        requester: Requester::Device,
        age_seconds: None,
        secret: None,
    }
}

/// A profile named `test` is rendered without variables, for a device of which nothing is known.
pub fn template(template: impl Into<String>) -> TemplateRequest {
    TemplateRequest {
        name: "test".to_owned(),
        template: template.into(),
        variables: "{}".to_owned(),
        device: Device::default(),
        person: None,
    }
}

/// An administrator named `admin` hands in a command without keys for one device.
pub fn command(request_type: impl Into<String>) -> CommandRequest {
    let request_type = request_type.into();
    CommandRequest {
        stage: CommandStage::Enqueue,
        uuid: "00000000-0000-4000-8000-000000000000".to_owned(),
        command: serde_json::json!({"RequestType": request_type}).to_string().into(),
        request_type,
        destructive: false,
        requester: Requester::Administrator("admin".to_owned()),
        approved_by: None,
        targets: 1,
        device: None,
        person: None,
    }
}

/// A device of which nothing is known, and which reported nothing.
pub fn plan() -> PlanRequest {
    PlanRequest {
        device: Device::default(),
        person: None,
        status: BTreeMap::new(),
    }
}

/// An event number 1 without details, about no device, handed over for the first time.
pub fn event(kind: impl Into<String>) -> Event {
    Event {
        id: 1,
        kind: kind.into(),
        time: 0,
        device: None,
        person: None,
        detail: "{}".to_owned(),
        attempt: 0,
        depth: 0,
    }
}

/// Work without a payload, tried for the first time.
pub fn run(name: impl Into<String>) -> ScheduledRun {
    ScheduledRun {
        name: name.into(),
        due: 0,
        payload: String::new(),
        attempt: 0,
    }
}
