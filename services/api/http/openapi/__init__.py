"""The HTTP API as an OpenAPI 3.1 document, made from the declarations that the validators use.

`document.py` makes it for a deployment's settings: `GET /openapi.json` serves that of the process's
own settings, `make docs` writes that of the defaults into docs/. Requests are in `submission`
(users) and `agents`, responses in `responses`, routes in `paths`; `page` makes it Markdown.
"""
