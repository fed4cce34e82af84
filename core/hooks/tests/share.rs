//! Which revision answers is decided once for a request about an enrollment.

use russet_hooks::{HookKind, ShareKey};

#[test]
fn hooks_of_one_request_about_one_device_have_one_key() {
    let key = ShareKey::default();
    assert_eq!(&*key.of(HookKind::EnrollmentGate, "C02A"), "C02A");
    assert_eq!(&*key.clone().of(HookKind::Directory, "someone"), "C02A");
    // A request about several devices has one for each.
    assert_eq!(&*key.of(HookKind::CommandPolicy, "C02B"), "C02B");
}

#[test]
fn a_request_that_began_with_a_person_keeps_to_the_person() {
    let key = ShareKey::default();
    assert_eq!(&*key.of(HookKind::Directory, "someone"), "someone");
    assert_eq!(&*key.of(HookKind::EnrollmentGate, "C02A"), "someone");
    assert_eq!(&*key.of(HookKind::Directory, "someone else"), "someone");
}
