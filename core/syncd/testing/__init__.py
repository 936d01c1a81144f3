"""What authors test a connector with: the stand-in for its upstream, served over real HTTP.

`serve` an ASGI application for as long as a block lasts, or `run_simulator` as a program of its own
(`python -m syncd_cars.simulator`), which `syncd demo` plays with, too.
"""

from syncd.testing.asgi import (
    Application,
    Call,
    Reply,
    body_of,
    headers_of,
    live,
    send_reply,
)
from syncd.testing.posting import Posted, post_all
from syncd.testing.serving import serve
from syncd.testing.simulators import Simulated, run_simulator, simulator_options

__all__ = [
    "Application",
    "Call",
    "Posted",
    "Reply",
    "Simulated",
    "body_of",
    "headers_of",
    "live",
    "post_all",
    "run_simulator",
    "send_reply",
    "serve",
    "simulator_options",
]
