//! Requests that a test makes up: bad input, other methods, other addresses.

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::SimulatedDevice;
use super::error::{DeviceError, Step};
use super::transport::{self, Outgoing, RawResponse};

impl SimulatedDevice {
    /// Sends any request over the device's connection. `target` is a path on the server, or a whole URL. The device's
    /// identity is shown by TLS where its mode says so, and never added to the headers. Any status is an answer.
    ///
    /// # Errors
    /// [`DeviceError::Transport`] when there is no answer.
    pub async fn raw_request(
        &self,
        method: Method,
        target: &str,
        headers: HeaderMap,
        body: impl Into<Bytes>,
    ) -> Result<RawResponse, DeviceError> {
        let url = match target.starts_with('/') {
            true => format!("{}{target}", self.0.settings.server),
            false => target.to_owned(),
        };
        let request = Outgoing {
            step: Step::Raw,
            method,
            url: &url,
            headers,
            body: body.into(),
        };
        transport::send(&self.0.client(), request).await
    }

    /// Sends any bytes as a check-in message, with the device's identity. Any status is an answer, and changes nothing in
    /// the device.
    ///
    /// # Errors
    /// [`DeviceError::Transport`] when there is no answer, [`DeviceError::NotReady`] before there is an identity.
    pub async fn raw_check_in(&self, body: impl Into<Vec<u8>>) -> Result<RawResponse, DeviceError> {
        self.0.channel().send_check_in(Step::Raw, body.into()).await
    }

    /// Sends any bytes as a report, with the device's identity. Any status is an answer, and changes nothing in the
    /// device.
    ///
    /// # Errors
    /// [`DeviceError::Transport`] when there is no answer, [`DeviceError::NotReady`] before there is an identity.
    pub async fn raw_connect(&self, body: impl Into<Vec<u8>>) -> Result<RawResponse, DeviceError> {
        self.0.channel().send_connect(Step::Raw, body.into()).await
    }
}
