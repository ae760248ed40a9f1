"""`DELETE /api/v1/devices/{device_id}`: a household's right to be forgotten."""

from litestar import delete
from litestar.di import NamedDependency
from litestar.params import FromPath

from constellation.api import parameters
from constellation.api.access import caller_of
from constellation.api.operations import ADMISSION, described
from constellation.api.replies import AnyRequest
from constellation.api.service import Service
from constellation.errors import InvalidParameter, Moving, WrongShard
from constellation.identity import ADMIN


@delete(
    "/api/v1/devices/{device_id:str}",
    status_code=204,
    opt=described(
        tag="devices",
        summary="Forget a device and all it told",
        status=204,
        reply=None,
        reply_text="The device is not known (any more).",
        headers=(),
        parameters=(parameters.DEVICE_ID,),
        problems=(InvalidParameter, WrongShard, Moving, *ADMISSION),
    ),
)
async def forget_device(request: AnyRequest, service: NamedDependency[Service], device_id: FromPath[str]) -> None:
    name = parameters.read_uuid(device_id, "path.device_id")
    caller = caller_of(request.scope)
    if ADMIN not in caller.scopes:
        caller.require_device(name)
    service.admit()
    service.admit_device(name)
    service.admit_change()
    service.shard.forget(name, service.clock())
    await service.keeper.kept(service.keep())
