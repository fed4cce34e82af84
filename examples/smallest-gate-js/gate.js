// The smallest useful plugin in JavaScript: it lets in the devices whose serial number starts as the operator set it.

import { get } from "russet:plugin/settings@0.1.0";

export const enrollmentGate = {
  check(request) {
    const { prefix } = JSON.parse(get());
    const serial = request.device().serialNumber();
    const ours = serial?.startsWith(prefix);
    // For a manual enrollment it is not known yet: asked again at Authenticate.
    if (ours || (serial === undefined && request.stage() === "profile")) return { tag: "allow", val: [] };
    return {
      tag: "deny",
      val: { reason: "serial-prefix", message: "This device does not belong to the company." },
    };
  },
};
