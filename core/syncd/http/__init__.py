"""The HTTP edge: the client that plugins fetch with, and the gate that keeps to quotas."""

from syncd.http.authorization import Authority, Badge
from syncd.http.client import Client
from syncd.http.decoding import decode
from syncd.http.fetching import FetchHttp, NotModified
from syncd.http.limiter import Limiter
from syncd.http.limiters import Limiters, Sharing
from syncd.http.statistics import Statistics
from syncd.http.wire import Wire

__all__ = [
    "Authority",
    "Badge",
    "Client",
    "FetchHttp",
    "Limiter",
    "Limiters",
    "NotModified",
    "Sharing",
    "Statistics",
    "Wire",
    "decode",
]
