//! The media types of device management, and how to compare one that arrived with one of them.

/// What a device sends check-in messages as (`PUT` to `CheckInURL`).
pub const CHECK_IN: &str = "application/x-apple-aspen-mdm-checkin";

/// What a device sends command results as (`PUT` to `ServerURL`); it may add `; charset=UTF-8`.
pub const CONNECT: &str = "application/x-apple-aspen-mdm";

/// A configuration profile, and so the answer to an enrollment request.
pub const PROFILE: &str = "application/x-apple-aspen-config";

/// A property list in XML: answers to check-in and connect messages, and refusal bodies.
pub const PLIST: &str = "application/xml";

/// JSON: declarative management answers, refusal bodies, service discovery.
pub const JSON: &str = "application/json";

/// A CMS message: the body of an automated enrollment request.
pub const PKCS7_SIGNATURE: &str = "application/pkcs7-signature";

/// Whether the value of a `Content-Type` header names `media_type`, whatever its parameters and letter case.
pub fn is(header: &str, media_type: &str) -> bool {
    let essence = header.split_once(';').map_or(header, |(essence, _)| essence);
    essence.trim().eq_ignore_ascii_case(media_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_and_case_do_not_matter() {
        assert!(is("application/x-apple-aspen-mdm; charset=UTF-8", CONNECT));
        assert!(is(" Application/X-Apple-Aspen-MDM-CheckIn", CHECK_IN));
        assert!(!is("application/x-apple-aspen-mdm-checkin", CONNECT));
        assert!(!is("", CONNECT));
    }
}
