//! X.509 times to and from [`jiff::Timestamp`] (RFC 5280 section 4.1.2.5). Whole seconds; knows no clock.

use der::asn1::{GeneralizedTime, UtcTime};
use der::{Decode, Encode};
use jiff::Timestamp;

use crate::asn1::{Asn1Error, Element, GENERALIZED_TIME, UTC_TIME};

/// The last second of the last year that UTCTime can say: 2049-12-31T23:59:59Z.
const LAST_UTC_TIME: i64 = 2_524_607_999;

/// Reads a UTCTime or GeneralizedTime. The "no expiry" date 9999-12-31 becomes the last timestamp that jiff has.
pub(crate) fn parse(element: Element<'_>) -> Result<Timestamp, Asn1Error> {
    let since_epoch = match element.tag {
        UTC_TIME => UtcTime::from_der(element.raw).map(|time| time.to_unix_duration()),
        GENERALIZED_TIME => GeneralizedTime::from_der(element.raw).map(|time| time.to_unix_duration()),
        _ => return Err(Asn1Error("expected a time")),
    }
    .map_err(|_| Asn1Error("invalid time"))?;
    let seconds = i64::try_from(since_epoch.as_secs()).map_err(|_| Asn1Error("time out of range"))?;
    Ok(Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX))
}

/// Encodes as RFC 5280 says: UTCTime through 2049, GeneralizedTime from 2050; fractions of a second are dropped.
pub(crate) fn encode(time: Timestamp) -> Result<Vec<u8>, Asn1Error> {
    let seconds = time.as_second();
    let unsigned = u64::try_from(seconds).map_err(|_| Asn1Error("time before 1970"))?;
    let duration = std::time::Duration::from_secs(unsigned);
    if seconds <= LAST_UTC_TIME {
        UtcTime::from_unix_duration(duration).and_then(|time| time.to_der())
    } else {
        GeneralizedTime::from_unix_duration(duration).and_then(|time| time.to_der())
    }
    .map_err(|_| Asn1Error("time out of range"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn round_trips_on_both_sides_of_2050() {
        for (text, tag) in [
            ("1970-01-01T00:00:00Z", UTC_TIME),
            ("2049-12-31T23:59:59Z", UTC_TIME),
            ("2050-01-01T00:00:00Z", GENERALIZED_TIME),
        ] {
            let time: Timestamp = text.parse().unwrap();
            let encoded = encode(time).unwrap();
            assert_eq!(encoded[0], tag, "{text}");
            assert_eq!(parse(Element::only(&encoded).unwrap()).unwrap(), time);
        }
    }

    #[test]
    fn the_date_that_means_never_is_clamped() {
        let encoded = crate::asn1::tlv(GENERALIZED_TIME, b"99991231235959Z");
        assert_eq!(parse(Element::only(&encoded).unwrap()).unwrap(), Timestamp::MAX);
    }
}
