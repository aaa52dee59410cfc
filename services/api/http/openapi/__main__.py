"""`python -m services.api.openapi DIRECTORY` writes openapi.json and api.md anew: `make docs`."""

import sys
from pathlib import Path

from services.api.openapi.document import document, of_defaults, text
from services.api.openapi.page import page

if __name__ == "__main__":
    directory = Path(sys.argv[1])
    (directory / "openapi.json").write_text(text(of_defaults()), encoding="utf-8")
    (directory / "api.md").write_text(page(document(of_defaults())), encoding="utf-8")
