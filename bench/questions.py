"""The questions of the bench, and how one is asked. Each is a module of this package of that name."""

import resource
import time
from importlib import import_module

from bench.plan import Note, Plan
from bench.report import Row, Section
from kernels.warm import warm

QUESTIONS = {
    "limits": "are the limits of the product kept?",
    "similarity": "how well and how fast are the nearest patterns of one interest found?",
    "relevance": "does asking by interest serve a household better than asking by its mean?",
    "grouping": "do patterns that resemble each other meet in one bucket?",
    "compact": "how small is a cold compact reply, how true, and what does it cost?",
    "sync_shard": "what does one sync cost without HTTP?",
    "upload": "how many bytes does a TV send, and what does the dictionary cost?",
    "sync_http": "how many syncs does one process serve, and how soon?",
    "grpc": "how many syncs does one process serve by gRPC, and how soon, beside REST?",
    "quic": "what does a sync cost over HTTP/3, beside HTTP/1 over TLS?",
    "identity": "what does a token cost, and what a request that is refused?",
    "overload": "what is left when everybody comes at once, and what does it cost to refuse?",
    "tracing": "what do traces cost a sync?",
    "endurance": "does a shard stay as it is while it serves?",
    "cursor": "what does a household's day of syncs bring down, and what does it cost to know what changed?",
    "renewal": "what does a sync of a known device cost, and is its list still true after a day?",
    "moonshot": "how many syncs a second carry two cores when all TVs of a shard are on?",
    "turns": "how long does the event loop stand still at worst?",
    "background": "how long do storage and federation hold the event loop at worst?",
    "lookups": "what do reading trends and finding a device cost?",
    "ingest": "how fast do patterns reach PostgreSQL?",
    "journal": "what does the journal add to a sync?",
    "restart": "how soon is a shard back, and how soon does it stop?",
    "recovery": "how well does a shard answer when it was restored, and when as well as before?",
    "federation": "what does a round of 100 shards cost, and how true is it?",
    "privacy": "what does the noise of a private round leave of its prototypes?",
    "robustness": "how far do devices that collude move a prototype, and what a region watches?",
    "memory": "how many bytes do a pattern and a device take?",
}
"""Its module in this package -> what it asks."""
GATED = (
    *("limits", "similarity", "relevance", "grouping", "compact", "upload", "recovery", "federation", "privacy"),
    *("robustness", "memory"),
)
"""Questions with rows that any machine has to reach."""


def ask(name: str, plan: Plan) -> Section:
    warm()
    started, cpu_started = time.perf_counter(), _cpu_s()
    answers = list(import_module(f"bench.{name}").measure(plan))
    return Section(
        question=name,
        title=QUESTIONS[name],
        rows=[answer for answer in answers if isinstance(answer, Row)],
        notes=[str(answer) for answer in answers if isinstance(answer, Note)],
        seconds=time.perf_counter() - started,
        cpu_s=_cpu_s() - cpu_started,
    )


def _cpu_s() -> float:
    """Of this process and of the children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
