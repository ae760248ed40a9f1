"""`GET /` and what it is made of: files of this package, nothing from elsewhere, nothing inline."""

from importlib.resources import files

from litestar import get
from litestar.params import FromPath

from constellation.api.operations import Parameter, described
from constellation.api.replies import Reply
from constellation.errors import NotFound

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def _loaded() -> dict[str, Reply]:
    """Every file by name, as it is sent."""
    found = {}
    for file in files(__package__).iterdir():
        for ending, media_type in _TYPES.items():
            if file.name.endswith(ending):
                found[file.name] = Reply(file.read_bytes(), f"{media_type}; charset=utf-8", _HEADERS)
    return found


_FILES = _loaded()
_NAME = Parameter(
    "name", "a file of the page", {"type": "string", "enum": sorted(_FILES)}, where="path", required=True
)  # fmt: skip


@get(
    "/",
    opt=described(
        tag="page",
        summary="The shard as a page, live",
        reply="text/html",
        reply_text="Loads nothing from elsewhere; shows what `/api/v1/live` tells.",
        headers=("Cache-Control",),
    ),
)
async def page() -> Reply:
    return _FILES["index.html"]


@get(
    "/page/{name:str}",
    opt=described(
        tag="page",
        summary="What the page is made of",
        reply="*/*",
        reply_text="A file of the page.",
        headers=("Cache-Control",),
        parameters=(_NAME,),
        problems=(NotFound,),
    ),
)
async def page_file(name: FromPath[str]) -> Reply:
    found = _FILES.get(name)
    if found is None:
        raise NotFound(f"the page has no file {name[:64]!r}, only {', '.join(sorted(_FILES))}")
    return found
