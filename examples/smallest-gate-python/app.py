"""The smallest useful plugin in Python: it lets in the devices whose serial number starts as the operator set it."""

import json

from wit_world import exports
from wit_world.exports.enrollment_gate import Denial, Verdict, Verdict_Allow, Verdict_Deny
from wit_world.imports import settings
from wit_world.imports.context import EnrollmentRequest


class EnrollmentGate(exports.EnrollmentGate):
    def check(self, request: EnrollmentRequest) -> Verdict:
        prefix = json.loads(settings.get())["prefix"]
        serial = request.device().serial_number()
        # For a manual enrollment it is not known yet: asked again at Authenticate.
        if serial is None and request.stage() == "profile":
            return Verdict_Allow([])
        if serial is not None and serial.startswith(prefix):
            return Verdict_Allow([])
        return Verdict_Deny(Denial("serial-prefix", "This device does not belong to the company."))
