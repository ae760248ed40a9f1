"""The zstd dictionaries, for TVs that do not have the newest: `GET /api/v1/dictionary/{id}`."""

from litestar import get
from litestar.params import FromPath

from constellation.api import parameters
from constellation.api.operations import described
from constellation.api.replies import BYTES, AnyRequest, Reply, immutable
from constellation.errors import NotFound
from constellation.wire.dictionary import checksum, packaged


@get(
    "/api/v1/dictionary/{id:str}",
    opt=described(
        tag="dictionary",
        summary="A zstd dictionary",
        reply=BYTES,
        reply_text="Its file (RFC 8878, section 5); never another for the same id.",
        immutable=True,
        parameters=(parameters.DICTIONARY_ID,),
        problems=(NotFound,),
    ),
)
async def dictionary(request: AnyRequest, id: FromPath[str]) -> Reply:
    held = {str(number): content for number, content in packaged().items()}
    if id not in held:
        raise NotFound(f"there is no dictionary {id[:64]!r} here, only {', '.join(held)}")
    return immutable(request, held[id], checksum(held[id]))
