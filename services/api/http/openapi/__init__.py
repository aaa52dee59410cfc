"""The HTTP API as an OpenAPI 3.1 document, made from what the validators themselves use.

`document.py` puts it together for a deployment's settings: `GET /openapi.json` serves that of the
process's own, `make docs` writes that of the defaults into docs/. Requests are in `submission`
(users) and `agents`, answers in `responses`, the routes in `paths`; `page` is the same as Markdown.
"""
