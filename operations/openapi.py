"""Write openapi.json and api.md: `python -m operations.openapi DIRECTORY`, by `make docs`."""

import sys
from pathlib import Path

from services.api.config import default_config
from services.api.http.openapi.document import document, text
from services.api.http.openapi.page import page

if __name__ == "__main__":
    directory = Path(sys.argv[1])
    defaults = default_config()
    described = document(defaults.http, defaults.bounds)
    (directory / "openapi.json").write_text(text(defaults.http, defaults.bounds), encoding="utf-8")
    (directory / "api.md").write_text(page(described), encoding="utf-8")
