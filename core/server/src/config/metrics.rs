//! Figures for monitoring.

use std::net::SocketAddr;

use super::network::IpRange;
use super::problems::Problems;
use super::settings::settings;

settings! {
    /// Figures in Prometheus' text format, at `http://<listen>/metrics`. A listener of its own, in the clear and without
    /// sign-in: keep it on this machine or in the network of the monitoring.
    pub struct Metrics {
        /// The address to listen on. Left out, no figures are kept.
        listen: Option<SocketAddr> = None => "\"127.0.0.1:9464\"",
        /// Who may ask beside this machine, as ranges like `10.0.0.0/8`.
        allowed: Vec<IpRange> = Vec::new(),
    }
}

impl Metrics {
    pub(super) fn check(&self, problems: &mut Problems) {
        if let Some(listen) = self.listen
            && !listen.ip().is_loopback()
            && self.allowed.is_empty()
        {
            problems.add(
                "metrics.allowed",
                "is missing; a listener that the network reaches has to know who may ask, such as 10.0.0.0/8",
            );
        }
    }
}
