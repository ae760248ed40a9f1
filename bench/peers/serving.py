"""`serving.py ADDRESS`: uvicorn with `service.py` on a free port, in its own environment.

The URL goes to the file ADDRESS once it is ready.
"""

import asyncio
import socket
import sys
from pathlib import Path

import uvicorn
import uvloop

sys.path.insert(0, str(Path(__file__).parent))


async def main(address: Path) -> None:
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config("service:app", log_level="warning", loop="uvloop", http="httptools"))
    serving = asyncio.create_task(server.serve([listening]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    partly = address.with_suffix(".partly")
    partly.write_text(f"http://127.0.0.1:{listening.getsockname()[1]}")
    partly.rename(address)
    await serving


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1])))
