"""grpc.health.v1: SERVING while the shard is ready, as `/health/ready` tells it, for the server and its service."""

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from constellation import limits
from constellation.api.grpc.strangers import Places
from constellation.api.grpc.sync import SERVICE
from constellation.api.service import Service

HEALTH: str = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Computed when it is asked, so that it is never behind."""

    def __init__(self, service: Service, places: Places) -> None:
        self._service, self._places = service, places

    async def Check(self, request: HealthCheckRequest, context: Any) -> HealthCheckResponse:
        if request.service not in ("", SERVICE):
            await context.abort(grpc.StatusCode.NOT_FOUND, f"{request.service[:80]!r} is not served here")
        return HealthCheckResponse(status=self._status(request.service))

    async def Watch(self, request: HealthCheckRequest, context: Any) -> None:
        """The status, and again whenever it has changed, until the client or the server ends it."""
        told = None
        async with self._places.taken(context):
            while True:
                status = self._status(request.service)
                if status != told:
                    await context.write(HealthCheckResponse(status=status))
                    told = status
                await asyncio.sleep(limits.HEALTH_LOOK_S)

    def _status(self, name: str) -> Any:
        if name not in ("", SERVICE):
            return HealthCheckResponse.SERVICE_UNKNOWN
        return HealthCheckResponse.SERVING if self._service.refusal() is None else HealthCheckResponse.NOT_SERVING
