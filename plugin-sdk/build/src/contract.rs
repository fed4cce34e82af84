//! The names in the contract (`wit/`). Written out, so that the builder works where the contract's files are not; a test
//! compares them.

/// The hooks of the contract.
pub const HOOKS: [&str; 8] = [
    "command-policy",
    "declaration-planner",
    "directory",
    "enrollment-gate",
    "escrow-policy",
    "observer",
    "profile-template",
    "scheduled",
];

/// The capabilities of the contract: an interface and a function.
pub const CAPABILITIES: [&str; 36] = [
    "clock.now-ms",
    "effects.assign-declarations",
    "effects.assign-profile",
    "effects.cancel-command",
    "effects.clear-attribute",
    "effects.emit-event",
    "effects.enqueue-command",
    "effects.push",
    "effects.put-secret",
    "effects.schedule-call",
    "effects.set-attribute",
    "effects.unassign-declarations",
    "effects.unassign-profile",
    "escrow-secret.read",
    "http.send",
    "inventory.devices-of-person",
    "inventory.devices-with-attribute",
    "inventory.find-device",
    "kv.compare-and-set",
    "kv.delete",
    "kv.get",
    "kv.keys",
    "kv.set",
    "ldap.bind",
    "ldap.search",
    "log.write",
    "random.bytes",
    "secrets.delete",
    "secrets.get",
    "secrets.open",
    "secrets.put",
    "secrets.seal",
    "settings.get",
    "signer.hmac-sha256",
    "signer.public-key",
    "signer.sign",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_lists_are_those_of_the_contract() {
        let mut resolve = wit_parser::Resolve::default();
        let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
        let (package, _) = resolve.push_dir(wit).unwrap();
        let worlds = &resolve.packages[package].worlds;
        let mut capabilities = BTreeSet::new();
        for key in resolve.worlds[worlds["capabilities"]].imports.keys() {
            let wit_parser::WorldKey::Interface(id) = key else {
                continue;
            };
            let interface = &resolve.interfaces[*id];
            let name = interface.name.as_deref().unwrap();
            if name != "context" {
                capabilities.extend(interface.functions.keys().map(|function| format!("{name}.{function}")));
            }
        }
        assert_eq!(capabilities, BTreeSet::from(CAPABILITIES.map(str::to_owned)));
        let hooks: BTreeSet<&str> = worlds
            .keys()
            .filter_map(|world| world.strip_suffix("-plugin"))
            .collect();
        assert_eq!(hooks, BTreeSet::from(HOOKS));
    }
}
