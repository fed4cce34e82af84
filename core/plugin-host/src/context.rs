//! The interface `context`: what a plugin reads of the question it is asked.
//!
//! Every getter counts as a host call. They read memory that the request already holds, so none of them waits. A handle on a
//! device or person carries a number: 0 is that of the question, others were handed out by `inventory` in the same call.

use russet_hooks::{
    CommandRequest, Device, EnrollmentRequest, EscrowRequest, Event, Ownership, Person, PlanRequest, Requester,
    ScheduledRun, TemplateRequest,
};
use wasmtime::Result;
use wasmtime::component::Resource;

use crate::bindings::russet::plugin::context as wit;
use crate::bindings::{
    CommandRequestHandle, DeviceHandle, EnrollmentRequestHandle, EscrowRequestHandle, EventHandle, PersonHandle,
    PlanRequestHandle, ScheduledRunHandle, TemplateRequestHandle,
};
use crate::state::{CallState, Subject};

/// The number of what belongs to the question of the call.
const OWN: u32 = 0;

/// The handle that a hook is called with.
pub(crate) fn borrowed<T: 'static>() -> Resource<T> {
    Resource::new_borrow(OWN)
}

/// The question of the call, as what it has to be for a handle on it to exist.
macro_rules! question {
    ($name:ident, $variant:ident, $request:ty, $what:literal) => {
        fn $name(&mut self) -> Result<&$request> {
            self.count_host_call()?;
            match &self.subject {
                Subject::$variant(request) => Ok(request),
                _ => Err(wasmtime::format_err!(concat!("the call is not about ", $what))),
            }
        }
    };
}

impl CallState {
    question!(enrollment, Enrollment, EnrollmentRequest, "an enrollment");
    question!(escrow, Escrow, EscrowRequest, "an escrowed secret");
    question!(template, Template, TemplateRequest, "a template");
    question!(command, Command, CommandRequest, "a command");
    question!(plan, Plan, PlanRequest, "a plan");
    question!(event, Event, Event, "an event");
    question!(scheduled, Run, ScheduledRun, "scheduled work");

    fn device(&mut self, number: u32) -> Result<&Device> {
        self.count_host_call()?;
        let device = match number {
            OWN => self.subject.device(),
            other => self.found.get(other).map(|found| &found.device),
        };
        device.ok_or_else(|| wasmtime::format_err!("there is no such device in this call"))
    }

    fn person(&mut self, number: u32) -> Result<&Person> {
        self.count_host_call()?;
        let person = match number {
            OWN => self.subject.person(),
            other => self.found.get(other).and_then(|found| found.person.as_ref()),
        };
        person.ok_or_else(|| wasmtime::format_err!("there is no such person in this call"))
    }

    fn device_handle(&mut self) -> Result<Option<Resource<DeviceHandle>>> {
        self.count_host_call()?;
        Ok(self.subject.device().map(|_| Resource::new_own(OWN)))
    }

    fn known_device_handle(&mut self) -> Result<Resource<DeviceHandle>> {
        self.device_handle()?
            .ok_or_else(|| wasmtime::format_err!("the call is not about a device"))
    }

    fn person_handle(&mut self) -> Result<Option<Resource<PersonHandle>>> {
        self.count_host_call()?;
        Ok(self.subject.person().map(|_| Resource::new_own(OWN)))
    }

    fn tenant(&mut self) -> Result<String> {
        self.count_host_call()?;
        Ok(self.scope.tenant.as_ref().to_owned())
    }
}

fn requester(requester: &Requester) -> wit::Requester {
    match requester {
        Requester::Device => wit::Requester::Device,
        Requester::Administrator(name) => wit::Requester::Administrator(name.clone()),
        Requester::Plugin(name) => wit::Requester::Plugin(name.clone()),
        Requester::Server => wit::Requester::Server,
    }
}

/// A time as plugins read it: times before 1970 do not happen.
fn milliseconds(time: i64) -> u64 {
    u64::try_from(time).unwrap_or_default()
}

impl wit::Host for CallState {}

impl wit::HostDevice for CallState {
    fn udid(&mut self, handle: Resource<DeviceHandle>) -> Result<Option<String>> {
        Ok(self.device(handle.rep())?.udid.clone())
    }

    fn serial_number(&mut self, handle: Resource<DeviceHandle>) -> Result<Option<String>> {
        Ok(self.device(handle.rep())?.serial_number.clone())
    }

    fn product_name(&mut self, handle: Resource<DeviceHandle>) -> Result<Option<String>> {
        Ok(self.device(handle.rep())?.product_name.clone())
    }

    fn model(&mut self, handle: Resource<DeviceHandle>) -> Result<Option<String>> {
        Ok(self.device(handle.rep())?.model.clone())
    }

    fn model_name(&mut self, handle: Resource<DeviceHandle>) -> Result<Option<String>> {
        Ok(self.device(handle.rep())?.model_name.clone())
    }

    fn device_name(&mut self, handle: Resource<DeviceHandle>) -> Result<Option<String>> {
        Ok(self.device(handle.rep())?.device_name.clone())
    }

    fn os_version(&mut self, handle: Resource<DeviceHandle>) -> Result<Option<String>> {
        Ok(self.device(handle.rep())?.os_version.clone())
    }

    fn build_version(&mut self, handle: Resource<DeviceHandle>) -> Result<Option<String>> {
        Ok(self.device(handle.rep())?.build_version.clone())
    }

    fn imei(&mut self, handle: Resource<DeviceHandle>) -> Result<Option<String>> {
        Ok(self.device(handle.rep())?.imei.clone())
    }

    fn meid(&mut self, handle: Resource<DeviceHandle>) -> Result<Option<String>> {
        Ok(self.device(handle.rep())?.meid.clone())
    }

    fn language(&mut self, handle: Resource<DeviceHandle>) -> Result<Option<String>> {
        Ok(self.device(handle.rep())?.language.clone())
    }

    fn enrollment_id(&mut self, handle: Resource<DeviceHandle>) -> Result<Option<String>> {
        Ok(self.device(handle.rep())?.enrollment_id.clone())
    }

    fn attribute(&mut self, handle: Resource<DeviceHandle>, name: String) -> Result<Option<String>> {
        Ok(self.device(handle.rep())?.attributes.get(&name).cloned())
    }

    fn attributes(&mut self, handle: Resource<DeviceHandle>) -> Result<Vec<(String, String)>> {
        Ok(self.device(handle.rep())?.attributes.clone().into_iter().collect())
    }

    fn drop(&mut self, handle: Resource<DeviceHandle>) -> Result<()> {
        self.found.dropped(handle.rep());
        Ok(())
    }
}

impl wit::HostPerson for CallState {
    fn id(&mut self, handle: Resource<PersonHandle>) -> Result<String> {
        Ok(self.person(handle.rep())?.id.clone())
    }

    fn user_name(&mut self, handle: Resource<PersonHandle>) -> Result<String> {
        Ok(self.person(handle.rep())?.user_name.clone())
    }

    fn full_name(&mut self, handle: Resource<PersonHandle>) -> Result<Option<String>> {
        Ok(self.person(handle.rep())?.full_name.clone())
    }

    fn email(&mut self, handle: Resource<PersonHandle>) -> Result<Option<String>> {
        Ok(self.person(handle.rep())?.email.clone())
    }

    fn groups(&mut self, handle: Resource<PersonHandle>) -> Result<Vec<String>> {
        Ok(self.person(handle.rep())?.groups.clone())
    }

    fn attribute(&mut self, handle: Resource<PersonHandle>, name: String) -> Result<Vec<String>> {
        let person = self.person(handle.rep())?;
        Ok(person.attributes.get(&name).cloned().unwrap_or_default())
    }

    fn attributes(&mut self, handle: Resource<PersonHandle>) -> Result<Vec<(String, Vec<String>)>> {
        Ok(self.person(handle.rep())?.attributes.clone().into_iter().collect())
    }

    fn drop(&mut self, handle: Resource<PersonHandle>) -> Result<()> {
        self.found.dropped(handle.rep());
        Ok(())
    }
}

impl wit::HostEnrollmentRequest for CallState {
    fn stage(&mut self, _: Resource<EnrollmentRequestHandle>) -> Result<String> {
        Ok(self.enrollment()?.stage.as_str().to_owned())
    }

    fn method(&mut self, _: Resource<EnrollmentRequestHandle>) -> Result<String> {
        Ok(self.enrollment()?.method.as_str().to_owned())
    }

    fn ownership(&mut self, _: Resource<EnrollmentRequestHandle>) -> Result<wit::Ownership> {
        Ok(match self.enrollment()?.ownership {
            Ownership::Organization => wit::Ownership::Organization,
            Ownership::Personal => wit::Ownership::Personal,
            Ownership::Unknown => wit::Ownership::Unknown,
        })
    }

    fn tenant(&mut self, _: Resource<EnrollmentRequestHandle>) -> Result<String> {
        Self::tenant(self)
    }

    fn device(&mut self, _: Resource<EnrollmentRequestHandle>) -> Result<Resource<DeviceHandle>> {
        self.known_device_handle()
    }

    fn person(&mut self, _: Resource<EnrollmentRequestHandle>) -> Result<Option<Resource<PersonHandle>>> {
        self.person_handle()
    }

    fn can_request_software_update(&mut self, _: Resource<EnrollmentRequestHandle>) -> Result<bool> {
        Ok(self.enrollment()?.can_request_software_update)
    }

    fn replaces(&mut self, _: Resource<EnrollmentRequestHandle>) -> Result<Option<String>> {
        Ok(self.enrollment()?.replaces.clone())
    }

    fn drop(&mut self, _: Resource<EnrollmentRequestHandle>) -> Result<()> {
        Ok(())
    }
}

impl wit::HostEscrowRequest for CallState {
    fn kind(&mut self, _: Resource<EscrowRequestHandle>) -> Result<String> {
        Ok(self.escrow()?.kind.as_str().to_owned())
    }

    fn tenant(&mut self, _: Resource<EscrowRequestHandle>) -> Result<String> {
        Self::tenant(self)
    }

    fn device(&mut self, _: Resource<EscrowRequestHandle>) -> Result<Resource<DeviceHandle>> {
        self.known_device_handle()
    }

    fn person(&mut self, _: Resource<EscrowRequestHandle>) -> Result<Option<Resource<PersonHandle>>> {
        self.person_handle()
    }

    fn requester(&mut self, _: Resource<EscrowRequestHandle>) -> Result<wit::Requester> {
        Ok(requester(&self.escrow()?.requester))
    }

    fn age_seconds(&mut self, _: Resource<EscrowRequestHandle>) -> Result<Option<u64>> {
        Ok(self.escrow()?.age_seconds)
    }

    fn drop(&mut self, _: Resource<EscrowRequestHandle>) -> Result<()> {
        Ok(())
    }
}

impl wit::HostTemplateRequest for CallState {
    fn name(&mut self, _: Resource<TemplateRequestHandle>) -> Result<String> {
        Ok(Self::template(self)?.name.clone())
    }

    fn template(&mut self, _: Resource<TemplateRequestHandle>) -> Result<String> {
        Ok(Self::template(self)?.template.clone())
    }

    fn tenant(&mut self, _: Resource<TemplateRequestHandle>) -> Result<String> {
        Self::tenant(self)
    }

    fn device(&mut self, _: Resource<TemplateRequestHandle>) -> Result<Resource<DeviceHandle>> {
        self.known_device_handle()
    }

    fn person(&mut self, _: Resource<TemplateRequestHandle>) -> Result<Option<Resource<PersonHandle>>> {
        self.person_handle()
    }

    fn variables(&mut self, _: Resource<TemplateRequestHandle>) -> Result<String> {
        Ok(Self::template(self)?.variables.clone())
    }

    fn drop(&mut self, _: Resource<TemplateRequestHandle>) -> Result<()> {
        Ok(())
    }
}

impl wit::HostCommandRequest for CallState {
    fn stage(&mut self, _: Resource<CommandRequestHandle>) -> Result<String> {
        Ok(Self::command(self)?.stage.as_str().to_owned())
    }

    fn tenant(&mut self, _: Resource<CommandRequestHandle>) -> Result<String> {
        Self::tenant(self)
    }

    fn uuid(&mut self, _: Resource<CommandRequestHandle>) -> Result<String> {
        Ok(Self::command(self)?.uuid.clone())
    }

    fn request_type(&mut self, _: Resource<CommandRequestHandle>) -> Result<String> {
        Ok(Self::command(self)?.request_type.clone())
    }

    fn command(&mut self, _: Resource<CommandRequestHandle>) -> Result<String> {
        Ok(Self::command(self)?.command.as_ref().to_owned())
    }

    fn destructive(&mut self, _: Resource<CommandRequestHandle>) -> Result<bool> {
        Ok(Self::command(self)?.destructive)
    }

    fn requester(&mut self, _: Resource<CommandRequestHandle>) -> Result<wit::Requester> {
        Ok(requester(&Self::command(self)?.requester))
    }

    fn approved_by(&mut self, _: Resource<CommandRequestHandle>) -> Result<Option<String>> {
        Ok(Self::command(self)?.approved_by.clone())
    }

    fn targets(&mut self, _: Resource<CommandRequestHandle>) -> Result<u32> {
        Ok(Self::command(self)?.targets)
    }

    fn device(&mut self, _: Resource<CommandRequestHandle>) -> Result<Option<Resource<DeviceHandle>>> {
        self.device_handle()
    }

    fn person(&mut self, _: Resource<CommandRequestHandle>) -> Result<Option<Resource<PersonHandle>>> {
        self.person_handle()
    }

    fn drop(&mut self, _: Resource<CommandRequestHandle>) -> Result<()> {
        Ok(())
    }
}

impl wit::HostPlanRequest for CallState {
    fn tenant(&mut self, _: Resource<PlanRequestHandle>) -> Result<String> {
        Self::tenant(self)
    }

    fn device(&mut self, _: Resource<PlanRequestHandle>) -> Result<Resource<DeviceHandle>> {
        self.known_device_handle()
    }

    fn person(&mut self, _: Resource<PlanRequestHandle>) -> Result<Option<Resource<PersonHandle>>> {
        self.person_handle()
    }

    fn status(&mut self, _: Resource<PlanRequestHandle>, item: String) -> Result<Option<String>> {
        Ok(self.plan()?.status.get(&item).cloned())
    }

    fn drop(&mut self, _: Resource<PlanRequestHandle>) -> Result<()> {
        Ok(())
    }
}

impl wit::HostEvent for CallState {
    fn id(&mut self, _: Resource<EventHandle>) -> Result<u64> {
        Ok(self.event()?.id)
    }

    fn kind(&mut self, _: Resource<EventHandle>) -> Result<String> {
        Ok(self.event()?.kind.clone())
    }

    fn time_ms(&mut self, _: Resource<EventHandle>) -> Result<u64> {
        Ok(milliseconds(self.event()?.time))
    }

    fn tenant(&mut self, _: Resource<EventHandle>) -> Result<String> {
        Self::tenant(self)
    }

    fn device(&mut self, _: Resource<EventHandle>) -> Result<Option<Resource<DeviceHandle>>> {
        self.device_handle()
    }

    fn person(&mut self, _: Resource<EventHandle>) -> Result<Option<Resource<PersonHandle>>> {
        self.person_handle()
    }

    fn detail(&mut self, _: Resource<EventHandle>) -> Result<String> {
        Ok(self.event()?.detail.clone())
    }

    fn attempt(&mut self, _: Resource<EventHandle>) -> Result<u32> {
        Ok(self.event()?.attempt)
    }

    fn drop(&mut self, _: Resource<EventHandle>) -> Result<()> {
        Ok(())
    }
}

impl wit::HostScheduledRun for CallState {
    fn name(&mut self, _: Resource<ScheduledRunHandle>) -> Result<String> {
        Ok(self.scheduled()?.name.clone())
    }

    fn tenant(&mut self, _: Resource<ScheduledRunHandle>) -> Result<String> {
        Self::tenant(self)
    }

    fn due_ms(&mut self, _: Resource<ScheduledRunHandle>) -> Result<u64> {
        Ok(milliseconds(self.scheduled()?.due))
    }

    fn payload(&mut self, _: Resource<ScheduledRunHandle>) -> Result<String> {
        Ok(self.scheduled()?.payload.clone())
    }

    fn attempt(&mut self, _: Resource<ScheduledRunHandle>) -> Result<u32> {
        Ok(self.scheduled()?.attempt)
    }

    fn drop(&mut self, _: Resource<ScheduledRunHandle>) -> Result<()> {
        Ok(())
    }
}
