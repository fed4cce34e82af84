//! The devices that `inventory` handed out in a call: a handle of the guest is a number into this.

use wasmtime::component::Resource;

use crate::bindings::{DeviceHandle, PersonHandle};
use crate::limits::Violation;
use crate::ports::FoundDevice;

/// The most devices that a call holds at once. A plugin that goes through a whole fleet drops them page by page.
const MAX_HELD: usize = 4_096;

/// Devices with their persons. Number 0 is the device of the call's own question, and never in here.
#[derive(Debug, Default)]
pub(crate) struct Found {
    places: Vec<Place>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Place {
    device: Option<Box<FoundDevice>>,
    /// How many handles the guest holds on it.
    handles: u8,
}

impl Found {
    /// Hands a device out, with its person if that is known.
    ///
    /// # Errors
    /// The guest holds too many already.
    pub(crate) fn hand_out(
        &mut self,
        found: FoundDevice,
    ) -> wasmtime::Result<(Resource<DeviceHandle>, Option<Resource<PersonHandle>>)> {
        let has_person = found.person.is_some();
        let place = Place {
            device: Some(Box::new(found)),
            handles: 1 + u8::from(has_person),
        };
        let index = match self.free.pop() {
            Some(index) => {
                self.places[index as usize] = place;
                index
            }
            None if self.places.len() >= MAX_HELD => return Err(Violation::HeldDevices(MAX_HELD).into()),
            None => {
                self.places.push(place);
                (self.places.len() - 1) as u32
            }
        };
        let number = index + 1;
        Ok((Resource::new_own(number), has_person.then(|| Resource::new_own(number))))
    }

    /// The device of a number other than 0.
    pub(crate) fn get(&self, number: u32) -> Option<&FoundDevice> {
        self.places.get(number.checked_sub(1)? as usize)?.device.as_deref()
    }

    /// The guest dropped a handle.
    pub(crate) fn dropped(&mut self, number: u32) {
        let Some(index) = number.checked_sub(1) else {
            return;
        };
        let Some(place) = self.places.get_mut(index as usize) else {
            return;
        };
        place.handles = place.handles.saturating_sub(1);
        if place.handles == 0 && place.device.take().is_some() {
            self.free.push(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use russet_hooks::{Device, Person};

    use super::{Found, MAX_HELD};
    use crate::ports::FoundDevice;

    fn device(serial: &str, person: bool) -> FoundDevice {
        FoundDevice {
            device: Device {
                serial_number: Some(serial.to_owned()),
                ..Device::default()
            },
            person: person.then(Person::default),
        }
    }

    #[test]
    fn a_place_is_used_again_when_both_handles_are_gone() {
        let mut found = Found::default();
        let (one, person) = found.hand_out(device("one", true)).unwrap();
        let (two, nobody) = found.hand_out(device("two", false)).unwrap();
        assert!(person.is_some() && nobody.is_none());
        assert_ne!((one.rep(), 0), (two.rep(), 0));
        found.dropped(one.rep());
        assert!(found.get(one.rep()).is_some(), "the person's handle still holds it");
        found.dropped(person.unwrap().rep());
        assert!(found.get(one.rep()).is_none());
        let (three, _) = found.hand_out(device("three", false)).unwrap();
        assert_eq!(three.rep(), one.rep());
        assert_eq!(
            found.get(three.rep()).unwrap().device.serial_number.as_deref(),
            Some("three")
        );
        assert_eq!(
            found.get(two.rep()).unwrap().device.serial_number.as_deref(),
            Some("two")
        );
        assert!(found.get(0).is_none());
    }

    #[test]
    fn a_call_holds_so_many_and_no_more() {
        let mut found = Found::default();
        let mut last = 0;
        for number in 0..MAX_HELD {
            last = found.hand_out(device(&number.to_string(), false)).unwrap().0.rep();
        }
        assert!(found.hand_out(device("more", false)).is_err());
        found.dropped(last);
        assert!(found.hand_out(device("more", false)).is_ok());
    }
}
