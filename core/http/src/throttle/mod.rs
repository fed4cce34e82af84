//! How often something may be asked for, and how much of the server one tenant may take.
//!
//! Enrollment and SCEP are open to strangers and cost signatures, so each client address has a budget. Passwords and
//! tokens can be guessed, so names and addresses have budgets for wrong ones. Enrolled devices are not counted by address,
//! because thousands of them may share one; what they ask at the same time is shared out fairly between tenants.
//!
//! This module knows nothing of what is asked; it only says "go on" or "come back in so many seconds".

mod budget;
mod client;
mod fair;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

pub(crate) use client::client_address;
pub(crate) use fair::Shares;

use self::budget::Budget;
use crate::body::Room;
use crate::failure::Failure;
use crate::{Api, Peer};

/// What clients may ask for, and how much at a time. Absent limits are not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// Requests to `/enroll` and `/scep` of one client address, a minute. An IPv6 address counts as its /64. Clients on
    /// this machine, and those behind a proxy that does not pass their address on, are not counted.
    pub enrollments_per_minute: Option<NonZeroU32>,
    /// Attempts to sign in with one user name of a tenant, a minute.
    pub sign_ins_per_minute: Option<NonZeroU32>,
    /// Wrong administrators' tokens of one client address, a minute.
    pub wrong_tokens_per_minute: Option<NonZeroU32>,
    /// Device messages of one tenant that are worked on at the same time. Further ones wait for their turn.
    pub device_messages_at_once: usize,
    /// How many bytes of large messages of devices may be in memory at the same time, over all clients. Further ones are
    /// answered 503; small ones need no room.
    pub device_bodies: usize,
    /// How long a device message waits for its turn before it is told to come again.
    pub turn: Duration,
}

impl Default for RateLimits {
    /// 3,000 enrollments, 20 sign-ins and 30 wrong tokens a minute; 512 device messages at once, which wait up to 5 s;
    /// 256 MiB for large messages.
    fn default() -> Self {
        Self {
            enrollments_per_minute: NonZeroU32::new(3_000),
            sign_ins_per_minute: NonZeroU32::new(20),
            wrong_tokens_per_minute: NonZeroU32::new(30),
            device_messages_at_once: 512,
            device_bodies: 256 << 20,
            turn: Duration::from_secs(5),
        }
    }
}

/// The budgets of a running server.
#[derive(Debug)]
pub(crate) struct Throttles {
    enrollments: Budget<IpAddr>,
    sign_ins: Budget<(Box<str>, Box<str>)>,
    wrong_tokens: Budget<IpAddr>,
    pub(crate) shares: Shares,
    /// For bodies of devices' messages.
    pub(crate) room: Room,
}

impl Throttles {
    pub(crate) fn new(limits: &RateLimits) -> Self {
        Self {
            enrollments: Budget::new(limits.enrollments_per_minute),
            sign_ins: Budget::new(limits.sign_ins_per_minute),
            wrong_tokens: Budget::new(limits.wrong_tokens_per_minute),
            shares: Shares::new(limits.device_messages_at_once, limits.turn),
            room: Room::new(limits.device_bodies),
        }
    }

    /// A stranger asks for something that costs.
    pub(crate) fn enrollment(&self, client: Option<IpAddr>) -> Result<(), Failure> {
        match client.filter(|client| !client.is_loopback()) {
            Some(client) => self
                .enrollments
                .take(network(client))
                .map_err(|after| too_many("too many requests for enrollment from this address", after)),
            None => Ok(()),
        }
    }

    /// Somebody tries a password. Counted by name, so that guesses from many addresses are slow, too.
    pub(crate) fn sign_in(&self, tenant: &str, user_name: &str) -> Result<(), Failure> {
        // Directories do not tell upper from lower case.
        let name = user_name.trim().to_lowercase();
        self.sign_ins
            .take((tenant.into(), name.into()))
            .map_err(|after| too_many("too many attempts to sign in with this name", after))
    }

    /// Somebody showed a token that is not known.
    pub(crate) fn wrong_token(&self, client: Option<IpAddr>) -> Result<(), Failure> {
        match client {
            Some(client) => self
                .wrong_tokens
                .take(network(client))
                .map_err(|after| too_many("too many unknown tokens from this address", after)),
            None => Ok(()),
        }
    }
}

fn too_many(message: &'static str, after: Duration) -> Failure {
    Failure::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", message).retry_after(after)
}

/// Around routes that anybody may ask.
pub(crate) async fn strangers(State(api): State<Api>, request: Request, next: Next) -> Response {
    let client = client_address(
        &api.settings.proxy,
        request.extensions().get::<Peer>(),
        request.headers(),
    );
    match api.throttles.enrollment(client) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.in_text().into_response(),
    }
}

/// What counts as one client: an IPv4 address, or the /64 that an IPv6 client can choose its addresses from.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_ipv6_client_counts_as_its_network() {
        let of = |address: &str| network(address.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }

    #[test]
    fn names_are_counted_without_case_and_by_tenant() {
        let throttles = Throttles::new(&RateLimits {
            sign_ins_per_minute: NonZeroU32::new(2),
            ..RateLimits::default()
        });
        assert!(throttles.sign_in("default", "Anna").is_ok());
        assert!(throttles.sign_in("default", "anna ").is_ok());
        assert!(throttles.sign_in("default", "ANNA").is_err());
        assert!(throttles.sign_in("other", "anna").is_ok());
        assert!(throttles.sign_in("default", "bert").is_ok());
    }

    #[test]
    fn clients_on_this_machine_are_not_counted_as_enrollments() {
        let throttles = Throttles::new(&RateLimits {
            enrollments_per_minute: NonZeroU32::new(1),
            ..RateLimits::default()
        });
        let (local, remote) = ("127.0.0.1".parse().unwrap(), "192.0.2.1".parse().unwrap());
        for _ in 0..3 {
            assert!(throttles.enrollment(Some(local)).is_ok());
        }
        assert!(throttles.enrollment(Some(remote)).is_ok());
        assert!(throttles.enrollment(Some(remote)).is_err());
    }
}
