"""`constellation health`: is the shard that was started here with the same settings ready? For checks of containers.

It asks the metrics port, which wants no client's certificate, by TLS where the settings say that the shard speaks it.
Names are not checked: a certificate is for the address that others use.
"""

import argparse
import ssl
import sys
import urllib.error
import urllib.request

from constellation import config
from constellation.cli.options import add_options, given
from constellation.config import NONE, Settings, WrongSetting

ANSWERED_S_MAX = 2.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def configure(parser: argparse.ArgumentParser) -> None:
    add_options(parser, config.options())


def run(arguments: argparse.Namespace) -> int:
    """0 if it is ready, with `--shards` all of them; 1 if it is not, or not there."""
    settings = config.load(given(arguments, config.options()), config_file=arguments.config)
    if settings.metrics_port == 0:
        raise WrongSetting("--metrics-port: got 0; allowed: the port that the shard has")
    objections = [why for port in range(settings.shards) if (why := _objection(settings, settings.metrics_port + port))]
    for why in objections:
        print(f"constellation health: {why}", file=sys.stderr)
    return 1 if objections else 0


def _objection(settings: Settings, port: int) -> str:
    """Why the shard whose metrics are on this port is not ready; nothing if it is."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    # Whatever proxy the environment has is for others than this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    scheme = "http" if settings.tls_cert == NONE else "https"
    host = _EVERYWHERE.get(settings.host, settings.host)
    address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/health/ready"
    try:
        with opener.open(address, timeout=ANSWERED_S_MAX):
            return ""
    except urllib.error.HTTPError as error:
        return f"{address}: {error.read().decode(errors='replace')}"
    except OSError as error:
        return f"{address}: {error}"
