"""A stand-in for apt-get, curl or docker, by the name of its call: it only notes the call.

What the start script asks for is answered as by a new installation: no key until it makes one.
"""

import json
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
    if words[0] == "curl":
        urllib.request.urlopen(words[-1], timeout=5).close()  # noqa: S310 - of this machine
    elif words[-2:] == ["keys", "list"]:
        print("a key" if '"create"' in before else "no keys")
    elif "create" in words:
        print(KEY)
    elif "psql" in words:
        sys.stdin.read()


if __name__ == "__main__":
    main()
