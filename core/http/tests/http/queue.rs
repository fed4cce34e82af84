//! Groups, audiences, approvals, taking back, and the queue in numbers.

use async_trait::async_trait;
use http::{Method, StatusCode};
use russet_hooks::{Ask, CommandHook, CommandPolicy, CommandVerdict, Explanation, PluginFault};
use russet_http::HttpSettings;
use serde_json::{Value as Json, json};

use crate::support::{Answer, Site};

/// Erasing takes an approval, and locking is never allowed.
struct Guard;

#[async_trait]
impl CommandPolicy for Guard {
    async fn check(&self, ask: &Ask<CommandHook>) -> Result<CommandVerdict, PluginFault> {
        let because = |reason: &str| Explanation {
            reason: reason.to_owned(),
            message: "ask Grace".to_owned(),
        };
        Ok(match (ask.request.request_type.as_str(), &ask.request.approved_by) {
            ("EraseDevice", None) => CommandVerdict::Hold(because("erase-needs-approval")),
            ("DeviceLock", _) => CommandVerdict::Deny(because("never")),
            _ => CommandVerdict::Allow,
        })
    }
}

async fn guarded() -> Site {
    Site::with_hooks(HttpSettings::default(), |hooks| hooks.command_policy("guard", Guard)).await
}

impl Site {
    async fn call(&self, method: Method, path: &str, body: Json) -> Answer {
        let body = (!body.is_null()).then_some(body);
        self.admin(method, &format!("/v1/tenants/default{path}"), body).await
    }

    async fn queued(&self, body: Json) -> Json {
        let answer = self.call(Method::POST, "/commands", body).await;
        assert!(answer.status.is_success(), "{}", answer.text());
        answer.json()
    }

    async fn shown(&self, path: &str) -> Json {
        let answer = self.call(Method::GET, path, Json::Null).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        answer.json()
    }

    async fn second_token(&self) -> String {
        let token = self
            .admin(Method::POST, "/v1/tokens", Some(json!({"name": "grace"})))
            .await;
        token.json()["token"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_held_command_is_approved_with_another_token() {
    let site = guarded().await;
    let device = site.enrolled("C02Q").await;
    let erase = json!({"devices": ["C02Q"], "command": {"RequestType": "EraseDevice"}});
    let answer = site.call(Method::POST, "/commands", erase).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text());
    let held = answer.json();
    assert_eq!(
        held["held"],
        json!({"reason": "erase-needs-approval", "message": "ask Grace"})
    );
    let uuid = held["command_uuid"].as_str().unwrap();
    let listed = site.shown("/commands?approval=held").await;
    assert_eq!(listed["items"][0]["approval"]["state"], "held", "{listed}");
    assert_eq!(
        site.shown("/queue").await,
        json!({"held_commands": 1, "stuck_entries": 0})
    );
    assert_eq!(site.shown("/devices/C02Q").await["queue"], json!({"held": 1}));
    let entry = &site.shown("/devices/C02Q/commands").await["items"][0];
    assert_eq!(entry["waiting_for"], "an approval");

    let approve = format!("/v1/tenants/default/commands/{uuid}/approve");
    let own = site.admin(Method::POST, &approve, None).await;
    assert_eq!((own.status, own.code().as_str()), (StatusCode::FORBIDDEN, "refused"));
    let other = site.second_token().await;
    let approved = site.admin_as(&other, Method::POST, &approve, None).await;
    assert_eq!(approved.status, StatusCode::OK, "{}", approved.text());
    assert_eq!(approved.json()["released"], 1);
    let again = site.admin_as(&other, Method::POST, &approve, None).await;
    assert_eq!(
        (again.status, again.code().as_str()),
        (StatusCode::CONFLICT, "conflict")
    );
    let shown = site.shown(&format!("/commands/{uuid}")).await;
    assert_eq!(
        (&shown["approval"]["state"], &shown["approval"]["decided_by"]),
        (&json!("approved"), &json!("grace"))
    );
    let delivered = site.send(device.signed("/mdm/connect", &device.idle())).await;
    assert_eq!(
        delivered.plist().get("CommandUUID").unwrap().as_string(),
        Some(uuid.to_uppercase().as_str())
    );
}

#[tokio::test]
async fn what_a_policy_denies_says_why_and_what_is_rejected_does_not_go_out() {
    let site = guarded().await;
    site.enrolled("C02Q").await;
    let lock = json!({"devices": ["C02Q"], "command": {"RequestType": "DeviceLock"}});
    let denied = site.call(Method::POST, "/commands", lock).await;
    assert_eq!(denied.status, StatusCode::UNPROCESSABLE_ENTITY);
    let error = &denied.json()["error"];
    assert_eq!(
        error,
        &json!({"code": "denied", "message": "ask Grace", "details": ["never"]})
    );

    let erase = json!({"all": true, "command": {"RequestType": "EraseDevice"}});
    let uuid = site.queued(erase).await["command_uuid"].as_str().unwrap().to_owned();
    let reject = format!("/commands/{uuid}/reject");
    let rejected = site.call(Method::POST, &reject, json!({"reason": "a mistake"})).await;
    assert_eq!(rejected.json(), json!({"cancelled": 1}));
    let entry = &site.shown("/devices/C02Q/commands").await["items"][0];
    assert_eq!(
        (&entry["state"], &entry["waiting_for"]),
        (&json!("cancelled"), &json!("a mistake"))
    );
    assert_eq!(
        site.call(Method::POST, &reject, Json::Null).await.status,
        StatusCode::CONFLICT
    );
    let nobody = "/commands/0198f0a0-0000-7000-8000-000000000000/approve";
    assert_eq!(
        site.call(Method::POST, nobody, Json::Null).await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn a_command_is_for_devices_or_a_group_or_all() {
    let site = Site::new().await;
    for serial in ["C02A", "C02B", "C02C"] {
        site.enrolled(serial).await;
    }
    let members = |devices: &[&str]| json!({ "devices": devices });
    let put = site
        .call(Method::PUT, "/groups/lab", members(&["C02A", "UDID-C02B"]))
        .await;
    assert_eq!((put.status, &put.json()["members"]), (StatusCode::OK, &json!(2)));
    let changed = site
        .call(Method::POST, "/groups/lab/members", json!({"remove": ["C02A"]}))
        .await;
    assert_eq!(changed.json()["members"], 1);
    let listed = site.shown("/groups/lab/members").await;
    assert_eq!(listed["items"], json!([{"id": "UDID-C02B", "serial_number": "C02B"}]));
    assert_eq!(site.shown("/groups").await["items"][0]["name"], "lab");
    for (path, body) in [
        ("/groups/lab", members(&["nobody"])),
        ("/groups/a%20b", members(&["C02A"])),
    ] {
        let wrong = site.call(Method::PUT, path, body).await;
        assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY, "{path}");
    }
    let neither = site.call(Method::POST, "/groups/lab/members", json!({})).await;
    assert_eq!(neither.status, StatusCode::BAD_REQUEST);

    let command = json!({"RequestType": "SecurityInfo"});
    let to_group = site.queued(json!({"group": "lab", "command": command})).await;
    assert_eq!((&to_group["queued"], &to_group["duplicates"]), (&json!(1), &json!(0)));
    let to_all = site.queued(json!({"all": true, "pace": 1, "command": command})).await;
    assert_eq!((&to_all["queued"], &to_all["duplicates"]), (&json!(2), &json!(1)));
    assert_eq!(to_all["deduplicated"], json!([]));
    let to_one = site.queued(json!({"devices": ["C02B"], "command": command})).await;
    assert_eq!(
        (&to_one["deduplicated"], &to_one["duplicates"]),
        (&json!(["C02B"]), &json!(1))
    );
    for audience in [
        json!({}),
        json!({"all": true, "group": "lab"}),
        json!({"devices": ["C02A"], "all": true}),
    ] {
        let mut body = audience;
        body["command"] = command.clone();
        let wrong = site.call(Method::POST, "/commands", body).await;
        assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    }
    let missing = json!({"group": "no", "command": command});
    assert_eq!(
        site.call(Method::POST, "/commands", missing).await.status,
        StatusCode::NOT_FOUND
    );

    // The second device of the wave has its time a minute later.
    let uuid = to_all["command_uuid"].as_str().unwrap();
    let progress = site.shown(&format!("/commands/{uuid}/progress")).await;
    assert_eq!(
        (
            &progress["counts"],
            &progress["total"],
            &progress["open"],
            &progress["pace"]
        ),
        (&json!({"pending": 2}), &json!(2), &json!(2), &json!(1))
    );
    assert!(progress.get("devices").is_none());
    let waiting = &site.shown("/devices/C02C/commands").await["items"][0]["waiting_for"];
    assert!(waiting.as_str().unwrap().starts_with("its time, "), "{waiting}");
    assert_eq!(
        site.call(Method::DELETE, "/groups/lab", Json::Null).await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        site.call(Method::GET, "/groups/lab", Json::Null).await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn commands_are_taken_back_and_queues_flushed() {
    let site = Site::new().await;
    for serial in ["C02A", "C02B"] {
        site.enrolled(serial).await;
    }
    let queued = |request_type: &str| {
        let body = json!({"devices": ["C02A", "C02B"], "command": {"RequestType": request_type}});
        site.queued(body)
    };
    let uuid = queued("SecurityInfo").await["command_uuid"]
        .as_str()
        .unwrap()
        .to_owned();
    let cancel = format!("/commands/{uuid}/cancel");
    let from_one = site.call(Method::POST, &cancel, json!({"device": "C02A"})).await;
    assert_eq!(from_one.json(), json!({"cancelled": 1}));
    assert_eq!(
        site.call(Method::POST, &cancel, Json::Null).await.json(),
        json!({"cancelled": 1})
    );
    let progress = site.shown(&format!("/commands/{uuid}/progress")).await;
    assert_eq!(
        (&progress["counts"], &progress["open"]),
        (&json!({"cancelled": 2}), &json!(0))
    );
    queued("SecurityInfo").await;
    queued("ProfileList").await;
    let flush = |body| site.call(Method::POST, "/devices/C02A/flush", body);
    assert_eq!(
        flush(json!({"request_type": "ProfileList"})).await.json(),
        json!({"cancelled": 1})
    );
    assert_eq!(flush(Json::Null).await.json(), json!({"cancelled": 1}));
    assert_eq!(flush(json!({"kind": "x"})).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(site.shown("/devices/C02A").await["queue"], json!({}));
    assert_eq!(site.shown("/devices/C02B").await["queue"], json!({"pending": 2}));
}

#[tokio::test]
async fn one_tenant_reaches_no_other_tenants_groups_or_commands() {
    let site = guarded().await;
    site.enrolled("C02Q").await;
    let erase = json!({"devices": ["C02Q"], "command": {"RequestType": "EraseDevice"}});
    let uuid = site.queued(erase).await["command_uuid"].as_str().unwrap().to_owned();
    site.call(Method::PUT, "/groups/lab", json!({"devices": ["C02Q"]}))
        .await;
    site.admin(Method::POST, "/v1/tenants", Some(json!({"name": "acme"})))
        .await;
    let token = json!({"name": "acme-admin", "tenant": "acme"});
    let token = site.admin(Method::POST, "/v1/tokens", Some(token)).await.json();
    let token = token["token"].as_str().unwrap();
    for (method, path) in [
        (Method::POST, format!("/commands/{uuid}/approve")),
        (Method::POST, format!("/commands/{uuid}/reject")),
        (Method::POST, format!("/commands/{uuid}/cancel")),
        (Method::GET, format!("/commands/{uuid}/progress")),
        (Method::POST, "/devices/C02Q/flush".to_owned()),
        (Method::GET, "/groups/lab".to_owned()),
        (Method::DELETE, "/groups/lab".to_owned()),
    ] {
        for (tenant, expected) in [("default", StatusCode::FORBIDDEN), ("acme", StatusCode::NOT_FOUND)] {
            let path = format!("/v1/tenants/{tenant}{path}");
            let answer = site.admin_as(token, method.clone(), &path, None).await;
            assert_eq!(answer.status, expected, "{method} {path}: {}", answer.text());
        }
    }
    let put = json!({"devices": ["C02Q"]});
    let path = "/v1/tenants/acme/groups/lab";
    let answer = site.admin_as(token, Method::PUT, path, Some(put)).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn no_route_of_the_queue_answers_without_a_token() {
    let site = Site::new().await;
    let command = "/commands/0198f0a0-0000-7000-8000-000000000000";
    for (method, path) in [
        (Method::GET, format!("{command}/progress")),
        (Method::POST, format!("{command}/cancel")),
        (Method::POST, format!("{command}/approve")),
        (Method::POST, format!("{command}/reject")),
        (Method::GET, "/queue".to_owned()),
        (Method::GET, "/queue/stuck".to_owned()),
        (Method::POST, "/devices/C02/flush".to_owned()),
        (Method::GET, "/groups".to_owned()),
        (Method::PUT, "/groups/lab".to_owned()),
        (Method::DELETE, "/groups/lab".to_owned()),
        (Method::GET, "/groups/lab/members".to_owned()),
        (Method::POST, "/groups/lab/members".to_owned()),
    ] {
        let path = format!("/v1/tenants/default{path}");
        let answer = site.admin_as("russet_nothing", method.clone(), &path, None).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}");
    }
}
