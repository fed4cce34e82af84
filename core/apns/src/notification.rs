//! One push, and how it looks on the wire (Apple: "Sending notification requests to APNs").

use std::fmt;

use a2::request::notification::{NotificationOptions, Priority, PushType};
use a2::request::payload::PayloadLike;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::Full;
use jiff::Timestamp;
use serde::Serialize;

use crate::error::{PushError, Reason};

/// A request to wake one device.
#[derive(Clone, PartialEq, Eq)]
pub struct Push {
    /// The device token of the last TokenUpdate, as bytes.
    pub token: Vec<u8>,
    /// The push magic of the last TokenUpdate.
    pub magic: String,
    /// Until when APNs keeps the push for a device that is offline; `None` takes
    /// [`ClientOptions::lifetime`](crate::ClientOptions).
    pub expiration: Option<Timestamp>,
}

impl Push {
    /// A push that APNs keeps as long as the client's options say.
    pub fn new(token: impl Into<Vec<u8>>, magic: impl Into<String>) -> Self {
        Self {
            token: token.into(),
            magic: magic.into(),
            expiration: None,
        }
    }
}

/// Token and magic together are what it takes to wake a device, so neither is shown.
impl fmt::Debug for Push {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Push")
            .field("expiration", &self.expiration)
            .finish_non_exhaustive()
    }
}

/// A push that APNs has taken. Whether and when the device sees it, APNs does not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// APNs's identifier of the push, for enquiries with Apple.
    pub apns_id: Option<String>,
}

/// The MDM notification in the notification model: a body with the magic alone, beside the options that become headers.
#[derive(Serialize)]
pub(crate) struct MdmNotification<'a> {
    mdm: &'a str,
    #[serde(skip)]
    device_token: String,
    #[serde(skip)]
    options: NotificationOptions<'a>,
}

/// The trait asks for `Debug`; nothing of a notification may be shown.
impl fmt::Debug for MdmNotification<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MdmNotification").finish_non_exhaustive()
    }
}

impl PayloadLike for MdmNotification<'_> {
    fn get_device_token(&self) -> &str {
        &self.device_token
    }

    fn get_options(&self) -> &NotificationOptions<'_> {
        &self.options
    }
}

impl<'a> MdmNotification<'a> {
    /// `expiration` is where the client's default has been filled in.
    pub(crate) fn new(push: &'a Push, topic: &'a str, expiration: Timestamp) -> Self {
        Self {
            mdm: &push.magic,
            device_token: hex::encode(&push.token),
            options: NotificationOptions {
                apns_push_type: Some(PushType::Mdm),
                // Before 1970 means what 0 means: try once, do not store.
                apns_expiration: Some(u64::try_from(expiration.as_second()).unwrap_or(0)),
                apns_priority: Some(Priority::High),
                apns_topic: Some(topic),
                ..NotificationOptions::default()
            },
        }
    }

    /// The HTTP/2 request to `authority` (host, and port unless it is 443).
    pub(crate) fn to_request(&self, authority: &str) -> Result<Request<Full<Bytes>>, PushError> {
        let malformed = |_| PushError::Configuration {
            reason: Reason::of("request cannot be encoded"),
        };
        let token = self.get_device_token();
        if token.is_empty() {
            return Err(PushError::Configuration {
                reason: Reason::of("MissingDeviceToken"),
            });
        }
        let body = self.to_json_string().map_err(|_| PushError::Configuration {
            reason: Reason::of("request cannot be encoded"),
        })?;
        let uri = Uri::builder()
            .scheme("https")
            .authority(authority)
            .path_and_query(format!("/3/device/{token}"))
            .build()
            .map_err(malformed)?;
        let options = self.get_options();
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(uri)
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(topic) = options.apns_topic {
            request = request.header("apns-topic", topic);
        }
        if let Some(push_type) = options.apns_push_type {
            request = request.header("apns-push-type", push_type.to_string());
        }
        if let Some(expiration) = options.apns_expiration {
            request = request.header("apns-expiration", expiration);
        }
        if let Some(priority) = &options.apns_priority {
            request = request.header("apns-priority", priority.to_string());
        }
        request.body(Full::new(Bytes::from(body))).map_err(malformed)
    }
}
