//! The interface `context`: what a plugin reads of the question it is asked.
//!
//! Every getter counts as a host call. They read memory that the request already holds, so none of them waits.

use russet_hooks::{
    Device, EnrollmentMethod, EnrollmentRequest, EscrowKind, EscrowRequest, GateStage, Ownership, Person, Requester,
    TemplateRequest,
};
use wasmtime::Result;
use wasmtime::component::Resource;

use crate::bindings::russet::plugin::context as wit;
use crate::bindings::{
    DeviceHandle, EnrollmentRequestHandle, EscrowRequestHandle, PersonHandle, TemplateRequestHandle,
};
use crate::state::{CallState, Subject};

/// The number of every handle: a call has one device, one person, one request.
const ONLY: u32 = 0;

/// The handle that a hook is called with.
pub(crate) fn borrowed<T: 'static>() -> Resource<T> {
    Resource::new_borrow(ONLY)
}

impl CallState {
    fn device(&mut self) -> Result<&Device> {
        self.count_host_call()?;
        self.subject
            .device()
            .ok_or_else(|| wasmtime::format_err!("the call is not about a device"))
    }

    fn person(&mut self) -> Result<&Person> {
        self.count_host_call()?;
        self.subject
            .person()
            .ok_or_else(|| wasmtime::format_err!("the call is not about a person"))
    }

    fn person_handle(&mut self) -> Result<Option<Resource<PersonHandle>>> {
        self.count_host_call()?;
        Ok(self.subject.person().map(|_| Resource::new_own(ONLY)))
    }

    fn enrollment(&mut self) -> Result<&EnrollmentRequest> {
        self.count_host_call()?;
        match &self.subject {
            Subject::Enrollment(request) => Ok(request),
            _ => Err(wasmtime::format_err!("the call is not about an enrollment")),
        }
    }

    fn escrow(&mut self) -> Result<&EscrowRequest> {
        self.count_host_call()?;
        match &self.subject {
            Subject::Escrow(request) => Ok(request),
            _ => Err(wasmtime::format_err!("the call is not about an escrowed secret")),
        }
    }

    fn template(&mut self) -> Result<&TemplateRequest> {
        self.count_host_call()?;
        match &self.subject {
            Subject::Template(request) => Ok(request),
            _ => Err(wasmtime::format_err!("the call is not about a template")),
        }
    }

    fn tenant(&mut self) -> Result<String> {
        self.count_host_call()?;
        Ok(self.scope.tenant.as_ref().to_owned())
    }
}

impl wit::Host for CallState {}

impl wit::HostDevice for CallState {
    fn udid(&mut self, _: Resource<DeviceHandle>) -> Result<Option<String>> {
        Ok(self.device()?.udid.clone())
    }

    fn serial_number(&mut self, _: Resource<DeviceHandle>) -> Result<Option<String>> {
        Ok(self.device()?.serial_number.clone())
    }

    fn product_name(&mut self, _: Resource<DeviceHandle>) -> Result<Option<String>> {
        Ok(self.device()?.product_name.clone())
    }

    fn model(&mut self, _: Resource<DeviceHandle>) -> Result<Option<String>> {
        Ok(self.device()?.model.clone())
    }

    fn model_name(&mut self, _: Resource<DeviceHandle>) -> Result<Option<String>> {
        Ok(self.device()?.model_name.clone())
    }

    fn device_name(&mut self, _: Resource<DeviceHandle>) -> Result<Option<String>> {
        Ok(self.device()?.device_name.clone())
    }

    fn os_version(&mut self, _: Resource<DeviceHandle>) -> Result<Option<String>> {
        Ok(self.device()?.os_version.clone())
    }

    fn build_version(&mut self, _: Resource<DeviceHandle>) -> Result<Option<String>> {
        Ok(self.device()?.build_version.clone())
    }

    fn imei(&mut self, _: Resource<DeviceHandle>) -> Result<Option<String>> {
        Ok(self.device()?.imei.clone())
    }

    fn meid(&mut self, _: Resource<DeviceHandle>) -> Result<Option<String>> {
        Ok(self.device()?.meid.clone())
    }

    fn language(&mut self, _: Resource<DeviceHandle>) -> Result<Option<String>> {
        Ok(self.device()?.language.clone())
    }

    fn enrollment_id(&mut self, _: Resource<DeviceHandle>) -> Result<Option<String>> {
        Ok(self.device()?.enrollment_id.clone())
    }

    fn attribute(&mut self, _: Resource<DeviceHandle>, name: String) -> Result<Option<String>> {
        Ok(self.device()?.attributes.get(&name).cloned())
    }

    fn attributes(&mut self, _: Resource<DeviceHandle>) -> Result<Vec<(String, String)>> {
        Ok(self.device()?.attributes.clone().into_iter().collect())
    }

    fn drop(&mut self, _: Resource<DeviceHandle>) -> Result<()> {
        Ok(())
    }
}

impl wit::HostPerson for CallState {
    fn id(&mut self, _: Resource<PersonHandle>) -> Result<String> {
        Ok(self.person()?.id.clone())
    }

    fn user_name(&mut self, _: Resource<PersonHandle>) -> Result<String> {
        Ok(self.person()?.user_name.clone())
    }

    fn full_name(&mut self, _: Resource<PersonHandle>) -> Result<Option<String>> {
        Ok(self.person()?.full_name.clone())
    }

    fn email(&mut self, _: Resource<PersonHandle>) -> Result<Option<String>> {
        Ok(self.person()?.email.clone())
    }

    fn groups(&mut self, _: Resource<PersonHandle>) -> Result<Vec<String>> {
        Ok(self.person()?.groups.clone())
    }

    fn attribute(&mut self, _: Resource<PersonHandle>, name: String) -> Result<Vec<String>> {
        Ok(self.person()?.attributes.get(&name).cloned().unwrap_or_default())
    }

    fn attributes(&mut self, _: Resource<PersonHandle>) -> Result<Vec<(String, Vec<String>)>> {
        Ok(self.person()?.attributes.clone().into_iter().collect())
    }

    fn drop(&mut self, _: Resource<PersonHandle>) -> Result<()> {
        Ok(())
    }
}

impl wit::HostEnrollmentRequest for CallState {
    fn stage(&mut self, _: Resource<EnrollmentRequestHandle>) -> Result<wit::GateStage> {
        Ok(match self.enrollment()?.stage {
            GateStage::Profile => wit::GateStage::Profile,
            GateStage::Authenticate => wit::GateStage::Authenticate,
            GateStage::Renewal => wit::GateStage::Renewal,
        })
    }

    fn method(&mut self, _: Resource<EnrollmentRequestHandle>) -> Result<wit::EnrollmentMethod> {
        Ok(match self.enrollment()?.method {
            EnrollmentMethod::Automated => wit::EnrollmentMethod::Automated,
            EnrollmentMethod::Manual => wit::EnrollmentMethod::Manual,
        })
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
        Self::device(self)?;
        Ok(Resource::new_own(ONLY))
    }

    fn person(&mut self, _: Resource<EnrollmentRequestHandle>) -> Result<Option<Resource<PersonHandle>>> {
        self.person_handle()
    }

    fn can_request_software_update(&mut self, _: Resource<EnrollmentRequestHandle>) -> Result<bool> {
        Ok(self.enrollment()?.can_request_software_update)
    }

    fn drop(&mut self, _: Resource<EnrollmentRequestHandle>) -> Result<()> {
        Ok(())
    }
}

impl wit::HostEscrowRequest for CallState {
    fn kind(&mut self, _: Resource<EscrowRequestHandle>) -> Result<wit::EscrowKind> {
        Ok(match self.escrow()?.kind {
            EscrowKind::BootstrapToken => wit::EscrowKind::BootstrapToken,
            EscrowKind::UnlockToken => wit::EscrowKind::UnlockToken,
        })
    }

    fn tenant(&mut self, _: Resource<EscrowRequestHandle>) -> Result<String> {
        Self::tenant(self)
    }

    fn device(&mut self, _: Resource<EscrowRequestHandle>) -> Result<Resource<DeviceHandle>> {
        Self::device(self)?;
        Ok(Resource::new_own(ONLY))
    }

    fn person(&mut self, _: Resource<EscrowRequestHandle>) -> Result<Option<Resource<PersonHandle>>> {
        self.person_handle()
    }

    fn requester(&mut self, _: Resource<EscrowRequestHandle>) -> Result<wit::Requester> {
        Ok(match &self.escrow()?.requester {
            Requester::Device => wit::Requester::Device,
            Requester::Administrator(name) => wit::Requester::Administrator(name.clone()),
        })
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
        Ok(self.template()?.name.clone())
    }

    fn template(&mut self, _: Resource<TemplateRequestHandle>) -> Result<String> {
        Ok(Self::template(self)?.template.clone())
    }

    fn tenant(&mut self, _: Resource<TemplateRequestHandle>) -> Result<String> {
        Self::tenant(self)
    }

    fn device(&mut self, _: Resource<TemplateRequestHandle>) -> Result<Resource<DeviceHandle>> {
        Self::device(self)?;
        Ok(Resource::new_own(ONLY))
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
