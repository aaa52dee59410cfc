"""Write openapi.json and api.md: `python -m services.api.http.openapi DIRECTORY`, by `make docs`."""

import sys
from pathlib import Path

from services.api.http.openapi.document import document, of_defaults, text
from services.api.http.openapi.page import page

if __name__ == "__main__":
    directory = Path(sys.argv[1])
    (directory / "openapi.json").write_text(text(of_defaults()), encoding="utf-8")
    (directory / "api.md").write_text(page(document(of_defaults())), encoding="utf-8")
