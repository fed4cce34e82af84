//! SCEP requests of strangers: signature, envelope, certification request. A refusal must have a reply.
#![no_main]

mod support;

use libfuzzer_sys::fuzz_target;
use russet_pki::SignaturePolicy;
use russet_pki::cms::certificates;
use russet_pki::scep::{Request, ScepError, ScepPolicy};

fuzz_target!(|input: &[u8]| {
    let messages = &*support::MESSAGES;
    let message = support::message(input);
    for legacy in [false, true] {
        let policy = ScepPolicy {
            legacy,
            ..ScepPolicy::default()
        };
        match Request::parse(&message, &messages.context, &policy) {
            Ok(request) => {
                let _ = (request.transaction_id().len(), request.challenge().map(str::len));
            }
            Err(ScepError::Refused(refusal)) => {
                let reply = refusal.reply(&messages.context).expect("a refusal can be told");
                certificates(&reply, &SignaturePolicy::strict()).expect("and read");
            }
            Err(_) => {}
        }
    }
});
