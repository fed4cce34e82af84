//! What the administrator does: queues commands, takes some back, and has identities renewed.

use std::sync::atomic::Ordering;

use reqwest::Method;
use serde_json::{Value, json};

use super::{ANSWER, Fleet, REST};
use crate::journal::{Accepted, lock};
use crate::random::Random;

/// How many deliveries may wait for answers before the administrator queues more.
const BACKLOG: u64 = 100;

impl Fleet {
    pub(super) async fn administrate(&self, random: &Random) {
        let mut number = 0;
        while !self.stop.load(Ordering::SeqCst) {
            number += 1;
            if !self.administrate_once(random, number).await {
                tokio::time::sleep(REST).await;
            }
        }
    }

    /// Queues a command, or takes one back; whether it went well.
    pub(super) async fn administrate_once(&self, random: &Random, number: u64) -> bool {
        let members: Vec<_> = self
            .members()
            .into_iter()
            .filter(|member| lock(&member.journal).enrolled)
            .collect();
        if members.is_empty() || self.open() > BACKLOG {
            return false;
        }
        if random.percent(self.habits.take_back) {
            let accepted = self.books.accepted();
            let Some(last) = accepted.last() else { return true };
            self.books.take_back(&last.uuid);
            let path = format!("/commands/{}/cancel", last.uuid);
            return self.ask(&path, &json!({})).await.is_some();
        }
        if random.percent(self.habits.renew) {
            let path = format!("/devices/{}/renew", random.one(&members).serial());
            return self.ask(&path, &json!({})).await.is_some();
        }
        let count = random.between(1, u64::try_from(members.len()).expect("few devices"));
        let mut devices: Vec<_> = members.iter().map(|member| member.serial().to_owned()).collect();
        while u64::try_from(devices.len()).expect("few devices") > count {
            let at = usize::try_from(random.below(u64::try_from(devices.len()).expect("few devices")));
            devices.remove(at.expect("an index"));
        }
        // Types that are not asked for twice while one waits would be dropped as duplicates: these differ.
        let command = json!({
            "RequestType": "InstalledApplicationList", "Identifiers": [format!("org.example.app{number}")],
        });
        let answer = self
            .ask("/commands", &json!({"devices": devices, "command": command}))
            .await;
        let Some(answer) = answer else { return false };
        let Some(uuid) = answer["command_uuid"].as_str() else {
            self.books.complain(format!("a queued command has no UUID: {answer}"));
            return false;
        };
        let count = u64::try_from(devices.len()).expect("few devices");
        self.asked.fetch_add(count, Ordering::SeqCst);
        self.books.accept(Accepted {
            uuid: uuid.to_owned(),
            devices,
            taken_back: false,
        });
        self.done();
        true
    }

    /// How many deliveries wait for an answer.
    fn open(&self) -> u64 {
        let answered = self.answered.load(Ordering::SeqCst);
        self.asked.load(Ordering::SeqCst).saturating_sub(answered)
    }

    /// The answer to a request of the administrator's, if the server is there and can.
    pub(super) async fn ask(&self, path: &str, body: &Value) -> Option<Value> {
        let request = self.admin.of_tenant(Method::POST, path).json(body).timeout(ANSWER);
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        let text = answer.text().await.ok()?;
        match status {
            200..300 => serde_json::from_str(&text).ok(),
            // A device that has not answered its last renewal is not asked again; a command may be over already.
            404 | 409 | 422 | 429 => None,
            503 => {
                self.refused.send_modify(|count| *count += 1);
                None
            }
            _ => {
                self.books
                    .complain(format!("the API answered {status} at {path}: {text}"));
                None
            }
        }
    }
}
