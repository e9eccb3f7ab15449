import asyncio
import threading
import time

import pytest

from t2t_mm.serving.desk import Desk
from t2t_mm.serving.limits import Limits, Refused

PATIENCE_SECONDS = 300  # what a starved machine may take; no test waits for its end


def limits(**values):
    return Limits(**{"max_queue": 2, "deadline_seconds": PATIENCE_SECONDS} | values)


@pytest.fixture
def busy():
    """A desk whose worker is at work until `finish` is set."""
    desk, begun, finish = Desk(limits()), threading.Event(), threading.Event()

    def work():
        begun.set()
        finish.wait(PATIENCE_SECONDS)

    thread = threading.Thread(target=lambda: desk.ask(work))
    thread.start()
    assert begun.wait(PATIENCE_SECONDS)
    yield desk, finish
    finish.set()
    thread.join()
    desk.close()


def test_work_is_done_one_piece_after_the_other_in_another_thread():
    desk, seen = Desk(limits(max_queue=50)), []

    async def ask_all():
        def work(number):
            seen.append((number, threading.current_thread().name))
            return number * number

        return await asyncio.gather(
            *(desk.asked(lambda n=n: work(n)) for n in range(20))
        )

    assert asyncio.run(ask_all()) == [n * n for n in range(20)]
    assert seen == [(n, "desk") for n in range(20)]
    assert desk.done == 20
    desk.close()


def test_an_error_belongs_to_the_one_who_asked_and_the_worker_lives_on():
    desk = Desk(limits())

    def fail():
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        desk.ask(fail)
    assert desk.ask(lambda: 7) == 7
    desk.close()


def test_a_full_queue_turns_away_at_once(busy):
    desk, finish = busy
    waiting = [threading.Thread(target=lambda: desk.ask(int)) for _ in range(2)]
    for thread in waiting:
        thread.start()
    while desk.num_waiting < 2:
        time.sleep(0.01)
    with pytest.raises(Refused, match="2 requests wait already") as refusal:
        desk.ask(int)
    assert refusal.value.status == 503 and desk.refused == 1
    finish.set()
    for thread in waiting:
        thread.join()
    assert desk.ask(lambda: 5) == 5


@pytest.mark.parametrize("from_event_loop", [False, True])
def test_what_is_late_is_told_and_dropped_unworked(busy, from_event_loop):
    (desk, finish), done = busy, []
    desk._limits = limits(deadline_seconds=0.2)
    with pytest.raises(Refused, match="not ready after 0.2 seconds") as refusal:
        if from_event_loop:
            asyncio.run(desk.asked(lambda: done.append(1)))
        else:
            desk.ask(lambda: done.append(1))
    assert refusal.value.status == 504
    finish.set()
    desk._limits = limits()
    desk.ask(int)  # what waited before it has had its turn
    assert not done


def test_closing_refuses_what_waits_and_what_comes(busy):
    desk, finish = busy
    found = []

    def ask():
        try:
            desk.ask(int)
        except Refused as error:
            found.append((error.status, str(error)))

    thread = threading.Thread(target=ask)
    thread.start()
    while not desk.num_waiting:
        time.sleep(0.01)
    finish.set()
    desk.close()
    ask()
    thread.join()
    # The worker may have been quicker than the closing, never slower.
    assert found and all(status == 503 for status, _ in found)
    assert "The server is stopping" in found[-1][1]


def test_while_the_network_warms_up_a_request_may_take_longer(busy):
    desk, finish = busy
    desk._limits = limits(deadline_seconds=0.05)
    desk.is_warm = False
    start = time.monotonic()
    with pytest.raises(Refused, match="not ready after 0.2 seconds"):
        desk.ask(int)
    assert time.monotonic() - start >= 0.2
    desk.is_warm = True
    with pytest.raises(Refused, match="not ready after 0.05 seconds"):
        desk.ask(int)


def test_what_nobody_waits_for_has_no_deadline():
    desk = Desk(limits(deadline_seconds=0.05))
    assert desk.ask(lambda: time.sleep(0.3) or 7, has_deadline=False) == 7
    desk.close()
