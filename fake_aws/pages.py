"""Protection of the fake AWS from web pages, which could call it through a user's browser.

A browser adds `Origin` to each POST of a page, whatever its own name resolves to
(https://fetch.spec.whatwg.org/#origin-header); no AWS SDK and no agent sends it.
"""

from collections.abc import Awaitable, Callable

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

OWN_SITES = frozenset({"none", "same-origin"})


@web.middleware
async def refuse_pages(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer 403 to what a web page has sent, before its body is read."""
    site = request.headers.get("Sec-Fetch-Site", "none")
    if "Origin" in request.headers or site not in OWN_SITES:
        return web.Response(status=403, text="the fake AWS answers no web page\n")
    return await handler(request)
