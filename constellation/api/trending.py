"""`GET /api/v1/trending`: what a region watches, best first."""

import msgspec
from litestar import get
from litestar.di import NamedDependency

from constellation.api import parameters
from constellation.api.operations import described
from constellation.api.replies import AnyRequest, Reply, reply
from constellation.api.service import Service
from constellation.errors import InvalidParameter
from constellation.model import Trend


class Trending(msgspec.Struct):
    """Trends, best first; scores are shares of the region's highest."""

    trending: list[Trend]


@get(
    "/api/v1/trending",
    opt=described(
        tag="sync",
        summary="What a region watches",
        reply=Trending,
        reply_text="Trends of the region, or of all for `global`; none for a region of which no round told.",
        parameters=(parameters.REGION, parameters.LIMIT),
        problems=(InvalidParameter,),
    ),
)
async def trending(request: AnyRequest, service: NamedDependency[Service]) -> Reply:
    query = parameters.trend_query(request.scope["query_string"])
    return reply(request, Trending(service.shard.trending(query.limit, service.clock(), query.region)))
