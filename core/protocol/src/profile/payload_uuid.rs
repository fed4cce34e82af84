//! Payload UUIDs that depend on what they name, so that the same profile downloaded twice replaces itself.

use uuid::{Builder, Uuid};

/// A UUID that is the same for the same parts and another for others (version 8, RFC 9562 section 5.8). Not secret and
/// no proof of anything: the parts are hashed without cryptography (FNV-1a, 128 bits).
pub fn payload_uuid(parts: &[&[u8]]) -> Uuid {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let mut hash = OFFSET;
    let mut mix = |byte: u8| hash = (hash ^ u128::from(byte)).wrapping_mul(PRIME);
    for part in parts {
        // The length first, so that parts cannot run into each other.
        (part.len() as u64).to_be_bytes().into_iter().for_each(&mut mix);
        part.iter().copied().for_each(&mut mix);
    }
    Builder::from_custom_bytes(hash.to_be_bytes()).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_parts_same_uuid() {
        let first = payload_uuid(&[b"com.example.mdm", b"scep"]);
        assert_eq!(first, payload_uuid(&[b"com.example.mdm", b"scep"]));
        assert_eq!(first.get_version_num(), 8);
        for other in [
            &[&b"com.example.mdmscep"[..]][..],
            &[b"com.example.mdm", b"mdm"],
            &[b"com.example.md", b"mscep"],
        ] {
            assert_ne!(first, payload_uuid(other));
        }
    }
}
