//! The device that a call is about.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::bindings::russet::plugin::context as host;

/// A device, as far as it is known at the time of the call. Text is as the device reported it.
///
/// ```
/// let device = russet_plugin::Device::builder().serial_number("C02XK1").product_name("Mac15,3").build();
/// assert_eq!(device.serial_number().as_deref(), Some("C02XK1"));
/// assert_eq!(device.os_version(), None);
/// ```
#[derive(Clone, Debug)]
pub struct Device(Source);

#[derive(Clone, Debug)]
enum Source {
    Host(Rc<host::Device>),
    Memory(Rc<Memory>),
}

impl From<host::Device> for Device {
    fn from(device: host::Device) -> Self {
        Self(Source::Host(Rc::new(device)))
    }
}

impl Default for Device {
    fn default() -> Self {
        Self::builder().build()
    }
}

macro_rules! text_values {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        #[derive(Clone, Debug, Default)]
        struct Memory {
            $($name: Option<String>,)*
            attributes: BTreeMap<String, String>,
        }

        impl Device {
            $($(#[$doc])*
            pub fn $name(&self) -> Option<String> {
                match &self.0 {
                    Source::Host(device) => device.$name(),
                    Source::Memory(device) => device.$name.clone(),
                }
            })*
        }

        impl DeviceBuilder {
            $($(#[$doc])*
            #[must_use]
            pub fn $name(mut self, value: impl Into<String>) -> Self {
                self.0.$name = Some(value.into());
                self
            })*
        }
    };
}

text_values! {
    /// The unique device identifier. Absent for user enrollments and before the device is known.
    udid;
    /// The serial number. Absent for user enrollments and before the device is known.
    serial_number;
    /// The product type, such as `Mac15,3` or `iPhone17,1`.
    product_name;
    /// The model number, such as `MR7K3`.
    model;
    /// The name of the model, such as `MacBook Pro`.
    model_name;
    /// The name that its user gave the device.
    device_name;
    /// The version of the operating system, such as `27.1`.
    os_version;
    /// The build of the operating system, such as `27B5032a`.
    build_version;
    /// The IMEI of a cellular device.
    imei;
    /// The MEID of a cellular device.
    meid;
    /// The language chosen during set-up, as a BCP 47 tag.
    language;
    /// The server's identifier of the enrollment. Absent before Authenticate.
    enrollment_id;
}

impl Device {
    /// A device in memory, for tests.
    pub fn builder() -> DeviceBuilder {
        DeviceBuilder::default()
    }

    /// One attribute that the server keeps for the enrollment.
    pub fn attribute(&self, name: &str) -> Option<String> {
        match &self.0 {
            Source::Host(device) => device.attribute(name),
            Source::Memory(device) => device.attributes.get(name).cloned(),
        }
    }

    /// All attributes that the server keeps for the enrollment, sorted by name.
    pub fn attributes(&self) -> Vec<(String, String)> {
        match &self.0 {
            Source::Host(device) => device.attributes(),
            Source::Memory(device) => device.attributes.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        }
    }
}

/// Builds a [`Device`] in memory.
#[derive(Clone, Debug, Default)]
pub struct DeviceBuilder(Memory);

impl DeviceBuilder {
    /// An attribute that the server keeps for the enrollment.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.attributes.insert(name.into(), value.into());
        self
    }

    /// The device.
    pub fn build(self) -> Device {
        Device(Source::Memory(Rc::new(self.0)))
    }
}
