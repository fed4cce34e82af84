//! The plugin in the real host, with the crate `russet-plugin-test`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use russet_plugin_test::{Error, GateStage, Plugin, json, plain};

#[tokio::test]
async fn only_devices_of_the_company_enroll() -> Result<(), Error> {
    let plugin = Plugin::build_here()?.settings(json!({"prefix": "C02"})).start().await?;
    for (serial, verdict) in [("C02XK1", "allow"), ("F4K9Z2", "deny")] {
        let mut request = plain::enrollment();
        request.stage = GateStage::Authenticate;
        request.device.serial_number = Some(serial.to_owned());
        let called = plugin.gate(request).await?;
        assert_eq!(called.name(), verdict, "{serial}");
        assert!(called.effects().is_empty());
    }
    Ok(())
}
