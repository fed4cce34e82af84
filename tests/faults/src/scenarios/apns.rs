//! Apple's push service refuses, is slow, says nothing, sends everybody away, and hangs up.

use std::time::Duration;

use russet_simulator::apns::Scripted;

use crate::fleet::Habits;
use crate::site::{Backend, Extent, Outcome, Site};

pub(super) async fn trouble(extent: Extent) -> Outcome {
    let mut site = Site::start(Backend::Sqlite, extent, Habits::default()).await;
    let mut running = site.run().await;
    for run in 0..extent.runs {
        if site.random.percent(30) {
            site.one_more(&mut running);
        }
        site.fleet.advances(site.random.between(5, 30)).await;
        let apns = site.world.apns.clone();
        let members = site.fleet.members();
        let tokens: Vec<_> = members
            .iter()
            .filter_map(|member| member.device.push_credentials().ok())
            .map(|push| push.token.expose().to_vec())
            .collect();
        let what = match run % 5 {
            0 => {
                let refusals = [
                    Scripted::new(503, "ServiceUnavailable"),
                    Scripted::new(429, "TooManyRequests").with_retry_after(1),
                    Scripted::new(500, "InternalServerError"),
                    Scripted::new(403, "ExpiredProviderToken"),
                ];
                for token in &tokens {
                    for _ in 0..site.random.between(1, 3) {
                        apns.answer_next(token, site.random.one(&refusals).clone());
                    }
                }
                "refusals"
            }
            1 => {
                for _ in 0..site.random.between(10, 30) {
                    apns.go_away();
                    site.fleet.advances(2).await;
                }
                "a storm of GOAWAY"
            }
            2 => {
                apns.stall(true);
                site.fleet.advances(site.random.between(10, 30)).await;
                tokio::time::sleep(Duration::from_millis(site.random.between(100, 3_000))).await;
                apns.stall(false);
                "half-open connections"
            }
            3 => {
                let holds: Vec<_> = tokens.iter().map(|token| apns.hold(token)).collect();
                site.fleet.advances(site.random.between(10, 30)).await;
                drop(holds);
                "slow answers"
            }
            _ => {
                for _ in 0..site.random.between(3, 10) {
                    apns.drop_connections();
                    site.fleet.advances(2).await;
                }
                "lost connections"
            }
        };
        site.after_a_fault(what).await;
    }
    site.finish(running).await
}
