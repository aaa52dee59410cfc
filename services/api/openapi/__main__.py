"""`python -m services.api.openapi` prints the document of the default settings (`make docs`)."""

import sys

from services.api.openapi.document import of_defaults, text

if __name__ == "__main__":
    sys.stdout.write(text(of_defaults()))
