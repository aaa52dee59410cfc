"""A stand-in for apt-get, curl or docker, by the name of its call: it only notes the call.

A call with the words of a line in the file `faults` fails, and the line is removed.

What the start script asks for is answered as by a new installation: no key until it makes one. The
certificate is a text, so that curl reads by plain HTTP what it would by HTTPS.
"""

import json
import os
import sys
import urllib.request
from pathlib import Path

KEY = "djk_of_the_first_boot"


def main() -> None:
    """Note the call, and answer it."""
    calls = Path(sys.argv[0]).with_name("calls")
    before = calls.read_text() if calls.exists() else ""
    words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    with calls.open("a") as file:
        file.write(json.dumps(words) + "\n")
    faults = Path(sys.argv[0]).with_name("faults")
    lines = faults.read_text().splitlines() if faults.exists() else []
    for line in lines:
        if line in " ".join(words):
            lines.remove(line)
            faults.write_text("\n".join(lines))
            sys.exit(f"{words[0]}: no route to host")
    if words[0] == "curl":
        url = words[-1].replace("https:", "http:")
        urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - of this machine
    elif "operations.make_certificate" in words:
        directory = Path(os.environ["RUN_DIR"]) / "secrets" / "tls"
        for name in ("authority.pem", "ca.pem", "certificate.pem", "key.pem"):
            if not (directory / name).exists():
                (directory / name).write_text(f"the {name} of the first boot\n")
            (directory / name).chmod(0o444 if name == "ca.pem" else 0o400)  # as the command does
    elif words[-2:] == ["keys", "list"]:
        print("a key" if '"create"' in before else "no keys")
    elif "create" in words:
        print(KEY)
    elif "psql" in words:
        sys.stdin.read()


if __name__ == "__main__":
    main()
