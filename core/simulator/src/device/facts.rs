//! What a simulated device is: its model, names and numbers, as the real one would tell them.

use std::fmt;

use uuid::Uuid;

/// The kind of hardware, which decides what a device tells and how it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Platform {
    /// A Mac with Apple silicon.
    Mac,
    /// An iPhone.
    IPhone,
    /// An iPad.
    IPad,
}

impl Platform {
    /// Whether the device runs macOS; the others run iOS or what came from it.
    pub fn is_mac(self) -> bool {
        matches!(self, Self::Mac)
    }

    /// What the management client of this platform calls itself in `User-Agent`.
    pub(crate) fn user_agent(self) -> &'static str {
        match self {
            Self::Mac => "MDM-OSX/1.0 mdmclient/1500",
            Self::IPhone | Self::IPad => "MDM/1.0",
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mac => "Mac",
            Self::IPhone => "iPhone",
            Self::IPad => "iPad",
        })
    }
}

/// What a device tells about itself. Every field can be set; [`DeviceFacts::new`] fills in a plausible device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceFacts {
    /// The kind of hardware.
    pub platform: Platform,
    /// The serial number.
    pub serial_number: String,
    /// The hardware identifier, spelled as the platform does.
    pub udid: String,
    /// The name that the owner gave it.
    pub device_name: String,
    /// The identifier of the model, such as `Mac16,1`.
    pub product_name: String,
    /// The order number of the model, such as `MW2U3LL/A`.
    pub model: String,
    /// The name of the model, such as `MacBook Pro`.
    pub model_name: String,
    /// The version of the operating system, such as `26.1`.
    pub os_version: String,
    /// The build of the operating system, such as `25B78`.
    pub build_version: String,
    /// What Apple's list of updates knows the device by.
    pub software_update_device_id: String,
    /// The International Mobile Equipment Identity of a device with a modem.
    pub imei: Option<String>,
    /// The Mobile Equipment Identifier of a device with a modem.
    pub meid: Option<String>,
    /// The language chosen in Setup Assistant.
    pub language: String,
    /// The address of the Wi-Fi interface.
    pub wifi_mac: String,
    /// The address of the Bluetooth interface.
    pub bluetooth_mac: String,
    /// The capacity of the device in gigabytes.
    pub capacity_gb: u32,
    /// Whether the organization owns and supervises it.
    pub supervised: bool,
    /// Whether it acts on a server's demand to update before it enrolls.
    pub can_request_software_update: bool,
}

impl DeviceFacts {
    /// A plausible device of the platform, with a serial number and identifier of its own.
    pub fn new(platform: Platform) -> Self {
        let random = Uuid::new_v4();
        let bytes = random.as_bytes();
        let hex = hex::encode_upper(bytes);
        let serial_number = serial_number(bytes);
        let mac_address = |last: u8| {
            let [a, b, c, ..] = *bytes;
            format!("f0:18:98:{a:02x}:{b:02x}:{:02x}", c ^ last)
        };
        // Test equipment's type allocation code, then a serial: nobody's real device.
        let digits: String = bytes.iter().take(6).map(|byte| char::from(b'0' + byte % 10)).collect();
        let imei = with_luhn_digit(&format!("00101200{digits}"));
        let mobile = Self {
            platform,
            udid: format!("00008130-{}", &hex[..16]),
            device_name: String::new(),
            product_name: String::new(),
            model: String::new(),
            model_name: String::new(),
            os_version: "26.1".to_owned(),
            build_version: "23B85".to_owned(),
            software_update_device_id: String::new(),
            imei: None,
            meid: None,
            language: "en".to_owned(),
            wifi_mac: mac_address(0),
            bluetooth_mac: mac_address(1),
            capacity_gb: 256,
            supervised: true,
            can_request_software_update: true,
            serial_number,
        };
        match platform {
            Platform::Mac => Self {
                udid: random.hyphenated().to_string().to_uppercase(),
                device_name: format!("MacBook Pro {}", &hex[..4]),
                product_name: "Mac16,1".to_owned(),
                model: "MW2U3LL/A".to_owned(),
                model_name: "MacBook Pro".to_owned(),
                build_version: "25B78".to_owned(),
                software_update_device_id: "J604AP".to_owned(),
                capacity_gb: 512,
                ..mobile
            },
            Platform::IPhone => Self {
                device_name: format!("iPhone {}", &hex[..4]),
                product_name: "iPhone17,3".to_owned(),
                model: "MYEA3LL/A".to_owned(),
                model_name: "iPhone".to_owned(),
                software_update_device_id: "iPhone17,3".to_owned(),
                meid: imei.get(..14).map(str::to_owned),
                imei: Some(imei),
                ..mobile
            },
            Platform::IPad => Self {
                device_name: format!("iPad {}", &hex[..4]),
                product_name: "iPad16,3".to_owned(),
                model: "MVV83LL/A".to_owned(),
                model_name: "iPad".to_owned(),
                software_update_device_id: "iPad16,3".to_owned(),
                ..mobile
            },
        }
    }
}

/// Ten characters without the letters that are mistaken for digits, as Apple's serial numbers since 2021 have.
fn serial_number(random: &[u8; 16]) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789CDFGHJKLMNPQRTVWXYAEBZ";
    random
        .iter()
        .rev()
        .take(10)
        .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]))
        .collect()
}

/// Appends the check digit of ISO/IEC 7812.
fn with_luhn_digit(digits: &str) -> String {
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(position, digit)| {
            let digit = u32::from(digit - b'0');
            let weighted = if position % 2 == 0 { digit * 2 } else { digit };
            weighted / 10 + weighted % 10
        })
        .sum();
    format!("{digits}{}", (10 - sum % 10) % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_differ_and_are_spelled_as_their_platform_does() {
        let (mac, phone) = (DeviceFacts::new(Platform::Mac), DeviceFacts::new(Platform::IPhone));
        assert_ne!(mac.serial_number, DeviceFacts::new(Platform::Mac).serial_number);
        assert_eq!(mac.udid.len(), 36);
        assert_eq!(phone.udid.len(), 25);
        assert_eq!(phone.serial_number.len(), 10);
        assert!(mac.imei.is_none());
        assert_eq!(phone.imei.map(|imei| imei.len()), Some(15));
    }

    #[test]
    fn the_check_digit_is_that_of_a_known_number() {
        assert_eq!(with_luhn_digit("49015420323751"), "490154203237518");
    }
}
