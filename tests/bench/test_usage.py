"""What a process used: processor time to the nanosecond, wakeups of all threads."""

import os
import threading

from usage import Usage, usage


def test_rates_are_those_between_two_looks() -> None:
    before, after = Usage(10.0, 1.0, 100, 5_000_000), Usage(20.0, 1.5, 150, 6_000_000)
    rates = after.since(before)
    assert rates == {"cpu_percent": 5.0, "wakeups_per_s": 5.0, "resident_mb": 6.0}


def test_own_waits_are_counted_in_every_thread() -> None:
    asked, answered = threading.Semaphore(0), threading.Semaphore(0)

    def answer() -> None:
        while asked.acquire() and not over:
            answered.release()

    over: list[bool] = []
    thread = threading.Thread(target=answer)
    thread.start()
    before = usage(os.getpid())
    for _ in range(200):
        asked.release()
        answered.acquire()
    after = usage(os.getpid())
    over.append(True)
    asked.release()
    thread.join()
    assert after.wakeups - before.wakeups >= 100
    assert after.cpu_s > before.cpu_s
