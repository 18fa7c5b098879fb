"""Each process of a run on several hosts watches the others, so that all stop, and end, together.

Every second a process publishes that it is alive. When one stays silent, or publishes an error, all others end with one
sentence: a program that exchanges values with a lost host would wait for ever. A stop that one process requests, as by
SIGTERM, reaches all of them, and they agree on the point of their work at which they act on it.

JAX ends a process by `abort` as soon as it cannot reach the first one. `explain_aborts` gives the sentence there.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from infoprompt_jax import hosts

BEAT = 1.0  # seconds between two signs of life
SILENCE = 25  # beats without one, after which a process is lost
GRACE = 3  # beats in which a process may come by itself to the error that another one published
LINGER = 10.0  # seconds that the first process waits for the others to end, because it holds what they talk through
LOST = 1  # exit status of a process that another one ends

_watch: Watch | None = None  # of this process; None on one host


class Watch(threading.Thread):
    """The thread that publishes this process's state and reads those of the others."""

    def __init__(self, client: Any, index: int, count: int) -> None:
        """`client` of the coordination service; the number of this process, and of all."""
        super().__init__(name="watch", daemon=True)
        self.client, self.index, self.count = client, index, count
        self.state: dict[str, Any] = {"beat": 0}  # what this process publishes
        self.seen: dict[int, dict[str, Any]] = {}  # what all published last
        self.silent = {other: 0 for other in range(self.count) if other != self.index}  # beats since that changed
        self.ended = dict.fromkeys(self.silent, 0)  # beats since that process published an end
        self.points = 0  # of this process's work, at which it may stop
        self.stop_at: int | None = None  # the point at which all processes stop
        self.changed, self.soon = threading.Condition(), threading.Event()
        self.leaving = False

    def run(self) -> None:
        """Once a beat, or when there is news: publishes, reads, and acts on what it read."""
        while not self.leaving:
            self.soon.wait(BEAT)
            self.soon.clear()
            with contextlib.suppress(Exception):  # JAX ends this process if the first one is gone
                self.beat()
            self.judge()

    def beat(self) -> None:
        """Exchanges what is known with the others."""
        self.publish()
        self.read()
        self.agree()

    def publish(self) -> None:
        """Gives the others this process's state."""
        with self.changed:
            self.state["beat"] += 1
            text = json.dumps(self.state)
        self.client.key_value_set(f"process/{self.index}", text, allow_overwrite=True)

    def read(self) -> None:
        """Reads all states."""
        states = self.client.key_value_dir_get("process/")
        before, self.seen = self.seen, {int(key.rpartition("/")[2]): json.loads(text) for key, text in states}
        for other in self.silent:
            alike = self.seen.get(other) == before.get(other)
            self.silent[other] = self.silent[other] + 1 if alike else 0
            self.ended[other] += "ended" in self.seen.get(other, {})

    def agree(self) -> None:
        """Plans the stop that a process requests, at the point after the furthest that any of them has come to.

        First each publishes where it is; then its work goes no further than the next point before all have done so.
        """
        with self.changed:
            if self.stop_at is not None or not any("stop" in state for state in (self.state, *self.seen.values())):
                return
            if "at" not in self.state:
                self.state["at"] = self.points
                self.soon.set()
            points = [state["at"] for state in self.seen.values() if "at" in state]
            if len(points) == self.count:
                self.stop_at = max(points) + 1
                self.changed.notify_all()

    def judge(self) -> None:
        """Ends this process if another one has ended with an error, or is lost."""
        for other in self.silent:
            ended = self.seen.get(other, {}).get("ended")
            if ended and self.ended[other] > GRACE:
                self.end(ended["status"], f"Process {other} of {self.count} ended: {ended['sentence']}")
            if not ended and self.silent[other] >= SILENCE:
                self.end(LOST, lost(other, self.count))

    def stops(self, requested: bool) -> bool:
        """Whether all processes stop at this point of their work, which all come to in the same order."""
        with self.changed:
            self.points += 1
            if requested and "stop" not in self.state:
                self.state["stop"] = True
                self.soon.set()
            self.changed.wait_for(self.may_go_on)
            return self.stop_at is not None and self.points >= self.stop_at

    def may_go_on(self) -> bool:
        """Whether it is known if this process stops at its next point."""
        return self.stop_at is not None or "at" not in self.state

    def end(self, status: int, sentence: str) -> NoReturn:
        """Ends this process, after the others can know why. Of processes that end alike, the first one prints it."""
        with self.changed:
            if self.leaving:  # the other thread of this process came first
                self.changed.wait()
            self.leaving = True
            self.state["ended"] = {"status": status, "sentence": sentence}
        shown = self.index == 0
        if shown:
            print(sentence, file=sys.stderr)
        until = time.monotonic() + (LINGER if self.index == 0 else GRACE * BEAT)
        with contextlib.suppress(Exception):  # the first process is gone
            self.publish()
            while time.monotonic() < until and not self._last_or_known(sentence):
                time.sleep(BEAT / 10)
                self.read()
            if shown:
                time.sleep(BEAT)  # the others, which ended alike, read that it is printed
        if not shown and self._sentence_of(0) != sentence:
            print(sentence, file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # what `atexit` does would wait for the others

    def fail(self, error: BaseException) -> NoReturn:
        """Ends the run's processes after an error that no one expected, in the command or in a program around it.

        An error of JAX may only be what this process notices of a lost peer: then the watch ends the process meanwhile.
        """
        if "RuntimeError" in type(error).__name__:
            time.sleep((SILENCE + 2 * GRACE) * BEAT)
        traceback.print_exception(error)
        self.end(LOST, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")

    def noticed(self) -> tuple[int, str] | None:
        """Status and sentence where JAX aborts: this process's own end, or a process that seems lost; None without."""
        if ended := self.state.get("ended"):  # the first process was faster
            return ended["status"], ended["sentence"]
        other = max(self.silent, key=lambda one: self.silent[one])
        if self.silent[other] > GRACE:
            return LOST, lost(other, self.count)
        here = self.index == 0 or reachable(hosts.service().coordinator_address)
        return None if here else (LOST, lost(0, self.count))

    def _last_or_known(self, sentence: str) -> bool:
        """Whether there is nothing to wait for: the others have ended, or the first one has printed the sentence."""
        if self.index:
            return self._sentence_of(0) == sentence
        return all("ended" in self.seen.get(other, {}) or self.silent[other] >= SILENCE for other in self.silent)

    def _sentence_of(self, process: int) -> str | None:
        return self.seen.get(process, {}).get("ended", {}).get("sentence")


def start() -> None:
    """Begins to watch; `cluster.join` calls it once the processes have met.

    From then on an error that nothing catches ends all processes: else Python would wait for the others when it ends.
    """
    global _watch
    _watch = watch = Watch(hosts.service().client, hosts.index(), hosts.count())
    sys.excepthook = lambda _, error, __: watch.fail(error)
    explain_aborts(watch.noticed)
    _watch.start()


def reports() -> bool:
    """Whether this process prints for all."""
    return _watch is None or _watch.index == 0


def stops(requested: bool) -> bool:
    """Whether the run stops at this point; every process comes to the same points in the same order.

    Args:
      requested: whether this process was asked to stop. Of several processes one is enough; all stop at one point.
    """
    return _watch.stops(requested) if _watch else requested


def end(status: int, sentence: str) -> NoReturn:
    """Ends this process with a sentence and an exit status, and so all other processes of the run."""
    if _watch:
        _watch.end(status, sentence)
    print(sentence, file=sys.stderr)
    sys.exit(status)


def finish() -> None:
    """Ends the watch when every process has come to the end of the run; on one host it does nothing."""
    if _watch:
        hosts.meet()
        _watch.leaving = True
        _watch.join()


def lost(process: int, count: int) -> str:
    """The sentence about a process that does not answer."""
    return (
        f"Process {process} of {count} stopped answering, because it was killed or its host or the network is gone: "
        f"start all {count} again with the same command, the run resumes."
    )


def reachable(address: str) -> bool:
    """Whether something listens at host:port."""
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host.strip("[]"), int(port)), timeout=3):
        return True
    return False


def explain_aborts(reason: Callable[[], tuple[int, str] | None]) -> None:
    """From now on `abort` ends the process with the status and the sentence of `reason`, where that gives them.

    JAX's C++ threads abort, where no Python code of this process can catch it.
    """

    def aborted(_: int) -> None:
        if explained := reason():
            os.write(2, f"{explained[1]}\n".encode())
            os._exit(explained[0])

    global _handler
    _handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(aborted)
    ctypes.CDLL(None).signal(signal.SIGABRT, _handler)


_handler: Any = None  # of SIGABRT; kept, because C code holds only its address
