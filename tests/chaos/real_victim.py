"""A daemon that things are done to, and that is started again and let into its run."""

import contextlib
import os
import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor

from event_tail import IN_STEP, EventTail
from fault_plan import Kind, Phase
from swarm import Peer

from skerry.node.control_client import ControlClient
from skerry.node.demo_swarm import LocalDaemon
from skerry.protocol.errors import SkerryError

_PHASES = {
    Phase.JOIN: {"joining", "starting", "loading", "waiting", "observing"},
    Phase.INNER: {"training", "encoding"},
    Phase.EXCHANGE: {"collecting", "fetching"},
    Phase.APPLY: {"applying"},
    Phase.CHECKPOINT: {"applying"},
}
_CHILDREN = {Kind.COMPUTE: "compute", Kind.NETWORK: "p2pd"}
_WINDOWS_S = {Phase.JOIN: 6.0, Phase.TRANSFER: 1.5, Phase.SHUTDOWN: 1.2}
"""How long a daemon is in a phase, about."""
_AGAIN_S = 0.5
"""After which a join that failed is asked for again."""


class RealVictim:
    """One peer of the swarm; ``look_after`` is to be called again and again."""

    def __init__(self, peer: Peer, pool: ThreadPoolExecutor, token: str) -> None:
        """Nothing has been done to it yet. It joins by ``token``, waited for in ``pool``."""
        self.peer, self._pool, self._token = peer, pool, token
        self.tail = EventTail(peer.home.events_file)
        self.frozen = self.full = self.restarted = False
        self._held = self._ending = self._killed = self._must_join = False
        self._joining: Future[None] | None = None
        self._asked_at = 0.0
        self._asked: LocalDaemon | None = None
        """The process that was last told to join."""

    @property
    def is_running(self) -> bool:
        """Whether there is a process."""
        return self.peer.daemon.running

    @property
    def is_there(self) -> bool:
        """Whether it takes part in its run and nothing keeps it from that."""
        kept = self.frozen or self._held or self._ending or self.full
        return self.is_running and not kept and bool(self.tail.phase)

    @property
    def is_able(self) -> bool:
        """Whether it is there and has the parameters of the run."""
        return self.is_there and self.tail.phase not in ("starting", "loading", "waiting")

    @property
    def is_settled(self) -> bool:
        """Whether it is in its run, or will be without anything being done."""
        kept = self.frozen or self._held or self._ending or self.full
        return self.is_running and not kept and not self._must_join

    @property
    def doing(self) -> str:
        """What it is doing, in a word."""
        if self.frozen or not self.is_running:
            return "frozen" if self.frozen else "away"
        other = "joining" if self._asked is self.peer.daemon else "beginning"
        return "ending" if self._ending else self.tail.phase or other

    def is_in(self, phase: Phase) -> bool:
        """Say whether it is in a phase now."""
        if self.frozen or self._held or self.full or not self.is_running:
            return False
        if phase is Phase.SHUTDOWN or self._ending:
            return self._ending and phase is Phase.SHUTDOWN
        return self.tail.downloads if phase is Phase.TRANSFER else self.doing in _PHASES[phase]

    def is_past(self, phase: Phase, since: int) -> bool:
        """Say whether it has left a phase behind that it was brought into in round ``since``.

        A peer that goes on from its own disk may train an old round before it hears of the others.
        """
        if phase is Phase.SHUTDOWN:
            return not self._ending
        tail = self.tail
        return self.is_there and tail.phase in IN_STEP and tail.round >= since

    def can_suffer(self, kind: Kind) -> bool:
        """Say whether there is anything that such a fault could hit."""
        return kind not in _CHILDREN or _CHILDREN[kind] in self.peer.children

    def window_s(self, kind: Kind, phase: Phase) -> float:
        """Return how long it stays in a phase; the compute process is the first thing to end."""
        is_gone = (kind, phase) == (Kind.COMPUTE, Phase.SHUTDOWN)
        return 0.0 if is_gone else _WINDOWS_S[phase]

    # -- what is done to it ----------------------------------------------------------------

    def renew(self) -> None:
        """Kill it, remove what it kept of the run, and have it join."""
        self.kill()
        self.peer.forget()
        self._must_join = True

    def take_away(self) -> None:
        """Kill it and keep it from starting again."""
        self._held = True
        self.kill()

    def bring_back(self) -> None:
        """Let it start again."""
        self._held = False

    def end(self) -> None:
        """Tell it to end."""
        self._ending = True
        self.peer.daemon.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._ending, self.frozen, self._killed = False, False, True
        self.peer.kill()
        self.tail.begin()

    def freeze(self) -> None:
        """Let it stand still."""
        os.kill(self.peer.daemon.process.pid, signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        """Let it go on."""
        if self.frozen:
            os.kill(self.peer.daemon.process.pid, signal.SIGCONT)
            self.frozen = False

    def kill_child(self, kind: Kind) -> None:
        """Kill its compute process or its p2pd."""
        child = self.peer.children.get(_CHILDREN[kind])
        if child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)

    def look_after(self) -> None:
        """Read what it says; start it again if it has ended, and have it join if it is to."""
        self.tail.read()
        if not self.is_running:
            self._check_end()
            if not self._held and not self.full:
                self.peer.restart()
                self.restarted, self._killed = True, False
        elif self._must_join and not (self.frozen or self.full):
            self._let_in()

    def _check_end(self) -> None:
        if self._killed:
            return
        process, name = self.peer.daemon.process, self.peer.name
        told = "told to end" if self._ending else "told nothing"
        found = f"{name}, {told}, ended with {process.returncode}\n{self.peer.story()}"
        assert self._ending and not process.returncode, found
        self.kill()  # closes what is left open

    def _let_in(self) -> None:
        """Ask for the join, as a user would: again if it failed."""
        if self._joining is not None and self._joining.done():
            failure, self._joining = self._joining.exception(), None
            if failure is not None and not isinstance(failure, SkerryError):
                raise failure
            self._must_join = failure is not None
        now = time.monotonic()
        if self._must_join and self._joining is None and now > self._asked_at + _AGAIN_S:
            self._asked_at = now
            self._joining = self._pool.submit(self._join, self.peer.daemon)

    def _join(self, daemon: LocalDaemon) -> None:
        """Let a daemon join, unless it goes on with the run by itself. Raises: SkerryError."""
        daemon.wait_until_ready()
        with ControlClient(daemon.home.control_socket) as client:
            if not client.status().HasField("run"):
                self._asked = daemon
                client.join(self._token)
