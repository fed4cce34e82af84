//! `observer`: reacts to what happened, after it was committed.

use serde::de::DeserializeOwned;

use crate::bindings::russet::plugin::context as host;
use crate::input::{input, open_list};
use crate::{Device, Error, Person};

/// Reacts to events: each at least once, those of one enrollment in their order. What it does, it does through
/// [`effects`](crate::effects). Which kinds it takes is written in `plugin.toml` (`events`).
pub trait Observer {
    /// The plugin's settings; `()` if it has none.
    type Settings: DeserializeOwned + 'static;

    /// Takes an event. The same event may come again ([`Event::id`] tells).
    ///
    /// # Errors
    ///
    /// An error means that the event is to be tried again, later; events of the same enrollment wait behind it. After the
    /// operator's number of tries it is parked and shown.
    fn observe(settings: Self::Settings, event: &Event<'_>) -> Result<(), Error>;
}

open_list! {
    /// What happened.
    Kind {
        /// A device began to enroll.
        Authenticated = "enrollment.authenticated",
        /// A device has enrolled.
        Enrolled = "enrollment.enrolled",
        /// A device gave another push token.
        TokenUpdated = "enrollment.token-updated",
        /// A device took itself out of management.
        CheckedOut = "enrollment.checked-out",
        /// A command was queued.
        CommandQueued = "command.queued",
        /// A device answered a command.
        CommandAnswered = "command.answered",
        /// A device reported on its declarations.
        DeclarationStatus = "declaration.status",
        /// A device could not be woken.
        PushFailed = "push.failed",
        /// A secret was handed over.
        EscrowDeposited = "escrow.deposited",
        /// A secret was handed out.
        EscrowReleased = "escrow.released",
    }
}

input! {
    /// Something that happened, after it was committed.
    Event, EventBuilder, Event;
    /// Its number. Numbers grow, with gaps; the same event has the same number each time it is handed over.
    id: value<u64>;
    /// What happened. Events that plugins emit are [`Kind::Other`], `plugin.NAME.…`.
    kind: value<Kind>;
    /// When, in milliseconds since 1970-01-01T00:00:00Z.
    time_ms: value<u64>;
    /// The name of the tenant.
    tenant: text;
    /// The device, if it is about one.
    device: maybe<Device>;
    /// The person behind the enrollment, if known.
    person: maybe<Person>;
    /// More, as a JSON object: which keys there are depends on the kind.
    detail: text;
    /// How often it was handed over before: 0 the first time.
    attempt: value<u32>;
}

impl Event<'_> {
    /// An event in memory, for tests: at first number 1, about no device of the tenant `default`, without details.
    pub fn builder(kind: impl Into<Kind>) -> EventBuilder {
        EventBuilder(Memory {
            id: 1,
            kind: kind.into(),
            time_ms: 0,
            tenant: "default".to_owned(),
            device: None,
            person: None,
            detail: "{}".to_owned(),
            attempt: 0,
        })
    }

    /// The details, parsed.
    ///
    /// # Errors
    ///
    /// If they do not fit the type.
    pub fn detail_as<T: DeserializeOwned>(&self) -> Result<T, Error> {
        Ok(serde_json::from_str(&self.detail())?)
    }
}

/// What the macro calls.
#[doc(hidden)]
pub fn __observe<O: Observer>(event: &host::Event) -> Result<(), String> {
    crate::glue::call(|settings| O::observe(settings, &Event(Source::Host(event))))
}

/// Exports a type as the plugin's observer.
///
/// The type implements [`observer::Observer`](crate::observer::Observer).
#[macro_export]
macro_rules! observer {
    ($observer:ty) => {
        $crate::__export!(observer, $crate::observer::Observer, $observer, {
            fn observe(event: &$crate::bindings::russet::plugin::context::Event) -> Result<(), String> {
                $crate::observer::__observe::<$observer>(event)
            }
        });
    };
}
